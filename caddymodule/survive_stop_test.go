package caddymodule_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

// checkReloaded fails the test unless every call was answered by upstream.
// Caddy's old listener takes connections with it that it has not looked at
// yet; those calls were made again, and may be few.
func checkReloaded(t *testing.T, shots []shot, reloads int) {
	t.Helper()
	again := 0
	for _, s := range shots {
		if s.again {
			again++
		}
		if s.err != nil || s.code != "" || s.status != 200 && s.status != 404 { // of the jobs that there are not
			t.Errorf("got %v", s)
		}
	}
	t.Logf("%d reloads under %d calls: %d connections were reset", reloads, len(shots), again)
	if len(shots) < 100 || again > 4*reloads {
		t.Errorf("of %d calls, %d had to be made again", len(shots), again)
	}
}

func TestReloadsUnderLoadCostNoLoginAndNoCall(t *testing.T) {
	up := startMachine(t, emulator.Options{})
	password := wireUser(t)
	g := startGateway(t, surviveSite([]*machine{up}, password))
	load := g.fire(8, 5*time.Millisecond, mixed)
	waitUntil(t, "calls arrive", func() bool { return len(load.sofar()) > 20 })
	reloads := soaking(20, 200)
	for i := range reloads {
		n := len(load.sofar())
		words := []string{password}
		if i%2 == 0 { // not of the account, and Caddy must not take it for the same config
			words = append(words, fmt.Sprintf("replay_buffer %dKiB", 100+i))
		}
		if err := g.load(surviveSite([]*machine{up}, words...)); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "calls go on", func() bool { return len(load.sofar()) > n+10 })
	}
	checkReloaded(t, load.stop(), reloads)
	arrived := make(map[string]int)
	for _, e := range up.calls() {
		arrived[e.Path]++
		if e.Method == http.MethodPost && arrived[e.Path] > 1 {
			t.Errorf("%s arrived again: its connection was reset after it was forwarded", e.Path)
		}
	}
	if s := up.Stats(); s.Logins != 1 || s.Logouts != 0 || s.RejectedCalls != 0 {
		t.Errorf("upstream saw %+v; expected one login and no logout", s)
	}
}

