package relay

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// ErrNotReplayable says that more of a body has been sent than was kept, so it cannot be sent from its start again.
var ErrNotReplayable = errors.New("replaying the body: more of it was sent than the replay buffer holds")

// ErrNoMemory says the same, where the body would have been kept but for the other bodies that were.
var ErrNoMemory = errors.New("replaying the body: all of the memory for bodies was in use when it was sent")

// Memory bounds what is kept of all bodies together. A body for which nothing is left passes without being kept.
type Memory struct {
	limit int64
	used  atomic.Int64
}

// NewMemory makes a Memory of limit bytes.
func NewMemory(limit int64) *Memory { return &Memory{limit: limit} }

// Used tells how much is in use.
func (m *Memory) Used() int64 { return m.used.Load() }

// NewBody is NewBody, in this memory.
func (m *Memory) NewBody(src io.ReadCloser, limit int) *Body {
	b := NewBody(src, limit)
	b.memory = m
	return b
}

// reserve takes n bytes more, unless that is too much. A nil Memory has no bound.
func (m *Memory) reserve(n int, must bool) bool {
	if m == nil {
		return true
	}
	for {
		used := m.used.Load()
		if used+int64(n) > m.limit && !must {
			return false
		}
		if m.used.CompareAndSwap(used, used+int64(n)) {
			return true
		}
	}
}

func (m *Memory) giveBack(n int) {
	if m != nil {
		m.used.Add(int64(-n))
	}
}

var (
	errAttemptOver = errors.New("reading the body: a later attempt has taken over")
	errBodyClosed  = errors.New("reading the body: it was closed")
)

// Body is a request body that can be sent again as long as no more than a limit of it was sent. What an attempt reads
// is kept as it passes; nothing is read before an attempt asks for it, so that the client is never told to go faster
// than Control-M reads.
//
// http.Transport may still read the body of one attempt while the next begins: it answers as soon as there is an
// answer. Therefore every attempt has a reader of its own, and only that of the newest gets bytes. What an older one
// was just taking from the source is kept for the newest and not given to the older.
type Body struct {
	limit  int
	memory *Memory // nil for no bound

	mu       sync.Mutex
	changed  sync.Cond // reading, newest or an attempt's closed has changed
	src      io.ReadCloser
	kept     []byte // the first bytes of the body, or nil when there is nothing to keep them for
	over     bool   // more was taken than is kept: no further attempt
	starved  bool   // over, since there was no memory
	settled  bool   // the newest attempt is the last one
	closed   bool
	reading  bool  // an attempt is in src.Read, without the lock
	srcErr   error // how src ended, told to every attempt after its bytes
	newest   *attempt
	attempts int // not yet closed
}

// NewBody makes a Body of src that keeps at most limit bytes. With a limit of 0, it can be sent again only while
// nothing of it was read.
func NewBody(src io.ReadCloser, limit int) *Body {
	b := &Body{src: src, limit: limit}
	b.changed.L = &b.mu
	return b
}

// Attempt gives a reader for one try at sending the body: what was kept of it, then the rest as it streams in. From
// then on, earlier readers get an error. The error is ErrNotReplayable when it is too late for another try. Closing
// the reader does not close the source.
func (b *Body) Attempt() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errBodyClosed
	}
	if b.starved {
		return nil, ErrNoMemory
	}
	if b.over || b.settled && b.newest != nil {
		return nil, ErrNotReplayable
	}
	a := &attempt{body: b}
	b.newest = a
	b.attempts++
	b.changed.Broadcast() // an older attempt may wait for its turn to read
	return a, nil
}

// Settle says that there will be no further attempt: the newest one goes on, and what it has passed need not be kept.
func (b *Body) Settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled = true
	b.letGo()
}

// Ended tells whether the source has been read to its end, or to an error.
func (b *Body) Ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.srcErr != nil
}

// Err tells how the source ended before its end, if it did.
func (b *Body) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if errors.Is(b.srcErr, io.EOF) {
		return nil
	}
	return b.srcErr
}

// Drain reads what is left of the source and forgets it, after a read that is under way. No attempt gets anything any
// more.
func (b *Body) Drain() {
	b.mu.Lock()
	a := &attempt{body: b, at: len(b.kept)}
	b.newest, b.over, b.settled = a, true, true
	b.attempts++
	b.changed.Broadcast() // an older attempt may wait for its turn to read
	b.mu.Unlock()
	_, _ = io.Copy(io.Discard, a)
	_ = a.Close()
}

