package endpoint

import (
	"testing"
	"time"
)

// A call's answer may take it back, and the next call's failure leave it aside, while the prober pauses.
func TestAnEndpointThatRelapsesBetweenTwoProbesBeginsAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, 2)
		r.Report(0, Unreachable) // answers probes from 1 s on
		pass(9 * time.Second)
		r.Report(1, Unreachable)
		r.Report(0, Answered)    // nothing better: used again at once
		r.Report(0, Unreachable) // and relapses: 20 s of answers are needed
		relapse := time.Now()
		r.Report(1, Answered) // now there is something better
		r.want(t, 1, 0)
		r.awaitUp(t, 0)
		if took := time.Since(relapse); took < 2*steadyFirst {
			t.Errorf("used again %v after its relapse, want %v of answers", took, 2*steadyFirst)
		}
	})
}
