package relay

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

// text is n bytes, no two parts of which are alike.
func text(n int) string {
	random := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	p := make([]byte, n)
	_, _ = random.Read(p)
	return string(p)
}

func bodyOf(m *Memory, content string, limit int) *Body {
	return m.NewBody(io.NopCloser(strings.NewReader(content)), limit)
}

// wantAll fails unless the attempt gives all of content.
func wantAll(t *testing.T, a io.Reader, content string) {
	t.Helper()
	if got, err := io.ReadAll(a); err != nil || string(got) != content {
		t.Fatalf("got %d bytes, %v; want the %d of the body", len(got), err, len(content))
	}
}

func wantUsed(t *testing.T, m *Memory, want int64) {
	t.Helper()
	if got := m.Used(); got != want {
		t.Fatalf("%d bytes of memory are in use, want %d", got, want)
	}
}

func closeAll(closers ...io.Closer) {
	for _, c := range closers {
		_ = c.Close()
	}
}

func TestMemoryIsTakenWhileThereIsSomeAndGivenBack(t *testing.T) {
	const fit = 10
	m := NewMemory(fit*firstKept + firstKept/2)
	var bodies []*Body
	var attempts []io.Closer
	read := func() error {
		b := bodyOf(m, text(100), 1<<20)
		a := attemptOf(t, b)
		wantAll(t, a, text(100))
		bodies, attempts = append(bodies, b), append(attempts, a)
		again, err := b.Attempt()
		if err == nil {
			attempts = append(attempts, again)
		}
		return err
	}
	for i := range fit {
		if err := read(); err != nil {
			t.Fatalf("body %d: %v", i+1, err)
		}
		wantUsed(t, m, int64(i+1)*firstKept)
	}
	if err := read(); !errors.Is(err, ErrNoMemory) {
		t.Fatalf("one body more: %v, want %v", err, ErrNoMemory)
	}
	wantUsed(t, m, fit*firstKept)
	closeAll(attempts...)
	closeAll(bodies[3])
	wantUsed(t, m, (fit-1)*firstKept)
	if err := read(); err != nil {
		t.Fatalf("a body in the place of another: %v", err)
	}
	if _, err := bodies[fit].Attempt(); !errors.Is(err, ErrNoMemory) {
		t.Errorf("the body that was not kept: %v, want %v for good", err, ErrNoMemory)
	}
	closeAll(attempts...)
	for _, b := range bodies {
		closeAll(b)
	}
	wantUsed(t, m, 0)
}

func TestABodyThatIsNotKeptPassesUnharmed(t *testing.T) {
	for name, row := range map[string]struct {
		limit int64
		size  int
	}{
		"nothing is left from the start":    {0, 100_000},
		"nothing is left for one byte":      {firstKept - 1, 1},
		"all is in use after some of it":    {40_000, 100_000},
		"all is in use before the last bit": {131_071, 65_537},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMemory(row.limit)
			for _, wrap := range []func(io.Reader) io.Reader{
				func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader,
			} {
				b := m.NewBody(io.NopCloser(wrap(strings.NewReader(text(row.size)))), 1<<20)
				a := attemptOf(t, b)
				wantAll(t, a, text(row.size))
				wantUsed(t, m, 0) // what it had goes to others at once
				if _, err := b.Attempt(); !errors.Is(err, ErrNoMemory) || errors.Is(err, ErrNotReplayable) {
					t.Errorf("another attempt: %v, want %v", err, ErrNoMemory)
				}
				closeAll(a, b)
				wantUsed(t, m, 0)
			}
		})
	}
}

// TestAReplayThatMeetsTheBoundPassesUnharmed: what the first attempt read is
// kept, and the memory runs out under the second.
func TestAReplayThatMeetsTheBoundPassesUnharmed(t *testing.T) {
	m := NewMemory(2 * firstKept)
	content := text(50_000)
	b := bodyOf(m, content, 1<<20)
	first := attemptOf(t, b)
	if _, err := io.CopyN(io.Discard, first, 3000); err != nil {
		t.Fatal(err)
	}
	other := bodyOf(m, "other", 1<<20)
	kept := attemptOf(t, other)
	wantAll(t, kept, "other")
	wantUsed(t, m, 2*firstKept)
	second := attemptOf(t, b)
	wantAll(t, second, content)
	wantUsed(t, m, firstKept)
	if _, err := b.Attempt(); !errors.Is(err, ErrNoMemory) {
		t.Errorf("a third attempt: %v, want %v", err, ErrNoMemory)
	}
	again := attemptOf(t, other)
	wantAll(t, again, "other")
	closeAll(b, first, second, kept, again, other)
	wantUsed(t, m, 0)
}

