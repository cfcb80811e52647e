package cli

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestDemoShowsCallsThatWorkAndWhatBecomesOfThem(t *testing.T) {
	h := newHome(t)
	listen := freeAddress(t)
	p := h.start(t, nil, "demo", "--listen", listen)
	out := p.waitFor(called("/automation-api/config/servers"))
	if !strings.HasPrefix(out, "ctmgate demo: ") || strings.Contains(out, "warning") {
		t.Error("it does not begin with what it is")
	}
	if !strings.Contains(out, "the gateway logged in, and has session 1") {
		t.Error("no login is shown")
	}
	lines := curlLines(out)
	if len(lines) != 3 {
		t.Fatalf("got %d curl lines, want 3: %q", len(lines), lines)
	}
	for _, line := range lines {
		if strings.Contains(line, "Authorization") || strings.Contains(line, "api-key") {
			t.Errorf("there is a credential in %s", line)
		}
		if status, body := curl(t, line); status != 200 {
			t.Errorf("%s: got %d %s", line, status, body)
		}
	}
	p.waitFor(called("/automation-api/run/order"))
	if code, _ := h.run(t, []string{"CTMGATE_LISTEN=" + listen}, "healthcheck"); code != 0 {
		t.Errorf("healthcheck ended with %d", code)
	}
	code, out := p.end(syscall.SIGINT)
	if code != 0 {
		t.Errorf("it ended with %d", code)
	}
	if !strings.HasSuffix(out, "\n4 calls, 1 login (0 renewals), 1 log-out; no session is left.\n") {
		t.Error("the summary is not as expected")
	}
	aligned := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d  .{14}  (\d{3}|   )  \S`).FindAllString(out, -1)
	if events := regexp.MustCompile(`(?m)^\d\d:`).FindAllString(out, -1); len(aligned) != len(events) || len(events) != 6 {
		t.Errorf("got %d events, %d of them aligned", len(events), len(aligned))
	}
	nothingLeft(t, h)
}

// called is what the timeline says of a call.
func called(path string) string { return fmt.Sprintf("%-44s  sent on as session 1", path) }

func nothingLeft(t *testing.T, h home) {
	t.Helper()
	for _, folder := range []string{h.data, h.runtime, h.temporary} {
		if left := entries(t, folder); len(left) > 0 {
			t.Errorf("it left behind: %q", left)
		}
	}
}

func TestDemoWorksOnASocketAndEndsOnSIGTERM(t *testing.T) {
	h := newHome(t)
	socket := filepath.Join(h.runtime, "api.sock")
	p := h.start(t, nil, "demo", "--listen", "unix/"+socket)
	out := p.waitFor("sent on as session 1")
	for _, line := range curlLines(out) {
		if status, body := curl(t, line); status != 200 {
			t.Errorf("%s: got %d %s", line, status, body)
		}
	}
	if code, _ := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	nothingLeft(t, h)
}

func TestADemoThatIsStoppedWhileItStartsLeavesNothing(t *testing.T) {
	for range 5 { // it is met at one moment or another
		h := newHome(t)
		p := h.start(t, nil, "demo", "--listen", "127.0.0.1:0")
		eventually(t, "it has begun", func() bool {
			out, _ := p.look()
			return out != "" || len(entries(t, h.temporary)) > 0
		})
		if code, out := p.end(syscall.SIGTERM); code != 0 {
			t.Errorf("it ended with %d: %s", code, out)
		}
		nothingLeft(t, h)
	}
}

func TestADemoThatIsKilledLeavesNoFolder(t *testing.T) {
	h := newHome(t)
	p := h.start(t, nil, "demo", "--listen", "127.0.0.1:0", "--admin", "off")
	if out := p.waitFor("sent on as session 1"); strings.Contains(out, "admin") {
		t.Error("it shows an admin API")
	}
	p.end(syscall.SIGKILL)
	nothingLeft(t, h)
}

func TestDemoSaysWhatToDoWhenAnAddressIsTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	for _, flag := range []string{"--listen", "--emulator-listen"} {
		h := newHome(t)
		args := []string{"demo", "--listen", "127.0.0.1:0", flag, ln.Addr().String()}
		code, out := h.run(t, nil, args...)
		if code != 1 || !strings.Contains(out, "choose another address with "+flag) {
			t.Errorf("%s: got %d %s", flag, code, out)
		}
		nothingLeft(t, h)
	}
}

func TestDemoShowsItsPasswordNowhere(t *testing.T) {
	h := newHome(t)
	p := h.start(t, nil, "demo", "--listen", freeAddress(t))
	out := p.waitFor("sent on as session 1")
	socket := regexp.MustCompile(`unix/(/\S+\.sock)`).FindStringSubmatch(out)
	if socket == nil {
		t.Fatal("no admin socket is shown")
	}
	_, config := get(t, "http://localhost/config/", socket[1])
	if !strings.Contains(config, `"password":"{env.CTMGATE_DEMO_PASSWORD}"`) {
		t.Errorf("got %s", config)
	}
}
