package access

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestARateIsReadAsItIsWritten(t *testing.T) {
	for text, want := range map[string]struct {
		perSecond float64
		burst     int
	}{
		"20/s":                {20, 20},
		"20/s burst 40":       {20, 40},
		"20/s burst 1":        {20, 1},
		"600/m":               {10, 10},
		"600/m burst 5":       {10, 5},
		"90/m":                {1.5, 2},
		"1/m":                 {1. / 60, 1},
		"3600/h":              {1, 1},
		"7200/h burst 100":    {2, 100},
		"1/h":                 {1. / 3600, 1},
		"0.5/s":               {0.5, 1},
		"2.5/s":               {2.5, 3},
		"1000000/s":           {1e6, 1_000_000},
		"1/s burst 100000000": {1, 100_000_000},
	} {
		perSecond, burst, err := ParseRate(strings.Fields(text))
		if err != nil || perSecond != want.perSecond || burst != want.burst {
			t.Errorf("%q: %v a second, burst %d, %v; want %+v", text, perSecond, burst, err, want)
		}
	}
}

func TestWhatIsNoRateIsAnErrorThatShowsOne(t *testing.T) {
	for _, text := range []string{
		"", "20", "20/", "/s", "/", "s", "s/20", "20/d", "20/S", "20/sec", "20/s/s", "20//s", "20 /s", "20/ s", "twenty/s", "20/s burst", "20/s burst x",
		"20/s burst 0", "20/s burst -1", "20/s burst 1.5", "20/s burst 1e3", "20/s burst 99999999999999999999", "20/s 40", "20/s BURST 40", "20/s bursts 40",
		"20/s burst 40 more", "burst 40", "burst 40 20/s", "0/s", "-1/s", "-0/s", "NaN/s", "nan/m", "Inf/s", "+Inf/s", "infinity/h", "-Inf/s", "1e400/s", "1e-400/s",
		"0x10/s", "0X1p4/s", "1_000/s", "1,5/s", "20%2Fs", "20/s\x00", "20∕s", "٢٠/s",
	} {
		perSecond, burst, err := ParseRate(strings.Fields(text))
		if err == nil || perSecond != 0 || burst != 0 {
			t.Errorf("%q: %v a second, burst %d, %v; want an error", text, perSecond, burst, err)
			continue
		}
		if !strings.HasPrefix(err.Error(), "reading a rate: ") || !strings.Contains(err.Error(), "`rate 20/s` or `rate 600/m burst 40`") {
			t.Errorf("%q: the error is %v", text, err)
		}
	}
	if _, _, err := ParseRate(nil); err == nil {
		t.Error("no words at all are a rate")
	}
}

// limited is a client with these limits, as a directory has it.
func limited(t *testing.T, l Limits) *Client {
	t.Helper()
	c := &Client{Name: "nightly", Users: []string{"u"}, Rules: lines(t, "allow read_only"), Limits: l}
	if _, err := NewDirectory([]*Client{c}); err != nil {
		t.Fatal(err)
	}
	return c
}

// entered is how many of n calls in a row are let in; all end at once.
func entered(c *Client, n int) (in int) {
	for range n {
		if _, _, ok := c.Enter(); ok {
			in++
			c.Leave()
		}
	}
	return in
}

func pass(d time.Duration) { <-time.After(d) }

func TestABurstIsLetInAndThenTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := limited(t, Limits{PerSecond: 10, Burst: 3})
		if in := entered(c, 20); in != 3 {
			t.Errorf("%d calls at once, want the burst of 3", in)
		}
		for range 20 {
			pass(100 * time.Millisecond)
			if in := entered(c, 5); in != 1 {
				t.Errorf("%d calls a tenth of a second later, want 1", in)
			}
		}
		pass(time.Hour)
		if in := entered(c, 20); in != 3 {
			t.Errorf("%d calls after an hour of rest, want the burst of 3", in)
		}
	})
}

// What is refused costs nothing: a caller that waits as it was told is let in, and no earlier.
func TestTheTimeToWaitIsTrue(t *testing.T) {
	for _, l := range []Limits{{PerSecond: 20, Burst: 1}, {PerSecond: 0.5, Burst: 2}, {PerSecond: 1. / 3600, Burst: 1}, {PerSecond: 3, Burst: 7}} {
		synctest.Test(t, func(t *testing.T) {
			c := limited(t, l)
			if in := entered(c, 10_000); in != l.Burst {
				t.Fatalf("%+v: %d calls at once", l, in)
			}
			for range 5 {
				wait, why, ok := c.Enter()
				if ok || why != "rate" || wait <= 0 || wait > time.Duration(float64(time.Second)/l.PerSecond)+time.Microsecond {
					t.Fatalf("%+v: it is to wait %s, %q, %v", l, wait, why, ok)
				}
				pass(wait - time.Microsecond)
				if in := entered(c, 1); in != 0 {
					t.Errorf("%+v: let in before %s were over", l, wait)
				}
				pass(2 * time.Microsecond)
				if in := entered(c, 3); in != 1 {
					t.Errorf("%+v: after %s, %d are let in", l, wait, in)
				}
			}
		})
	}
}

