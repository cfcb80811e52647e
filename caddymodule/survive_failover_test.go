package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// pair is the two machines of one environment, with the same users, in the
// order of preference.
func pair(t *testing.T) (machines []*machine) {
	t.Helper()
	for range 2 {
		machines = append(machines, startMachine(t, emulator.Options{
			APITokens: []emulator.APIToken{{Name: "reports", Value: canaryToken, User: "emuser", Roles: []string{"User"}}},
		}))
	}
	return machines
}

// calls are those so far that m carried out or answered otherwise, with a
// credential that lives.
func (m *machine) calls() []witnessed { return m.saw(emulator.KindCall) }

// wantCalls fails the test unless so many calls arrived at each machine.
func wantCalls(t *testing.T, machines []*machine, first, second int) {
	t.Helper()
	if a, b := len(machines[0].calls()), len(machines[1].calls()); a != first || b != second {
		t.Errorf("%d calls arrived at the first endpoint and %d at the second; expected %d and %d", a, b, first, second)
	}
}

// mixed is a barrage of reading calls and of actions on jobs, each with a
// path of its own. There are no such jobs: an action is answered 404.
func mixed(n int) (method, path, body string) {
	switch n % 4 {
	case 0:
		return http.MethodPost, fmt.Sprintf("/automation-api/run/job/ctmtest:%05d/hold", n), ""
	case 1:
		return http.MethodPost, fmt.Sprintf("/automation-api/run/job/ctmtest:%05d/free", n), `{"note":"` + strings.Repeat("x", 5000) + `"}`
	}
	return onlyGets(n)
}

// checkMixed fails the test unless every reading call succeeded, and every
// other one was carried out once, or its caller told that nobody knows.
func checkMixed(t *testing.T, machines []*machine, shots []shot) {
	t.Helper()
	arrived := make(map[string]int)
	for _, m := range machines {
		for _, e := range m.calls() {
			arrived[e.Method+" "+e.Path]++
		}
	}
	unknown := 0
	for _, s := range shots {
		reads := strings.HasPrefix(s.path, "GET ")
		switch n := arrived[s.path]; {
		case s.err != nil || s.again:
			t.Errorf("got %v", s)
		case reads && s.status == 200:
		case !reads && s.status == 404 && s.code == "" && n == 1:
		case !reads && s.code == "ctmgate.upstream_unreachable" && strings.Contains(s.message, "may have been carried out") && n <= 1:
			unknown++
		default:
			t.Errorf("%v: it arrived %d times, and its caller was told %q", s, n, s.message)
		}
	}
	t.Logf("%v; %d calls with an unknown outcome", tally(shots), unknown)
}

// With CTMGATE_SOAK=1 again and again, each time until the first endpoint is
// used again.
func TestAnEndpointThatDiesUnderLoadFailsNoReadingCallAndRepeatsNoOther(t *testing.T) {
	machines := pair(t)
	g := startGateway(t, surviveSite(machines, wireUser(t)))
	load := g.fire(12, 5*time.Millisecond, mixed)
	for round := range soaking(1, 2) {
		n := len(machines[0].calls())
		waitUntil(t, "the first endpoint is in use", func() bool { return len(machines[0].calls()) > n+100 })
		machines[0].off()
		machines[0].Restart()
		n = len(machines[1].calls())
		waitUntil(t, "the second endpoint is in use", func() bool { return len(machines[1].calls()) > n+200 })
		machines[0].on()
		back, n := time.Now(), len(machines[0].calls())
		if soaking(false, true) {
			// 10 s, and twice as long after each relapse.
			for len(machines[0].calls()) == n && time.Since(back) < 10*time.Minute {
				surviveFor(t, 100*time.Millisecond)
			}
			t.Logf("round %d: in use again %s after the return", round+1, time.Since(back).Round(time.Millisecond))
			if time.Since(back) < 10*time.Second {
				t.Error("it was used again at once")
			}
			continue
		}
		surviveFor(t, time.Second)
		if len(machines[0].calls()) > n {
			t.Error("it was used again at once")
		}
	}
	checkMixed(t, machines, load.stop())
	// A token of one endpoint at the other would be rejected there. After a
	// restart of its own, the first rejects what it has issued before.
	if r := machines[1].Stats().RejectedCalls; r != 0 {
		t.Errorf("the second endpoint rejected %d calls", r)
	}
	if first := machines[0].Stats(); soaking(first.RejectedCalls != 0, false) || first.Logins != soaking(1, 3) {
		t.Errorf("the first endpoint saw %+v", first)
	}
}