func TestWhyABodyCannotBeSentAgain(t *testing.T) {
	const plenty = 1 << 30
	for name, row := range map[string]struct {
		memory      int64
		size, limit int
		want        error
	}{
		"it was kept":                                    {plenty, 9, 10, nil},
		"longer than its own limit":                      {plenty, 11, 10, ErrNotReplayable},
		"longer than its own limit, without memory":      {0, 11, 10, ErrNotReplayable},
		"within its own limit, without memory":           {0, 10, 10, ErrNoMemory},
		"nothing may be kept of it":                      {plenty, 1, 0, ErrNotReplayable},
		"nothing may be kept of it, and nothing is left": {0, 1, 0, ErrNotReplayable},
		"it is empty, without memory":                    {0, 0, 10, nil},
		"larger than its own limit, after a while":       {plenty, 300_000, 200_000, ErrNotReplayable},
		"its own limit is met before the memory's":       {250_000, 300_000, 200_000, ErrNotReplayable},
		"the memory's bound is met before its own":       {100_000, 300_000, 200_000, ErrNoMemory},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMemory(row.memory)
			b := bodyOf(m, text(row.size), row.limit)
			first := attemptOf(t, b)
			wantAll(t, first, text(row.size))
			second, err := b.Attempt()
			if !errors.Is(err, row.want) {
				t.Errorf("got error %v, want %v", err, row.want)
			}
			if err == nil {
				wantAll(t, second, text(row.size))
				closeAll(second)
			} else {
				wantUsed(t, m, 0) // nobody can need it
			}
			closeAll(first, b)
			wantUsed(t, m, 0)
		})
	}
}

// TestBodiesTogetherKeepNoMoreThanTheMemoryHolds has them all come at once.
func TestBodiesTogetherKeepNoMoreThanTheMemoryHolds(t *testing.T) {
	const limit = 1 << 20
	m := NewMemory(limit)
	bodies := make([]*Body, 64)
	var readers sync.WaitGroup
	for i := range bodies {
		content := text(20_000 + 1000*i)
		bodies[i] = m.NewBody(io.NopCloser(iotest.HalfReader(strings.NewReader(content))), limit)
		a := attemptOf(t, bodies[i])
		readers.Go(func() {
			if got, err := io.ReadAll(a); err != nil || string(got) != content {
				t.Errorf("body %d: %d bytes, %v", i, len(got), err)
			}
			_ = a.Close()
		})
	}
	readers.Wait()
	held, kept := 0, 0
	for i, b := range bodies {
		held += cap(b.kept)
		a, err := b.Attempt()
		if err == nil {
			kept++
			wantAll(t, a, text(20_000+1000*i))
			closeAll(a)
		} else if !errors.Is(err, ErrNoMemory) {
			t.Errorf("body %d: %v", i, err)
		}
	}
	if held > limit || int64(held) != m.Used() {
		t.Errorf("%d bytes are kept and %d accounted for, of %d", held, m.Used(), limit)
	}
	if kept == 0 || kept == len(bodies) {
		t.Errorf("%d of %d bodies were kept", kept, len(bodies))
	}
	for _, b := range bodies {
		closeAll(b)
	}
	wantUsed(t, m, 0)
}

func TestMemoryIsBackAsSoonAsNobodyCanNeedIt(t *testing.T) {
	const size, half, rest = 3000, 1500, firstKept
	for name, row := range map[string]struct {
		replayed int // bytes by the second attempt, when
		end      func(*Body)
		left     int64 // in use then
	}{
		"settled when the last attempt has passed all that was kept": {half, (*Body).Settle, 0},
		"settled when it has yet to pass some":                       {half - 1, (*Body).Settle, rest},
		"drained before it has passed anything":                      {0, (*Body).Drain, 0},
		"drained at the end":                                         {size, (*Body).Drain, 0},
		"not settled":                                                {size, func(*Body) {}, rest},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMemory(firstKept)
			b := bodyOf(m, text(size), size)
			first := attemptOf(t, b)
			_, _ = io.CopyN(io.Discard, first, half)
			second := attemptOf(t, b)
			if _, err := io.ReadFull(second, make([]byte, row.replayed)); err != nil {
				t.Fatal(err)
			}
			row.end(b)
			wantUsed(t, m, row.left)
			if row.replayed < half && row.left > 0 {
				_, _ = second.Read(make([]byte, 1)) // the last byte that was kept
				wantUsed(t, m, 0)
			}
			closeAll(first, second, b)
			wantUsed(t, m, 0)
		})
	}
}

