package endpoint

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var errSilent = errors.New("no answer")

// rig is a set whose endpoints answer probes as a test wants.
type rig struct {
	*Set
	mu     sync.Mutex
	silent [Most]bool
	hang   bool          // probes end when they must, and
	linger time.Duration // so long afterwards
	probes [Most][]probed
	events []Event
	at     []time.Time // of the events
}

type probed struct {
	at   time.Time
	good bool
}

// newRig makes a set of count endpoints, all of which answer probes. It is
// closed at the end of the test, which fails if a goroutine is left.
func newRig(t *testing.T, count int) *rig {
	t.Helper()
	r := &rig{}
	r.Set = New(Config{Count: count, Probe: r.ask, Observe: func(e Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events, r.at = append(r.events, e), append(r.at, time.Now())
	}})
	t.Cleanup(r.Close)
	return r
}

func (r *rig) ask(ctx context.Context, i int) error {
	r.mu.Lock()
	good, hang := !r.silent[i], r.hang
	r.probes[i] = append(r.probes[i], probed{time.Now(), good && !hang})
	r.mu.Unlock()
	if hang {
		<-ctx.Done()
		<-time.After(r.linger)
		return ctx.Err()
	}
	if !good {
		return errSilent
	}
	return nil
}

// silence makes endpoint i answer no probe, or answer again.
func (r *rig) silence(i int, silent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent[i] = silent
}

func (r *rig) probesOf(i int) []probed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.probes[i])
}

// said returns the events since the last call.
func (r *rig) said() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events, r.at = nil, nil
	return events
}

// want fails unless endpoint current is in use and exactly those given are
// left aside.
func (r *rig) want(t *testing.T, current int, aside ...int) {
	t.Helper()
	if got := r.Current(); got != current {
		t.Fatalf("endpoint %d is in use, want %d", got, current)
	}
	for i := range r.Count {
		if got := r.IsAside(i); got != slices.Contains(aside, i) {
			t.Fatalf("endpoint %d is left aside: %v, want %v", i, got, aside)
		}
	}
}

func (r *rig) reports(i int, outcomes ...Outcome) {
	for _, o := range outcomes {
		r.Report(i, o)
	}
}

// awaitUp waits until endpoint i is used again.
func (r *rig) awaitUp(t *testing.T, i int) {
	t.Helper()
	start := time.Now()
	for r.IsAside(i) {
		if time.Since(start) > time.Hour {
			t.Fatalf("endpoint %d is not used again within an hour", i)
		}
		pass(100 * time.Millisecond)
	}
}

// pass lets d go by, and everything happen that happens within it.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func TestTheFirstEndpointIsUsedWhileItAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 3)
		for range 1000 {
			r.reports(0, Answered, Troubled, Answered)
			r.reports(1, Answered)
			pass(time.Second)
			r.want(t, 0)
		}
		if len(r.said()) != 0 || len(r.probesOf(0))+len(r.probesOf(1))+len(r.probesOf(2)) != 0 {
			t.Error("good endpoints were probed or talked about")
		}
	})
}

func TestWhatLeavesAnEndpointAside(t *testing.T) {
	for name, row := range map[string]struct {
		met   []Outcome
		aside bool
	}{
		"answers":                                 {[]Outcome{Answered, Answered}, false},
		"no connection, at once":                  {[]Outcome{Unreachable}, true},
		"no connection, after answers":            {[]Outcome{Answered, Answered, Unreachable}, true},
		"two troubles":                            {[]Outcome{Troubled, Troubled}, false},
		"three troubles in a row":                 {[]Outcome{Troubled, Troubled, Troubled}, true},
		"two troubles, an answer, and two again":  {[]Outcome{Troubled, Troubled, Answered, Troubled, Troubled}, false},
		"an answer, and three troubles after it":  {[]Outcome{Troubled, Answered, Troubled, Troubled, Troubled}, true},
		"two troubles, an answer, three troubles": {[]Outcome{Troubled, Troubled, Answered, Troubled, Troubled, Troubled}, true},
		"one trouble and no connection":           {[]Outcome{Troubled, Unreachable}, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, 2)
				r.reports(0, row.met...)
				if row.aside {
					r.want(t, 1, 0)
				} else {
					r.want(t, 0)
				}
			})
		})
	}
}

func TestTroublesAreCountedForEachEndpoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 3)
		for i := range 3 {
			r.reports(i, Troubled, Troubled)
		}
		r.reports(1, Answered)
		r.want(t, 0)
		r.reports(2, Troubled)
		r.want(t, 0, 2)
		r.reports(0, Troubled)
		r.want(t, 1, 0, 2)
	})
}

func TestTroublesAreForgottenWhenTheEndpointIsUsedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 2)
		r.reports(0, Troubled, Troubled, Troubled, Troubled)
		r.awaitUp(t, 0)
		r.reports(0, Troubled, Troubled)
		r.want(t, 0)
	})
}

func TestTheBestGoodEndpointIsInUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 3)
		for i := range 3 {
			r.silence(i, true)
		}
		r.reports(1, Unreachable) // which is not in use
		r.want(t, 0, 1)
		r.reports(0, Unreachable)
		r.want(t, 2, 0, 1)
		r.silence(1, false)
		r.awaitUp(t, 1)
		r.want(t, 1, 0)
		r.silence(0, false)
		r.awaitUp(t, 0)
		r.want(t, 0)
		want := []Event{{Index: 1}, {Index: 0, Current: 2}, {Index: 1, Up: true, Current: 1}, {Index: 0, Up: true}}
		if got := r.said(); !slices.Equal(got, want) {
			t.Errorf("heard %+v, want %+v", got, want)
		}
	})
}

func TestEachChangeIsToldOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 2)
		r.silence(0, true)
		r.silence(1, true)
		for range 10 {
			r.reports(0, Unreachable, Troubled, Troubled, Troubled)
		}
		r.reports(1, Unreachable, Unreachable) // and the last one stays in use
		r.want(t, 1, 0, 1)
		r.reports(0, Answered, Answered)
		r.reports(1, Answered, Answered) // a call that was under way: there is something better
		r.want(t, 0, 1)
		want := []Event{{Index: 0, Current: 1}, {Index: 1, Current: 1}, {Index: 0, Up: true}}
		if got := r.said(); !slices.Equal(got, want) {
			t.Errorf("heard %+v, want %+v", got, want)
		}
	})
}

// call has a call try one endpoint after the other, and returns which it tried.
func (r *rig) call(try func(i int)) (order []int) {
	var tried Tried
	for i, ok := r.Next(&tried); ok && len(order) <= Most; i, ok = r.Next(&tried) {
		order = append(order, i)
		try(i)
	}
	return order
}

func TestWhereACallGoes(t *testing.T) {
	for name, row := range map[string]struct {
		aside []int
		want  []int
	}{
		"all are good":                         {nil, []int{0, 1, 2, 3}},
		"the first is left aside: it is last":  {[]int{0}, []int{1, 2, 3, 0}},
		"those left aside come last, in order": {[]int{2, 0}, []int{1, 3, 0, 2}},
		"one that is not in use is left aside": {[]int{1}, []int{0, 2, 3, 1}},
		"all are left aside, the last one too": {[]int{0, 1, 2, 3}, []int{3, 0, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, 4)
				for _, i := range row.aside {
					r.Report(i, Unreachable)
				}
				if got := r.call(func(int) {}); !slices.Equal(got, row.want) {
					t.Errorf("tries %v, want %v", got, row.want)
				}
			})
		})
	}
}

func TestACallThatMovesWhileEndpointsChangeTriesEachOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 3)
		var tried Tried
		next := func(want int) {
			t.Helper()
			if i, ok := r.Next(&tried); !ok || i != want {
				t.Fatalf("goes to %d, %v; want %d", i, ok, want)
			}
		}
		next(0)
		r.Report(0, Unreachable)
		next(1)
		r.awaitUp(t, 0) // a slow call
		r.Report(1, Unreachable)
		r.want(t, 0, 1)
		next(2)
		if i, ok := r.Next(&tried); ok {
			t.Errorf("tries %d once more", i)
		}
	})
}

func TestOneEndpointIsNeverLeftAsideNorProbed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 1)
		stop := r.OnMove(func() { t.Error("it moved") })
		defer stop()
		for range 10 {
			r.reports(0, Unreachable, Troubled, Troubled, Troubled, Troubled, Answered)
			pass(time.Minute)
			r.want(t, 0)
		}
		if len(r.probesOf(0)) != 0 || len(r.said()) != 0 {
			t.Error("the only endpoint was probed or talked about")
		}
		if got := r.call(func(int) {}); !slices.Equal(got, []int{0}) {
			t.Errorf("a call tries %v", got)
		}
	})
}

func TestAMoveIsToldUntilStopped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 3)
		var first, second int
		stopFirst, stopSecond := r.OnMove(func() { first++ }), r.OnMove(func() { second++ })
		want := func(wantFirst, wantSecond int) {
			t.Helper()
			if first != wantFirst || second != wantSecond {
				t.Fatalf("told %d and %d times, want %d and %d", first, second, wantFirst, wantSecond)
			}
		}
		r.Report(2, Unreachable) // moves nothing
		want(0, 0)
		r.Report(0, Unreachable)
		want(1, 1)
		stopFirst()
		stopFirst()
		r.awaitUp(t, 0)
		want(1, 2)
		stopSecond()
		r.Report(0, Unreachable)
		want(1, 2)
	})
}