func TestTheFirstEndpointIsUsedAtOnceWhereTheSecondDies(t *testing.T) {
	machines := pair(t)
	g := startGateway(t, surviveSite(machines, wireUser(t)))
	wantReply(t, g.get(surviveGet), 200, "")
	for range soaking(2, 10) {
		for i, m := range machines {
			m.off()
			n := len(machines[1-i].calls())
			wantReply(t, g.get(surviveGet), 200, "")
			g.do(http.MethodPost, wireEcho, strings.NewReader("hello"), nil).echoed(t)
			if got := len(machines[1-i].calls()); got != n+2 {
				t.Errorf("%d calls arrived at the machine that is on, expected 2", got-n)
			}
			m.on()
		}
	}
	t.Run("and with none left the answer says so", func(t *testing.T) {
		for _, m := range machines {
			m.off()
		}
		g.get(surviveGet).wantOwn(t, 502, "ctmgate.upstream_unreachable")
		machines[1].on()
		wantReply(t, g.get(surviveGet), 200, "")
	})
}

func TestWhatMovesToTheSecondEndpoint(t *testing.T) {
	for _, row := range []struct {
		name, fault, words string
		method, body       string
		status             int
		code, says         string
		first, second      int // calls that arrive
	}{
		{name: "a reading call that breaks", fault: "calls=closex1", method: "GET", status: 200, first: 1, second: 1},
		{name: "a POST that breaks is not sent again", fault: "calls=closex1", method: "POST", body: "hello", status: 502,
			code: "ctmgate.upstream_unreachable", says: "may have been carried out", first: 1},
		{name: "a POST without a body that breaks is not sent again", fault: "calls=closex1", method: "POST", status: 502,
			code: "ctmgate.upstream_unreachable", says: "may have been carried out", first: 1},
		{name: "a DELETE that breaks is not sent again", fault: "calls=closex1", method: "DELETE", status: 502,
			code: "ctmgate.upstream_unreachable", says: "may have been carried out", first: 1},
		{name: "a reading call that takes too long stays", fault: "calls=hang", words: "transport http {\nresponse_header_timeout 1s\n}",
			method: "GET", status: 504, code: "ctmgate.upstream_timeout", first: 1},
		{name: "a reading call whose login hangs", fault: "login=hang", words: "login_timeout 1s", method: "GET", status: 200, second: 1},
		{name: "a POST whose login hangs", fault: "login=hang", words: "login_timeout 1s", method: "POST", body: "hello", status: 200, second: 1},
		{name: "a POST whose login breaks", fault: "login=close", method: "POST", body: "hello", status: 200, second: 1},
		{name: "a POST whose login is not understood", fault: "login=garbage", method: "POST", body: "hello", status: 200, second: 1},
		{name: "a POST that meets a page of a balancer stays", fault: "calls=503", method: "POST", body: "hello", status: 503, first: 1},
		{name: "a call whose login is refused stays", fault: "login=401", method: "GET", status: 502, code: "ctmgate.login_refused"},
	} {
		t.Run(row.name, func(t *testing.T) {
			machines := pair(t)
			wireFaults(t, machines[0].Emulator, row.fault)
			g := startGateway(t, surviveSite(machines, wireUser(t), row.words))
			got := g.do(row.method, wireEcho, strings.NewReader(row.body), nil)
			if got.status != row.status || got.code() != row.code || !strings.Contains(got.body, row.says) {
				t.Errorf("got %d %s", got.status, got.body)
			}
			if got.status == 200 {
				if e := got.echoed(t); e.BodySHA256 != sha([]byte(row.body)) || e.SessionUser != "emuser" {
					t.Errorf("upstream got %+v", e)
				}
			}
			wantCalls(t, machines, row.first, row.second)
			for i, m := range machines {
				if s := m.Stats(); s.RejectedCalls != 0 || s.Logins+s.RefusedLogins+s.FailedLogins > 1 {
					t.Errorf("endpoint %d saw %+v", i+1, s)
				}
			}
			if row.fault == "login=401" && len(machines[1].attempts()) > 0 {
				t.Error("a refused password was tried at the second endpoint")
			}
			machines[0].SetFaults()
		})
	}
}