func TestReloadsAtOnceCostNoLogin(t *testing.T) {
	up := startMachine(t, emulator.Options{LoginDelay: 200 * time.Millisecond})
	password := wireUser(t)
	g := startGateway(t, surviveSite([]*machine{up}, password))
	load := g.fire(8, 5*time.Millisecond, onlyGets)
	configs := make([][]byte, 4)
	for i := range configs {
		config, err := g.adapt(surviveSite([]*machine{up}, password, fmt.Sprintf("replay_buffer %dKiB", 100+i)))
		if err != nil {
			t.Fatal(err)
		}
		configs[i] = config
	}
	rounds := soaking(3, 20)
	for range rounds { // the first of them while the first login is under way
		var group sync.WaitGroup
		for _, config := range configs {
			group.Go(func() {
				if err := caddy.Load(config, true); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
	waitUntil(t, "calls arrive", func() bool { return len(load.sofar()) > 200 })
	checkReloaded(t, load.stop(), rounds*len(configs))
	if s := up.Stats(); s.Logins != 1 || s.Logouts != 0 {
		t.Errorf("upstream saw %+v; expected one login and no logout", s)
	}
}

func TestABadConfigUnderLoadChangesNothing(t *testing.T) {
	up := startMachine(t, emulator.Options{})
	password := wireUser(t)
	good := surviveSite([]*machine{up}, password)
	g := startGateway(t, good)
	load := g.fire(8, 5*time.Millisecond, onlyGets)
	waitUntil(t, "calls arrive", func() bool { return len(load.sofar()) > 20 })
	for _, bad := range []string{
		surviveSite([]*machine{up}, "username emuser", "password {file./nowhere/secret}"),
		surviveSite([]*machine{up}, password, "renew_before 1h"),
		// Its site comes after the good one, which then has taken the session again.
		good + strings.Replace(surviveSite([]*machine{up}, "username {env.CTMGATE_TEST_UNSET}", "password {env.CTMGATE_TEST_UNSET}", "name other"), "{ADDR}", "http://"+freeAddr(t), 1),
		// It is found only when it starts.
		good + "http://192.0.2.1:9 {\nbind 192.0.2.1\nrespond 204\n}\n",
	} {
		if err := g.load(bad); err == nil {
			t.Errorf("this was loaded: %s", bad)
		}
		n := len(load.sofar())
		waitUntil(t, "calls go on", func() bool { return len(load.sofar()) > n+20 })
	}
	checkReloaded(t, load.stop(), 4)
	if s := up.Stats(); s.Logins != 1 || s.Logouts != 0 || s.RejectedCalls != 0 {
		t.Errorf("upstream saw %+v; expected one login and no logout", s)
	}
}

// failingApp is an app of a config that takes its time to fail.
type failingApp struct{}

// failsAfter is what it waits for, at most.
var failsAfter func()

func (failingApp) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "test_failing", New: func() caddy.Module { return new(failingApp) }}
}

func (failingApp) Start() error { failsAfter(); return errors.New("this app never starts") }
func (failingApp) Stop() error  { return nil }

var registerFailing = sync.OnceFunc(func() { caddy.RegisterModule(failingApp{}) })

// Which of a config's apps starts first is Caddy's choice, each time anew.
func TestAConfigThatFailsToStartSpendsNoPassword(t *testing.T) {
	registerFailing()
	up := startMachine(t, emulator.Options{Users: []emulator.User{
		{Name: "emuser", Password: canaryPassword}, {Name: "other", Password: canaryPassword},
	}})
	others := func() bool { return up.Stats().UserLogins["other"] > 0 }
	failsAfter = func() {
		tick, enough := time.NewTicker(5*time.Millisecond), time.After(150*time.Millisecond)
		defer tick.Stop()
		for !others() {
			select {
			case <-tick.C:
			case <-enough:
				return
			}
		}
	}
	g := startGateway(t, surviveSite([]*machine{up}, wireUser(t)))
	warm := surviveSite([]*machine{up}, "username other\n\t\tpassword {file."+secretFile(t, canaryPassword)+"}", "idle_timeout off")
	config, err := g.adapt(warm)
	if err != nil {
		t.Fatal(err)
	}
	config = bytes.Replace(config, []byte(`"apps":{`), []byte(`"apps":{"test_failing":{},`), 1)
	for range 10 {
		if err := caddy.Load(config, true); err == nil || !strings.Contains(err.Error(), "never starts") {
			t.Fatalf("it was loaded: %v", err)
		}
	}
	if others() {
		t.Errorf("upstream saw %+v", up.Stats())
	}
	if err := g.load(warm); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the account that is kept warm has logged in", others)
}

// heldDownload begins a download of size bytes that upstream holds after its
// first byte. The rest comes once the gate is open.
func (g *gateway) heldDownload(size int, gate string) (finish func() reply) {
	g.t.Helper()
	conn := g.dial()
	in := bufio.NewReader(conn)
	if _, err := fmt.Fprintf(conn, "GET /automation-api/emulator/download?size=%d&gate=%s HTTP/1.1\r\nHost: %s\r\n\r\n", size, gate, g.addr); err != nil {
		g.t.Fatal(err)
	}
	if _, err := in.Peek(1); err != nil { // so that it is under way
		g.t.Fatal(err)
	}
	return func() reply {
		g.t.Helper()
		return readReply(g.t, in, http.MethodGet)
	}
}

func (g *gateway) openGate(gate string) {
	g.t.Helper()
	wantReply(g.t, g.getAfterLoad("/automation-api/emulator/open?gate="+gate, nil), 200, "")
}

// wantWhole fails the test unless got is the whole of a download: the
// emulator's blocks of 32 KiB, in which every byte can be told from its place.
func wantWhole(t *testing.T, got reply, size int) {
	t.Helper()
	const letters = "0123456789abcdefghijklmnopqrstuvwxyz\n"
	if got.status != 200 || len(got.body) != size {
		t.Fatalf("the download got %d and %d bytes of %d", got.status, len(got.body), size)
	}
	for i := range size {
		if got.body[i] != letters[i%(32<<10)%len(letters)] {
			t.Fatalf("byte %d of the download is %q", i, got.body[i])
		}
	}
}

func TestDownloadsAndSocketsLiveOnOverReloads(t *testing.T) {
	const size = 8 << 20
	up := startMachine(t, emulator.Options{})
	password := wireUser(t)
	g := startGateway(t, surviveSite([]*machine{up}, password))
	finish := g.heldDownload(size, "one")
	s, answer := g.socket()
	if s == nil {
		t.Fatalf("got %d %s", answer.status, answer.body)
	}
	s.receive()
	for i := range 3 {
		if err := g.load(surviveSite([]*machine{up}, password, fmt.Sprintf("replay_buffer %dKiB", 100+i))); err != nil {
			t.Fatal(err)
		}
		s.pingPong(fmt.Sprintf("after reload %d", i))
	}
	g.openGate("one")
	wantWhole(t, finish(), size)
	s.pingPong("after the download")
	if stats := up.Stats(); stats.Logins != 1 || stats.Logouts != 0 {
		t.Errorf("upstream saw %+v; expected one login and no logout", stats)
	}
	t.Run("and over one that takes their account away", func(t *testing.T) {
		finish := g.heldDownload(size, "two")
		if err := g.load(surviveSite([]*machine{up}, password, "session_lifetime 20m")); err != nil {
			t.Fatal(err)
		}
		g.openGate("two") // with a session of the new config
		wantWhole(t, finish(), size)
		s.pingPong("still here")
		if stats := up.Stats(); stats.Logins != 2 || stats.Logouts != 0 {
			t.Errorf("upstream saw %+v; expected a second login, and no logout while a socket is open", stats)
		}
		_ = s.conn.Close()
		waitUntil(t, "the old session is logged out after its last call", func() bool { return up.Stats().Logouts == 1 })
		wantReply(t, g.getAfterLoad(surviveGet, nil), 200, "")
	})
}

func TestAChangedSecretMakesANewSessionAndEndsTheOldAfterItsLastCall(t *testing.T) {
	const size, next = 1 << 20, canaryPassword + "-next"
	up := startMachine(t, emulator.Options{})
	file := secretFile(t, canaryPassword)
	g := startGateway(t, surviveSite([]*machine{up}, asEmuser(file)))
	load := g.fire(4, 20*time.Millisecond, onlyGets)
	finish := g.heldDownload(size, "one")
	up.SetPassword("emuser", next)
	rewriteSecret(t, file, next)
	waitUntil(t, "a login with the new password", func() bool { return up.Stats().Logins == 2 })
	n := len(load.sofar())
	waitUntil(t, "calls go on", func() bool { return len(load.sofar()) > n+20 })
	if s := up.Stats(); s.Logouts != 0 || s.LiveSessions != 2 {
		t.Errorf("while the old session is in use upstream saw %+v", s)
	}
	g.openGate("one")
	wantWhole(t, finish(), size)
	waitUntil(t, "the old session is logged out", func() bool { return up.Stats().Logouts == 1 })
	for _, s := range load.stop() {
		if s.err != nil || s.again || s.status != 200 {
			t.Errorf("got %v", s)
		}
	}
	if out := up.saw(emulator.KindLogout); out[0].Session != 1 {
		t.Errorf("session %d was logged out, expected the first", out[0].Session)
	}
	if s := up.Stats(); s.RefusedLogins != 0 || s.LiveSessions != 1 || s.RejectedCalls != 0 {
		t.Errorf("upstream saw %+v", s)
	}
}

func TestStoppingLogsOutAtEveryEndpointOnce(t *testing.T) {
	machines := pair(t)
	g := startGateway(t, surviveSite(machines, wireUser(t)))
	wantReply(t, g.get(surviveGet), 200, "")
	wireFaults(t, machines[0].Emulator, "calls=503x3")
	for range 3 {
		wantReply(t, g.get(surviveGet), 503, "")
	}
	wantReply(t, g.get(surviveGet), 200, "")
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	caddymodule.WaitForLogouts()
	for i, m := range machines {
		if s := m.Stats(); s.Logins != 1 || s.Logouts != 1 || s.LiveSessions != 0 {
			t.Errorf("endpoint %d saw %+v", i+1, s)
		}
	}
}
