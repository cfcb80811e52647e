package endpoint

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// steadyFor waits until endpoint i is used again, and fails unless that is at
// the first probe by which it has answered for want.
func (r *rig) steadyFor(t *testing.T, i int, want time.Duration) {
	t.Helper()
	from := len(r.probesOf(i))
	r.awaitUp(t, i)
	r.mu.Lock()
	up := r.at[len(r.at)-1]
	r.mu.Unlock()
	probes := r.probesOf(i)[from:]
	first := 0 // of the good ones at the end
	for n, p := range probes {
		if !p.good {
			first = n + 1
		}
	}
	if first == len(probes) {
		t.Fatal("used again without a good probe")
	}
	got := up.Sub(probes[first].at)
	if got < want || got > want+probeGood*5/4 {
		t.Errorf("used again after %v of answers, want %v and at most one probe's time more", got, want)
	}
}

func TestAnEndpointIsUsedAgainOnceItHasAnsweredForAWhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 2)
		r.Report(0, Unreachable)
		r.steadyFor(t, 0, steadyFirst)
		r.want(t, 0)
		n := len(r.probesOf(0))
		pass(time.Hour)
		if len(r.probesOf(0)) != n {
			t.Error("it was probed on")
		}
	})
}

func TestASilentEndpointIsProbedEverMoreSeldom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 2)
		r.silence(0, true)
		last := time.Now()
		r.Report(0, Unreachable)
		pass(24 * time.Hour)
		probes := r.probesOf(0)
		if len(probes) < 24*3600/19 || len(probes) > 24*3600/15+4 {
			t.Errorf("%d probes in a day, want one in 15 s or somewhat more", len(probes))
		}
		varied := make(map[time.Duration]bool)
		for n, p := range probes {
			want := probeLast
			if n < 4 {
				want = time.Second << n
			}
			if gap := p.at.Sub(last); gap < want || gap >= want*5/4 {
				t.Fatalf("probe %d came after %v, want %v and up to a quarter more", n+1, gap, want)
			}
			varied[p.at.Sub(last)] = true
			last = p.at
		}
		if len(varied) < len(probes)/2 {
			t.Errorf("%d gaps between %d probes, want jitter", len(varied), len(probes))
		}
		r.want(t, 1, 0)
		r.silence(0, false)
		r.steadyFor(t, 0, steadyFirst)
	})
}

func TestOneFailedProbeStartsTheWaitAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 2)
		r.Report(0, Unreachable)
		for range 5 {
			pass(9 * time.Second) // less than it needs
			r.silence(0, true)
			n := len(r.probesOf(0))
			for range 40 { // at the next probe
				if pass(100 * time.Millisecond); len(r.probesOf(0)) > n {
					break
				}
			}
			r.silence(0, false)
			r.want(t, 1, 0)
		}
		r.steadyFor(t, 0, steadyFirst)
	})
}

func TestAnEndpointThatComesAndGoesIsUsedAgainLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 2)
		const s = time.Second
		for _, want := range []time.Duration{10 * s, 20 * s, 40 * s, 80 * s, 160 * s, 300 * s, 300 * s} {
			r.Report(0, Unreachable)
			r.steadyFor(t, 0, want)
			pass(relapseMemory - time.Second)
		}
		pass(time.Second)
		for _, want := range []time.Duration{10 * s, 20 * s} { // what was long ago is forgotten
			r.Report(0, Unreachable)
			r.steadyFor(t, 0, want)
		}
		r.Report(1, Unreachable) // it has no part in that
		r.steadyFor(t, 1, 10*s)
	})
}

func TestWithNothingBetterOneGoodProbeIsEnough(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 2)
		for i := range 2 {
			r.silence(i, true)
			r.Report(i, Unreachable)
		}
		pass(time.Minute)
		r.want(t, 1, 0, 1)
		r.silence(0, false)
		r.steadyFor(t, 0, 0)
		r.want(t, 0, 1)
		r.silence(1, false)
		r.steadyFor(t, 1, steadyFirst) // now there is something better
		r.silence(0, true)
		r.Report(0, Unreachable)
		for range 3 { // however often it has relapsed
			r.Report(1, Unreachable)
			r.steadyFor(t, 1, 0)
			r.want(t, 1, 0)
		}
	})
}

func TestWithNothingBetterTheAnswerToACallIsEnough(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 2)
		for i := range 2 {
			r.silence(i, true)
			r.Report(i, Unreachable)
		}
		r.Report(0, Troubled)
		r.want(t, 1, 0, 1)
		r.Report(0, Answered)
		r.want(t, 0, 1)
		r.Report(1, Answered) // of a call that was under way
		r.want(t, 0, 1)
		pass(2 * time.Second)
		n := len(r.probesOf(0))
		pass(time.Hour)
		if len(r.probesOf(0)) != n {
			t.Error("an endpoint in use is probed on")
		}
		r.want(t, 0, 1)
	})
}