// A client that hammers the gateway from many places at once must not be held below its rate, nor be told to wait
// longer than it takes.
func TestRefusalsAtTheSameTimeCostTheClientNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := limited(t, Limits{PerSecond: 1, Burst: 1})
		if in := entered(c, 2); in != 1 {
			t.Fatalf("%d calls at once", in)
		}
		const callers, calls = 8, 20_000
		var longest atomic.Int64
		var in atomic.Int64
		var group sync.WaitGroup
		for range callers {
			group.Go(func() {
				for range calls {
					wait, _, ok := c.Enter()
					if ok {
						in.Add(1)
						c.Leave()
					}
					for was := longest.Load(); int64(wait) > was && !longest.CompareAndSwap(was, int64(wait)); was = longest.Load() {
					}
				}
			})
		}
		group.Wait() // no time has passed
		if in.Load() != 0 {
			t.Errorf("%d calls were let in", in.Load())
		}
		if wait := time.Duration(longest.Load()); wait > time.Second+time.Microsecond {
			t.Errorf("a caller was told to wait %s, and a second is true", wait)
		}
		pass(time.Second)
		if in := entered(c, 3); in != 1 {
			t.Errorf("%d calls were let in after a second, want 1", in)
		}
	})
}

func TestCallsUnderWayAreBoundedAndFreedWhenTheyEnd(t *testing.T) {
	c := limited(t, Limits{Concurrent: 2})
	for range 3 {
		for i := range 2 {
			if _, _, ok := c.Enter(); !ok {
				t.Fatalf("call %d is refused", i)
			}
		}
		wait, why, ok := c.Enter()
		if ok || why != "max_concurrent" || wait < time.Second {
			t.Errorf("the third: %s, %q, %v", wait, why, ok)
		}
		c.Leave()
		if _, _, ok := c.Enter(); !ok {
			t.Error("refused after another has ended")
		}
		c.Leave()
		c.Leave()
	}
}

// What the one bound refuses must not count for the other.
func TestEachBoundCountsOnlyWhatIsLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := limited(t, Limits{PerSecond: 1, Burst: 2, Concurrent: 1})
		if _, _, ok := c.Enter(); !ok {
			t.Fatal("the first is refused")
		}
		for range 50 {
			if _, why, ok := c.Enter(); ok || why != "max_concurrent" {
				t.Fatalf("%q, %v", why, ok)
			}
		}
		c.Leave()
		if _, _, ok := c.Enter(); !ok {
			t.Error("what max_concurrent refused took from the rate")
		}
		c.Leave()
		for range 50 {
			if _, why, ok := c.Enter(); ok || why != "rate" {
				t.Fatalf("%q, %v", why, ok)
			}
		}
		pass(time.Second)
		if _, _, ok := c.Enter(); !ok {
			t.Error("what the rate refused is taken for under way")
		}
	})
}

func TestNeverMoreThanTheBoundAreUnderWay(t *testing.T) {
	const most = 5
	c := limited(t, Limits{Concurrent: most})
	var running, in, worst atomic.Int64
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 5000 {
				if _, _, ok := c.Enter(); ok {
					if n := running.Add(1); n > most {
						worst.Store(n)
					}
					in.Add(1)
					running.Add(-1)
					c.Leave()
				}
			}
		})
	}
	group.Wait()
	if worst.Load() > 0 || in.Load() == 0 {
		t.Errorf("%d at once, %d in all", worst.Load(), in.Load())
	}
	for range most {
		if _, _, ok := c.Enter(); !ok {
			t.Error("places are lost")
		}
	}
}

func TestClientsDoNotShareTheirLimits(t *testing.T) {
	a := &Client{Name: "a", Users: []string{"a"}, Rules: lines(t, "allow read_only"), Limits: Limits{PerSecond: 1. / 3600, Burst: 1, Concurrent: 1}}
	b := &Client{Name: "b", Users: []string{"b"}, Rules: lines(t, "allow read_only"), Limits: a.Limits}
	free := &Client{Name: "free", Users: []string{"free"}, Rules: lines(t, "allow read_only")}
	if _, err := NewDirectory([]*Client{a, b, free}); err != nil {
		t.Fatal(err)
	}
	if in := entered(a, 100); in != 1 {
		t.Errorf("%d calls of a", in)
	}
	if in := entered(b, 100); in != 1 {
		t.Errorf("%d calls of b", in)
	}
	if in := entered(free, 100_000); in != 100_000 {
		t.Errorf("%d calls of a client without limits", in)
	}
	for range 1000 {
		if _, _, ok := free.Enter(); !ok {
			t.Fatal("a client without limits has one of calls under way")
		}
	}
}

func TestCallsWithoutARateDoNotAllocate(t *testing.T) {
	for name, l := range map[string]Limits{"none": {}, "under max_concurrent": {Concurrent: 10}, "max_body alone": {Body: 1}} {
		c := limited(t, l)
		if n := testing.AllocsPerRun(100, func() {
			if _, _, ok := c.Enter(); ok {
				c.Leave()
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
