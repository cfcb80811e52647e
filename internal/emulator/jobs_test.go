package emulator

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// floor is an emulator in a bubble; jobs are counted from the last order on.
type floor struct {
	t    *testing.T
	e    *Emulator
	last int
}

func newFloor(t *testing.T) *floor {
	return &floor{t: t, e: New(Options{APITokens: []APIToken{{Name: "t", Value: "v", User: "emuser"}}})}
}

func (f *floor) call(method, path, body string) (int, string) {
	r := httptest.NewRequest(method, "/automation-api"+path, strings.NewReader(body))
	r.Header.Set("X-Api-Key", "v")
	w := httptest.NewRecorder()
	f.e.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func (f *floor) id(n int) string { return fmt.Sprintf("workbench:%05d", f.last+n) }

func (f *floor) order(server, folder, extra string) {
	f.t.Helper()
	f.last = f.e.plant.lastJob
	status, body := f.call("POST", "/run/order", `{"ctm":"`+server+`","folder":"`+folder+`"`+extra+`}`)
	if status != http.StatusOK {
		f.t.Fatalf("order: %d %s", status, body)
	}
}

func (f *floor) act(n int, action string, want int) {
	f.t.Helper()
	if status, body := f.call("POST", "/run/job/"+f.id(n)+"/"+action, ""); status != want {
		f.t.Errorf("%s: %d %s", action, status, body)
	}
}

func (f *floor) expect(when string, states ...string) {
	f.t.Helper()
	for i, want := range states {
		status, body := f.call("GET", "/run/job/"+f.id(i+1)+"/status", "")
		if status != http.StatusOK || !strings.Contains(body, `"status" : "`+want+`"`) {
			f.t.Errorf("%s: job %d is not %s: %s", when, i+1, want, body)
		}
	}
}

func TestJobsOfAFolderRunOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFloor(t)
		f.order("ctmprod", "MonthEnd", "") // the second of three fails
		f.expect("at once", stateWaiting, stateWaiting, stateWaiting)
		if status, body := f.call("GET", "/run/job/"+f.id(1)+"/output", ""); status != 500 || !strings.Contains(body, wordsOutput) {
			t.Errorf("output before the start: %d", status)
		}
		if _, body := f.call("GET", "/run/job/"+f.id(1)+"/status", ""); !strings.Contains(body, `"outputURI" : "Job did not run, it has no output"`) {
			t.Errorf("status before the start: %s", body)
		}
		pass(waitTime)
		f.expect("after a second", stateExecuting, stateWaiting, stateWaiting)
		pass(runTime)
		f.expect("after three", stateOK, stateWaiting, stateWaiting)
		pass(time.Hour)
		f.expect("in the end", stateOK, stateNotOK, stateWaiting)
		f.act(2, "rerun", 200)
		f.expect("after the rerun", stateOK, stateExecuting, stateWaiting)
		pass(runTime + waitTime)
		f.expect("repaired", stateOK, stateOK, stateExecuting)
		f.act(3, "kill", 200)
		f.expect("killed", stateOK, stateOK, stateNotOK)
		f.act(3, "setToOk", 200)
		f.act(3, "setToOk", 400)
		f.expect("set to OK", stateOK, stateOK, stateOK)
	})
}

func TestAHeldJobWaitsUntilItIsFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFloor(t)
		f.order("ctmtest", "SmokeTest", `,"hold":"true"`)
		pass(time.Hour)
		f.expect("held", stateWaiting)
		f.act(1, "hold", 400)
		f.act(1, "free", 200)
		f.act(1, "free", 400)
		f.expect("freed", stateExecuting)
		f.act(1, "delete", 400)
		pass(runTime)
		f.act(1, "delete", 200)
		f.act(1, "undelete", 200)
		f.act(1, "undelete", 400)
	})
}

func TestAJobWaitsForItsConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFloor(t)
		f.order("ctmtest", "NeedsConfirmation", "")
		pass(time.Hour)
		f.expect("not confirmed", stateUser)
		f.act(1, "confirm", 200)
		f.act(1, "confirm", 400)
		f.expect("confirmed", stateExecuting)
	})
}

func TestAJobThatIsToRunNowDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFloor(t)
		f.order("ctmtest", "SmokeTest", "")
		f.act(1, "runNow", 200)
		f.expect("run now", stateExecuting)
		f.act(1, "runNow", 400)
	})
}

func TestOldJobsAndRunsAreForgotten(t *testing.T) {
	now := time.Now()
	p := newPlant(now)
	f := p.find("ctmprod", "NightlyBilling")
	for range maxRuns + maxRuns/10 {
		p.order(p.newRun(), f, "", false, now)
	}
	if len(p.jobs) > maxJobs || len(p.byID) != len(p.jobs) || len(p.runOrder) > maxRuns || len(p.runs) > maxRuns {
		t.Errorf("%d jobs, %d by ID, %d runs, %d by ID", len(p.jobs), len(p.byID), len(p.runOrder), len(p.runs))
	}
}

func TestPatternsMatch(t *testing.T) {
	for in, want := range map[[2]string]bool{
		{"", "anything"}: true, {"*", "x"}: true, {"*", ""}: true, {"a*c", "abbc"}: true, {"a*c", "abb"}: false,
		{"a?c", "abc"}: true, {"a?c", "ac"}: false, {"abc", "ABC"}: false, {"x,a*", "abc"}: true, {"*b*b*", "abab"}: true,
		{strings.Repeat("*a", 200), strings.Repeat("a", 199) + "b"}: false,
	} {
		if got := matchesAny(in[0], in[1]); got != want {
			t.Errorf("%q on %q: %v", in[0], in[1], got)
		}
	}
}