func TestAnEndpointThatFlapsHasOneProber(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 2)
		for i := range 2 {
			r.silence(i, true)
			r.Report(i, Unreachable)
		}
		for range 600 {
			r.Report(0, Answered)
			r.Report(0, Unreachable)
			pass(100 * time.Millisecond)
		}
		probes := r.probesOf(0)
		for n := 1; n < len(probes); n++ {
			if gap := probes[n].at.Sub(probes[n-1].at); gap < probeFirst {
				t.Fatalf("probed again after %v", gap)
			}
		}
		if len(probes) == 0 {
			t.Error("not probed at all")
		}
	})
}

func TestAHangingProbeEndsAndCountsAsNoAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 2)
		r.hang = true
		r.Report(0, Unreachable)
		pass(time.Minute)
		probes := r.probesOf(0)
		if len(probes) < 3 || len(probes) > 5 {
			t.Errorf("%d probes in a minute, want 4 or so that hang for 5 s each", len(probes))
		}
		for n := 1; n < len(probes); n++ {
			pause := min(time.Second<<n, probeLast)
			if gap := probes[n].at.Sub(probes[n-1].at) - probeTime; gap < pause || gap > pause*5/4 {
				t.Errorf("probe %d began %v after the end of the one before it, want %v and some jitter", n+1, gap, pause)
			}
		}
		r.want(t, 1, 0)
	})
}

func TestCloseEndsEverythingAndWaitsForIt(t *testing.T) {
	for name, row := range map[string]struct {
		aside  []int
		probes int           // that hang
		linger time.Duration // after they were told to end
	}{
		"with nothing under way":       {nil, 0, 0},
		"before the first probe":       {[]int{0, 2}, 0, 0},
		"in a probe that hangs":        {[]int{0}, 1, 0},
		"in each endpoint's probe":     {[]int{2, 0, 1}, 1, 0},
		"in a probe that takes a time": {[]int{0}, 1, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, 3)
				r.hang, r.linger = true, row.linger
				for _, i := range row.aside {
					r.Report(i, Unreachable)
				}
				if row.probes > 0 {
					pass(2 * time.Second)
				}
				for _, i := range row.aside {
					if n := len(r.probesOf(i)); n != row.probes {
						t.Fatalf("%d probes of %d, want %d", n, i, row.probes)
					}
				}
				start := time.Now()
				var wg sync.WaitGroup
				for range 2 {
					wg.Go(r.Close)
				}
				wg.Wait()
				if took := time.Since(start); took != row.linger {
					t.Errorf("took %v, want %v", took, row.linger)
				}
				r.said()
				current, probes := r.Current(), len(r.probesOf(0))
				for i := range 3 {
					r.reports(i, Unreachable, Answered)
				}
				pass(time.Hour)
				if len(r.said()) != 0 || len(r.probesOf(0)) != probes || r.Current() != current {
					t.Error("a closed set goes on choosing")
				}
			})
		})
	}
}

// TestEverybodyAtOnce lets calls, moves and probes meet. What is heard then
// must tell, event by event, which endpoints are aside and which is in use.
func TestEverybodyAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const count = 4
		r := newRig(t, count)
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 300 {
					order := r.call(func(i int) {
						r.Report(i, []Outcome{Answered, Answered, Troubled, Unreachable}[rand.N(4)])
					})
					if slices.Sort(order); !slices.Equal(order, []int{0, 1, 2, 3}) {
						t.Errorf("a call tried %v", order)
					}
					stop := r.OnMove(func() {})
					r.silence(rand.N(count), rand.N(2) == 0)
					<-time.After(rand.N(2 * time.Second))
					stop()
				}
			})
		}
		wg.Wait()
		for i := range count {
			r.silence(i, false)
		}
		pass(time.Hour)
		r.want(t, 0)
		events := r.said()
		if len(events) < 100 {
			t.Errorf("only %d events", len(events))
		}
		var aside [count]bool
		current := 0
		for n, e := range events {
			if aside[e.Index] != e.Up {
				t.Fatalf("event %d: %+v, but it was so before", n, e)
			}
			aside[e.Index] = !e.Up
			if good := slices.Index(aside[:], false); good >= 0 {
				current = good
			}
			if e.Current != current {
				t.Fatalf("event %d: %+v, want %d in use", n, e, current)
			}
		}
	})
}