// inEveryOrder calls f with each order of 0 to n-1.
func inEveryOrder(n int, f func([]int), begun ...int) {
	if len(begun) == n {
		f(begun)
	}
	for i := range n {
		if !slices.Contains(begun, i) {
			inEveryOrder(n, f, append(slices.Clone(begun), i)...)
		}
	}
}

// TestAllMemoryIsBackInWhateverOrderThingsEnd: two attempts that have read
// nothing, some or all, and every order in which they and the body are closed,
// with nothing else, with Settle, or with Settle and Drain somewhere between.
func TestAllMemoryIsBackInWhateverOrderThingsEnd(t *testing.T) {
	content := text(10_000)
	end := func(memory int64, limit, firstTook, secondTook int, order []int) {
		m := NewMemory(memory)
		b := bodyOf(m, content, limit)
		first := attemptOf(t, b)
		_, _ = io.CopyN(io.Discard, first, int64(firstTook))
		second, err := b.Attempt()
		if err == nil {
			_, _ = io.CopyN(io.Discard, second, int64(secondTook))
		} else {
			second = first
		}
		ends := []func(){
			func() { _ = first.Close() }, func() { _ = second.Close() }, func() { _ = b.Close() }, b.Settle, b.Drain,
		}
		for _, i := range order {
			ends[i]()
			if used := m.Used(); used > memory || used != int64(cap(b.kept)) {
				t.Fatalf("%d bytes are in use and %d kept, of %d", used, cap(b.kept), memory)
			}
		}
		if m.Used() != 0 {
			t.Errorf("%d bytes are not given back: memory %d, limit %d, read %d and %d, ended in order %v",
				m.Used(), memory, limit, firstTook, secondTook, order)
		}
	}
	shares := []int{0, 1, 5000, 10_000}
	for _, memory := range []int64{1 << 20, firstKept, 0} {
		for _, limit := range []int{1 << 20, 6000, 0} {
			for i := range len(shares) * len(shares) {
				for n := 3; n <= 5; n++ {
					inEveryOrder(n, func(order []int) {
						end(memory, limit, shares[i/len(shares)], shares[i%len(shares)], order)
					})
				}
			}
		}
	}
}

// TestMemoryIsBackAfterAReadThatOutlivesItsBody: what an old attempt was just
// taking belongs to the newest, even where there is no memory for it; and it
// is given back when nobody is left to take it.
func TestMemoryIsBackAfterAReadThatOutlivesItsBody(t *testing.T) {
	for name, row := range map[string]struct {
		memory int64
		read   bool // by the second attempt, before all is closed
	}{
		"and is read, with memory":                        {1 << 20, true},
		"and is read, without memory":                     {0, true},
		"and is wanted by nobody":                         {1 << 20, false},
		"and is wanted by nobody, and there is no memory": {0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := NewMemory(row.memory)
				client, src := io.Pipe()
				b := m.NewBody(io.NopCloser(client), 1<<20)
				first := attemptOf(t, b)
				go io.Copy(io.Discard, first) //nolint:errcheck // it ends when the second attempt takes over
				synctest.Wait()               // now the first attempt waits in the source
				second := attemptOf(t, b)
				if !row.read {
					closeAll(first, second, b)
				}
				write(t, src, "abc")
				synctest.Wait()
				if row.read {
					p := make([]byte, 10)
					if n, err := second.Read(p); string(p[:n]) != "abc" || err != nil {
						t.Errorf("the second attempt got %q, %v", p[:n], err)
					}
					closeAll(b, second, first)
				}
				wantUsed(t, m, 0)
				closeAll(src)
			})
		})
	}
}

// TestManyBodiesThatBreakOffLeaveNothingBehind has attempts replaced, bodies
// closed, settled and drained while they are being read.
func TestManyBodiesThatBreakOffLeaveNothingBehind(t *testing.T) {
	m := NewMemory(256 << 10)
	var calls sync.WaitGroup
	for i := range 200 {
		calls.Go(func() {
			client, src := io.Pipe()
			b := m.NewBody(client, 64<<10)
			var parts sync.WaitGroup
			parts.Go(func() {
				for range 20 {
					if _, err := src.Write(make([]byte, 1+rand.N(8000))); err != nil {
						break
					}
				}
				_ = src.CloseWithError(fmt.Errorf("client %d went away", i))
			})
			for range 3 {
				a, err := b.Attempt()
				if err != nil {
					break
				}
				parts.Go(func() {
					_, _ = io.CopyN(io.Discard, a, int64(rand.N(60_000)))
					_ = a.Close()
				})
			}
			switch i % 3 {
			case 0:
				b.Drain()
			case 1:
				b.Settle()
			}
			_ = b.Close()
			_ = client.Close()
			parts.Wait()
		})
	}
	calls.Wait()
	wantUsed(t, m, 0)
}
