package cli

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// TestARotationUnderLoadCostsNoCall changes the password of a sidecar that
// serves 20 calls a second.
func TestARotationUnderLoadCostsNoCall(t *testing.T) {
	r := newRotating(t)
	listen := freeAddress(t)
	sidecar := r.start(t, r.env, "sidecar", "--listen", listen)
	sidecar.waitFor(up)
	var calls, failed atomic.Int32
	call := func() {
		resp, err := http.Get("http://" + listen + "/automation-api/config/servers")
		calls.Add(1)
		if err != nil {
			failed.Add(1)
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
			failed.Add(1)
			t.Errorf("got %d %s, %v", resp.StatusCode, body, err)
		}
	}
	call() // the first login
	ended := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		tick := time.NewTicker(time.Second / 20)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				load.Go(call)
			}
		}
	})

	r.update(t, "--write", r.file).want(t, 0, "the new one works")
	// The gateway's first, the command's two, and the gateway's with the new one.
	eventually(t, "the gateway has logged in with the new password", func() bool { return r.Stats().Logins >= 4 })
	r.Restart() // nothing lives on with the old password: the next call has to log in
	before := r.seenCalls()
	eventually(t, "calls went on", func() bool { return r.seenCalls() > before+20 })
	close(ended)
	load.Wait()
	if got := r.Stats(); got.RefusedLogins > 1 || failed.Load() > 0 {
		t.Errorf("%d of %d calls failed, and %d logins were refused", failed.Load(), calls.Load(), got.RefusedLogins)
	}
	if code, _ := sidecar.end(syscall.SIGTERM); code != 0 {
		t.Errorf("the sidecar ended with %d", code)
	}
	if r.Stats().LiveSessions != 0 {
		t.Error("a session is left")
	}
}

// seenCalls counts calls of the API that were accepted.
func (o *office) seenCalls() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, e := range o.events {
		if e.Kind == emulator.KindCall {
			n++
		}
	}
	return n
}