// The body that breaks is the caller's, and says nothing of the endpoint.
func TestBodiesThatBreakMoveNothing(t *testing.T) {
	machines := pair(t)
	g := startGateway(t, surviveSite(machines, wireUser(t)))
	wantReply(t, g.get(surviveGet), 200, "")
	for range 5 {
		got := g.raw("POST " + wireEcho + " HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")
		got.wantOwn(t, 400, "ctmgate.bad_body")
	}
	wantReply(t, g.get(surviveGet), 200, "")
	if n := len(machines[1].attempts()); n != 0 {
		t.Errorf("there were %d logins at the second endpoint", n)
	}
}

func TestAPageOfABalancerThreeTimesInARowMovesEveryKindOfAccount(t *testing.T) {
	for _, words := range []string{wireUser(t), "api_token {file." + secretFile(t, canaryToken) + "}"} {
		kind, _, _ := strings.Cut(words, " ")
		t.Run(kind, func(t *testing.T) {
			machines := pair(t)
			g := startGateway(t, surviveSite(machines, words))
			wireFaults(t, machines[0].Emulator, "calls=503x2")
			for _, want := range []int{503, 503, 200} { // two and an answer do not move
				if got := g.get(wireEcho); got.status != want {
					t.Errorf("got %d %s, expected %d", got.status, got.body, want)
				}
			}
			wireFaults(t, machines[0].Emulator, "calls=503")
			for _, want := range []int{503, 503, 503, 200, 200} {
				if got := g.get(wireEcho); got.status != want {
					t.Errorf("got %d %s, expected %d", got.status, got.body, want)
				}
			}
			wantCalls(t, machines, 6, 2)
			if !strings.Contains(g.logText(), "an endpoint does not answer; it is left aside") {
				t.Error("the log does not say so")
			}
		})
	}
}

func TestALoginThatFailsIsOneTroubleHoweverManyCallsWaitForIt(t *testing.T) {
	machines := pair(t)
	wireFaults(t, machines[0].Emulator, "login=garbagex1")
	g := startGateway(t, surviveSite(machines, wireUser(t)))
	client := clientHTTP(t, nil)
	for _, s := range g.atOnce(10, client, http.MethodGet, surviveGet, nil) {
		if s.err != nil || s.status != 200 {
			t.Errorf("got %v %s", s, s.body)
		}
	}
	if n := machines[0].Stats().FailedLogins; n != 1 || strings.Contains(g.logText(), "left aside") {
		t.Fatalf("%d failed login left the endpoint aside", n)
	}
	waitUntil(t, "the first endpoint is in use after the pause", func() bool {
		return g.get(surviveGet).status == 200 && len(machines[0].calls()) > 0
	})
}

func TestAnAPITokenFailsOverToo(t *testing.T) {
	machines := pair(t)
	g := startGateway(t, surviveSite(machines, "api_token {file."+secretFile(t, canaryToken)+"}"))
	load := g.fire(6, 5*time.Millisecond, mixed)
	waitUntil(t, "the first endpoint is in use", func() bool { return len(machines[0].calls()) > 50 })
	machines[0].off()
	waitUntil(t, "the second endpoint is in use", func() bool { return len(machines[1].calls()) > 100 })
	checkMixed(t, machines, load.stop())
	for i, m := range machines {
		if s := m.Stats(); s.RejectedCalls+len(m.attempts()) > 0 {
			t.Errorf("endpoint %d saw %+v", i+1, s)
		}
	}
}

func TestLoginsAndSocketsGoToTheEndpointInUse(t *testing.T) {
	machines := pair(t)
	machines[0].off()
	g := startGateway(t, surviveSite(machines, wireUser(t)))
	token := g.logIn("whoever", "whatever") // the first call of all
	if token == "" || machines[1].Stats().Logins != 1 {
		t.Errorf("the second endpoint saw %+v", machines[1].Stats())
	}
	for i, m := range machines {
		m.on()
		machines[1-i].off()
		var s *wireSocket
		waitUntil(t, "a socket is open", func() bool { // the failed login at the first endpoint costs a pause
			s, _ = g.socket()
			return s != nil
		})
		s.receive()
		s.pingPong("hello")
		if !slices.ContainsFunc(m.calls(), func(e witnessed) bool { return e.Status == http.StatusSwitchingProtocols }) {
			t.Errorf("the socket is not at endpoint %d", i+1)
		}
		g.logIn("whoever", "whatever")
	}
}