// Close closes the source and ends all attempts that still want to read from it. The memory is given back when the
// last attempt has closed as well. Like the body of a server's request, it may wait for a read that is under way.
func (b *Body) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.letGo()
	b.changed.Broadcast()
	b.mu.Unlock()
	return b.src.Close()
}

// letGo gives the kept bytes back once nobody can need them.
func (b *Body) letGo() {
	unneeded := b.closed && b.attempts == 0 ||
		(b.over || b.settled || b.closed) && b.newest != nil && b.newest.at == len(b.kept) && !b.reading
	if unneeded && b.kept != nil {
		b.memory.giveBack(cap(b.kept))
		giveBack(b.kept)
		b.kept = nil
		b.over = true
		if b.newest != nil {
			b.newest.at = 0
		}
	}
}

// keep remembers bytes just taken from src by an attempt. Past the limit it only keeps what the newest attempt still
// has to be given because an older one took it.
func (b *Body) keep(p []byte, forNewest bool) {
	if len(p) == 0 {
		return
	}
	if b.over || len(b.kept)+len(p) > b.limit {
		b.over = true
		if !forNewest {
			return
		}
	}
	if !forNewest && (b.settled || b.closed) {
		b.over = true
		return
	}
	if more := roomFor(b.kept, len(p), b.limit) - cap(b.kept); more > 0 && !b.memory.reserve(more, forNewest) {
		b.over, b.starved = true, true
		return
	}
	b.kept = appendPooled(b.kept, p, b.limit)
}

// attempt is the reader of one try.
type attempt struct {
	body   *Body
	at     int // how much of body.kept it was given
	closed bool
}

// Read gives kept bytes first and then reads from the source, straight into p.
func (a *attempt) Read(p []byte) (int, error) {
	b := a.body
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if a.closed {
			return 0, errBodyClosed
		}
		if a != b.newest {
			return 0, errAttemptOver
		}
		if a.at < len(b.kept) {
			n := copy(p, b.kept[a.at:])
			a.at += n
			b.letGo()
			return n, nil
		}
		if b.closed {
			return 0, errBodyClosed
		}
		if b.srcErr != nil {
			return 0, b.srcErr
		}
		if len(p) == 0 {
			return 0, nil
		}
		if !b.reading {
			return a.readSource(p)
		}
		b.changed.Wait()
	}
}

// readSource is called with the lock, which it lets go while it reads.
func (a *attempt) readSource(p []byte) (n int, err error) {
	b := a.body
	b.reading = true
	b.mu.Unlock()
	defer func() { // also when src panics: nobody must wait for ever
		b.reading = false
		b.changed.Broadcast()
		b.letGo()
	}()
	func() {
		defer b.mu.Lock()
		n, err = b.src.Read(p)
	}()
	if err != nil {
		b.srcErr = err
	}
	mine := a == b.newest
	b.keep(p[:n], !mine)
	if !mine {
		return 0, errAttemptOver
	}
	a.at = len(b.kept)
	return n, err
}

// Close says that this attempt reads no more. It does not wait for a read that is under way.
func (a *attempt) Close() error {
	b := a.body
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	b.attempts--
	b.changed.Broadcast()
	b.letGo()
	return nil
}

// Kept bytes start with firstKept of room, which holds nearly every JSON request and is pooled, and double.
const firstKept = 4 << 10

var keptPool = sync.Pool{New: func() any { return new([firstKept]byte) }}

// roomFor is the capacity that kept has after n bytes more: limit at most, or more only if what has to be kept is more.
func roomFor(kept []byte, n, limit int) int {
	need := len(kept) + n
	if need <= cap(kept) {
		return cap(kept)
	}
	room := max(firstKept, 2*cap(kept))
	for room < need {
		room *= 2
	}
	if room == firstKept {
		return room // from the pool, whatever the limit
	}
	return max(min(room, limit), need)
}

func appendPooled(kept, p []byte, limit int) []byte {
	room := roomFor(kept, len(p), limit)
	if room == cap(kept) {
		return append(kept, p...)
	}
	if room == firstKept {
		return append(keptPool.Get().(*[firstKept]byte)[:0], p...)
	}
	grown := append(make([]byte, 0, room), kept...)
	giveBack(kept)
	return append(grown, p...)
}

func giveBack(kept []byte) {
	if cap(kept) == firstKept {
		keptPool.Put((*[firstKept]byte)(kept[:firstKept]))
	}
}