// In front of some machines stands a balancer that takes connections and
// closes them where it has no server: no call can have been received that way.
func TestACallMovesWhereTheTLSHandshakeFails(t *testing.T) {
	balancer, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = balancer.Close() })
	go func() {
		for {
			conn, err := balancer.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	machines := pair(t)
	for _, row := range []struct{ name, first string }{
		{"since the connection is closed", "https://" + balancer.Addr().String() + "/automation-api"},
		{"since the certificate is not trusted", machines[0].url},
	} {
		for _, words := range []string{wireUser(t), "api_token {file." + secretFile(t, canaryToken) + "}"} {
			account, _, _ := strings.Cut(words, " ")
			t.Run(row.name+", for a "+account, func(t *testing.T) {
				g := startGateway(t, wireSite(row.first+" "+machines[1].url, "tls_ca_file "+machines[1].caFile, words))
				g.do(http.MethodPost, wireEcho, strings.NewReader("hello"), nil).echoed(t)
				g.get(wireEcho).echoed(t)
			})
		}
	}
}

func TestAnAccountThatIsKeptWarmMovesWithoutACall(t *testing.T) {
	machines := pair(t)
	startGateway(t, surviveSite(machines, wireUser(t), "idle_timeout off", "session_lifetime 2s", "renew_before 1500ms"))
	waitUntil(t, "a login at the first endpoint", func() bool { return machines[0].Stats().Logins > 0 })
	machines[0].off()
	waitUntil(t, "a login at the second endpoint", func() bool { return machines[1].Stats().Logins > 0 })
}

func TestAReloadDoesNotForgetWhichEndpointAnswers(t *testing.T) {
	machines := pair(t)
	password := wireUser(t)
	g := startGateway(t, surviveSite(machines, password))
	wireFaults(t, machines[0].Emulator, "calls=503x3")
	for range 3 {
		wantReply(t, g.get(surviveGet), 503, "")
	}
	wantReply(t, g.get(surviveGet), 200, "")
	for n := 2; n < 5; n++ {
		if err := g.load(surviveSite(machines, password, fmt.Sprintf("replay_buffer %dKiB", 100+n))); err != nil {
			t.Fatal(err)
		}
		wantReply(t, g.getAfterLoad(surviveGet, nil), 200, "")
		wantCalls(t, machines, 3, n)
	}
	if s := machines[1].Stats(); s.Logins != 1 || s.Logouts != 0 {
		t.Errorf("the second endpoint saw %+v", s)
	}
}

// The first machine prints its own URLs, and so does the second: neither may
// be seen.
func TestURLsOfEveryEndpointLeadToTheGateway(t *testing.T) {
	machines := pair(t)
	g := startGateway(t, surviveSite(machines, wireUser(t)))
	for i, m := range machines {
		if i > 0 {
			machines[i-1].off()
			// A connection that broke unseen would cost the POST: nobody could
			// tell whether it was received.
			wireEventually(t, "the endpoint is left aside", func() bool {
				return g.get(wireEcho).status == 200 && strings.Contains(g.logText(), "an endpoint does not answer")
			})
		}
		got := g.do(http.MethodPost, "/automation-api/run/order", strings.NewReader(`{"ctm":"ctmprod","folder":"MonthEnd"}`), nil)
		var run struct{ RunID, StatusURI string }
		if err := json.Unmarshal([]byte(got.body), &run); err != nil || !strings.HasPrefix(run.StatusURI, g.url("/automation-api/run/status/")) {
			t.Fatalf("endpoint %d: got %d %s (%v)", i+1, got.status, got.body, err)
		}
		status := g.get(strings.TrimPrefix(run.StatusURI, "http://"+g.addr))
		var list struct {
			Statuses []struct{ JobID, LogURI string }
		}
		if err := json.Unmarshal([]byte(status.body), &list); err != nil || len(list.Statuses) == 0 {
			t.Fatalf("endpoint %d: got %d %s (%v)", i+1, status.status, status.body, err)
		}
		for _, job := range list.Statuses {
			if path, ours := strings.CutPrefix(job.LogURI, "http://"+g.addr); !ours || g.get(path).status != 200 {
				t.Errorf("endpoint %d: the log of a job is at %s", i+1, job.LogURI)
			}
		}
		for _, other := range machines {
			if strings.Contains(got.body+status.body, other.url) {
				t.Errorf("an answer of %s names %s", m.url, other.url)
			}
		}
	}
}
