package caddymodule_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

// operated is a gateway whose admin API is asked, and what it stands for: the
// environment prod with the accounts batch, with a password, and reports,
// with an API token.
type operated struct {
	*gateway
	machines []*machine
	socket   string
	file     string // of the password
}

func startOperated(t *testing.T, password string, machines ...*machine) *operated {
	t.Helper()
	o := &operated{machines: machines, socket: adminSocket(t), file: secretFile(t, password)}
	var urls, trust string
	for _, m := range machines {
		urls += " " + m.url
		trust += "tls_ca_file " + m.caFile + "\n"
	}
	app := "environment prod {\nendpoint" + urls + "\n" + trust + "account batch {\n" + asEmuser(o.file) + "\n}\n" +
		"account reports {\napi_token {file." + secretFile(t, canaryToken) + "}\n}\ndefault_account batch\n}\n"
	o.gateway = startGateway(t, "{\nadmin \"unix/"+o.socket+"|0600\"\ncontrolm {\n"+app+"}\n}\n{ADDR} {\ncontrolm prod\n}\n")
	return o
}

// ask asks the admin API, whose answer must not hold a secret.
func (o *operated) ask(method, path string) reply {
	o.t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", o.socket)
	}}
	req, err := http.NewRequestWithContext(o.t.Context(), method, "http://localhost"+path, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	res, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	sweep(o.t, "the admin API", content)
	return reply{res.StatusCode, res.Header, string(content)}
}

// sessions are those of an answer with status 200.
func (r reply) sessions(t testing.TB) (list []caddymodule.SessionInfo) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.body), &list); r.status != 200 || err != nil || r.header.Get("Content-Type") != "application/json" {
		t.Fatalf("no list of sessions: %d %s (%v)", r.status, r.body, err)
	}
	return list
}

const batch = caddymodule.AdminSessions + "/prod/batch"

// batch is what the admin API tells of the one session of the account batch.
func (o *operated) batch() caddymodule.SessionInfo {
	o.t.Helper()
	list := o.ask(http.MethodGet, batch).sessions(o.t)
	if len(list) != 1 {
		o.t.Fatalf("there are %d sessions of batch: %+v", len(list), list)
	}
	return list[0]
}

func TestTheAdminAPITellsOfASessionFromItsLoginToItsEnd(t *testing.T) {
	up := startMachine(t, emulator.Options{})
	o := startOperated(t, canaryPassword, up)
	if got := o.batch(); got != (caddymodule.SessionInfo{Environment: "prod", Account: "batch", Endpoint: up.url, InUse: true, State: "none"}) {
		t.Errorf("before the first call: %+v", got)
	}
	wantReply(t, o.get(surviveGet), 200, "")
	first := o.batch()
	if first.State != "fresh" || first.Session == 0 || first.ExpiresIn < 1700 || first.ExpiresIn > 1800 || first.Age < 0 || first.Age > 90 ||
		first.Calls != 0 || first.Requests != 1 || first.Logins != 1 || first.APIVersion != "9.21.220" || first.NextAttempt != nil || first.LastError != "" {
		t.Errorf("after a call: %+v", first)
	}
	conn := o.dial()
	_, _ = io.WriteString(conn, "GET /automation-api/emulator/download?size=10&gate=one HTTP/1.1\r\nHost: "+o.addr+"\r\n\r\n")
	if _, err := bufio.NewReader(conn).Peek(1); err != nil {
		t.Fatal(err)
	}
	if got := o.batch(); got.Calls != 1 || got.Requests != 2 {
		t.Errorf("during a call: %+v", got)
	}

	t.Run("renew obtains another, and the old one ends with its last call", func(t *testing.T) {
		list := o.ask(http.MethodPost, batch+"/renew").sessions(t)
		if len(list) != 1 || list[0].Session <= first.Session || list[0].Logins != 2 || list[0].Calls != 0 || list[0].State != "fresh" {
			t.Errorf("got %+v", list)
		}
		if s := up.Stats(); s.Logins != 2 || s.Logouts != 0 {
			t.Errorf("upstream saw %+v", s)
		}
		_ = conn.Close()
		waitUntil(t, "the old session is logged out", func() bool { return up.Stats().Logouts == 1 })
	})
	t.Run("retry leaves a good session alone", func(t *testing.T) {
		if list := o.ask(http.MethodPost, batch+"/retry").sessions(t); list[0].Logins != 2 {
			t.Errorf("got %+v", list)
		}
	})
	t.Run("DELETE logs out, and the next call logs in", func(t *testing.T) {
		if list := o.ask(http.MethodDelete, batch).sessions(t); list[0].State != "none" || list[0].Session != 0 || list[0].Logins != 2 {
			t.Errorf("got %+v", list)
		}
		waitUntil(t, "the session is logged out", func() bool { return up.Stats().Logouts == 2 })
		if list := o.ask(http.MethodDelete, batch).sessions(t); list[0].State != "none" { // and once more
			t.Errorf("got %+v", list)
		}
		wantReply(t, o.get(surviveGet), 200, "")
		if s := up.Stats(); s.Logins != 3 || s.LiveSessions != 1 || o.batch().Logins != 3 {
			t.Errorf("upstream saw %+v", s)
		}
	})
}

func TestTheAdminAPITellsOfARefusalAndRetriesOnce(t *testing.T) {
	up := startMachine(t, emulator.Options{LockAfter: 10})
	o := startOperated(t, refusedPassword, up)
	o.get(surviveGet).wantOwn(t, 502, "ctmgate.login_refused")
	until := func() time.Duration {
		t.Helper()
		got := o.batch()
		if got.State != "refused" || got.NextAttempt == nil || !strings.Contains(got.LastError, "refused") || got.Logins != 0 || got.Session != 0 {
			t.Fatalf("after a refusal: %+v", got)
		}
		return time.Until(*got.NextAttempt)
	}
	first := until()
	if first < 10*time.Minute || first > 15*time.Minute {
		t.Errorf("the next attempt is in %s", first)
	}
	for _, verb := range []string{"/renew", "/retry"} {
		got := o.ask(http.MethodPost, batch+verb)
		if got.status != 502 || !strings.Contains(got.body, verb[1:]) || !strings.Contains(got.body, "refused") {
			t.Errorf("%s: got %d %s", verb, got.status, got.body)
		}
	}
	if n := up.Stats().RefusedLogins; n != 2 {
		t.Errorf("%d logins were refused; expected that renew makes none, and retry one", n)
	}
	if second := until(); second < first+10*time.Minute {
		t.Errorf("after another refusal the next attempt is in %s", second)
	}
	o.get(surviveGet).wantOwn(t, 502, "ctmgate.login_refused")
	up.SetPassword("emuser", refusedPassword) // or unlocked
	o.get(surviveGet).wantOwn(t, 502, "ctmgate.login_refused")
	if n := up.Stats().RefusedLogins; n != 2 {
		t.Errorf("%d logins were refused", n)
	}
	list := o.ask(http.MethodPost, batch+"/retry").sessions(t)
	if list[0].State != "fresh" || list[0].LastError != "" || list[0].NextAttempt != nil || list[0].Logins != 1 {
		t.Errorf("after a retry that succeeds: %+v", list)
	}
	wantReply(t, o.get(surviveGet), 200, "")
}

func TestTheAdminAPITellsOfAFailureAndRetriesAtOnce(t *testing.T) {
	up := startMachine(t, emulator.Options{})
	o := startOperated(t, canaryPassword, up)
	wireFaults(t, up.Emulator, "login=echo") // with the password in the answer
	o.get(surviveGet).wantOwn(t, 502, "ctmgate.login_failed")
	got := o.batch()
	if !slices.Contains([]string{"paused", "none"}, got.State) || !strings.Contains(got.LastError, "status 500") {
		t.Errorf("after a failure: %+v", got)
	}
	// Retries in a row: each spends an attempt, and the pause grows.
	for n := 2; n <= 4; n++ {
		if got := o.ask(http.MethodPost, batch+"/retry"); got.status != 502 || !strings.Contains(got.body, "status 500") {
			t.Errorf("got %d %s", got.status, got.body)
		}
		if failed := up.Stats().FailedLogins; failed != n {
			t.Errorf("%d logins failed, expected %d", failed, n)
		}
	}
	got = o.batch()
	if got.State != "paused" || got.NextAttempt == nil || time.Until(*got.NextAttempt) > 11*time.Second {
		t.Errorf("after four failures: %+v", got)
	}
	o.get(surviveGet).wantOwn(t, 503, "ctmgate.login_paused")
	if got := o.ask(http.MethodPost, batch+"/renew"); got.status != 502 || !strings.Contains(got.body, "paused") {
		t.Errorf("renew in a pause: got %d %s", got.status, got.body)
	}
	up.SetFaults()
	if list := o.ask(http.MethodPost, batch+"/retry").sessions(t); list[0].State != "fresh" || list[0].LastError != "" || list[0].NextAttempt != nil {
		t.Errorf("after a retry that succeeds: %+v", list)
	}
	wantReply(t, o.get(surviveGet), 200, "")
}

func TestTheAdminAPITellsOfEveryEndpointThatThereIsSomethingToTellOf(t *testing.T) {
	machines := pair(t)
	o := startOperated(t, canaryPassword, machines...)
	wantReply(t, o.get(surviveGet), 200, "")
	machines[0].off()
	wantReply(t, o.get(surviveGet), 200, "")
	list := o.ask(http.MethodGet, caddymodule.AdminSessions).sessions(t)
	if len(list) != 3 || list[0].Endpoint != machines[0].url || list[0].InUse || list[0].Session == 0 ||
		list[1].Endpoint != machines[1].url || !list[1].InUse || list[1].Session <= list[0].Session ||
		list[2].Account != "reports" || !list[2].InUse || list[2].Endpoint != machines[1].url || list[2].State != "standing" {
		t.Errorf("got %+v", list)
	}
	if list := o.ask(http.MethodPost, batch+"/renew").sessions(t); machines[1].Stats().Logins != 2 || list[1].Logins != 2 || list[0].Logins != 1 {
		t.Errorf("renew at the endpoint in use: got %+v", list)
	}
	o.ask(http.MethodDelete, batch).sessions(t)
	waitUntil(t, "the session at the endpoint in use is logged out", func() bool { return machines[1].Stats().LiveSessions == 0 })
}

func TestTheAdminAPICountsTheRequestsOfAnAPIToken(t *testing.T) {
	up := startMachine(t, emulator.Options{APITokens: []emulator.APIToken{{Name: "reports", Value: canaryToken, User: "emuser", Roles: []string{"User"}}}})
	o := &operated{socket: adminSocket(t)}
	file := func(more string) string {
		return "{\nadmin \"unix/" + o.socket + "|0600\"\ncontrolm {\nenvironment prod {\nendpoint " + up.url + "\ntls_ca_file " + up.caFile +
			"\naccount reports {\napi_token {file." + secretFile(t, canaryToken) + "}\n}\n}\n}\n}\n{ADDR} {\ncontrolm prod {\n" + more + "\n}\n}\n"
	}
	o.gateway = startGateway(t, file(""))
	for n := range uint64(3) {
		if n == 2 {
			if err := o.load(file("replay_buffer 2KiB")); err != nil {
				t.Fatal(err)
			}
		}
		if got := o.getAfterLoad(surviveGet, nil); got.status != 200 {
			t.Fatalf("got %d %s", got.status, got.body)
		}
		if list := o.ask(http.MethodGet, caddymodule.AdminSessions).sessions(t); len(list) != 1 || list[0].Requests != n+1 || list[0].State != "standing" {
			t.Errorf("after %d calls: %+v", n+1, list)
		}
	}
}

func TestTheAdminAPISaysWhatItExpected(t *testing.T) {
	up := startMachine(t, emulator.Options{APITokens: []emulator.APIToken{{Name: "reports", Value: canaryToken, User: "emuser"}}})
	o := startOperated(t, canaryPassword, up)
	base := caddymodule.AdminSessions
	for _, row := range []struct {
		method, path string
		status       int
		says         []string
		allow        string
	}{
		{"GET", base + "/test/batch", 404, []string{"test", "expected one of prod"}, ""},
		{"POST", base + "/test/batch/renew", 404, []string{"test", "expected one of prod"}, ""},
		{"GET", base + "/prod/nightly", 404, []string{"nightly", "expected one of batch, reports"}, ""},
		{"DELETE", base + "/prod/nightly", 404, []string{"nightly", "expected one of batch, reports"}, ""},
		{"POST", base + "/prod/batch/refuse", 404, []string{"refuse", "expected renew or retry"}, ""},
		{"GET", base + "/prod", 404, []string{"{environment}/{account}", "/renew or /retry"}, ""},
		{"POST", base + "/prod/batch/renew/now", 404, []string{"{environment}/{account}"}, ""},
		{"POST", base, 405, []string{"expected GET"}, "GET"},
		{"DELETE", base, 405, []string{"expected GET"}, "GET"},
		{"POST", base + "/prod/batch", 405, []string{"GET, DELETE"}, "GET, DELETE"},
		{"PUT", base + "/prod/reports", 405, []string{"GET, DELETE"}, "GET, DELETE"},
		{"GET", base + "/prod/batch/renew", 405, []string{"expected POST"}, "POST"},
		{"DELETE", base + "/prod/batch/retry", 405, []string{"expected POST"}, "POST"},
		{"POST", base + "/prod/reports/renew", 400, []string{"API token"}, ""},
		{"POST", base + "/prod/reports/retry", 400, []string{"API token"}, ""},
		{"DELETE", base + "/prod/reports", 400, []string{"API token"}, ""},
	} {
		t.Run(row.method+" "+row.path, func(t *testing.T) {
			got := o.ask(row.method, row.path)
			var shape struct{ Error string }
			err := json.Unmarshal([]byte(got.body), &shape)
			if got.status != row.status || got.header.Get("Allow") != row.allow || err != nil {
				t.Errorf("got %d %s, Allow %q (%v)", got.status, got.body, got.header.Get("Allow"), err)
			}
			for _, text := range row.says {
				if !strings.Contains(shape.Error, text) {
					t.Errorf("it does not say %q: %s", text, got.body)
				}
			}
		})
	}
	list := o.ask("GET", base+"/prod/reports").sessions(t)
	if len(list) != 1 || list[0] != (caddymodule.SessionInfo{Environment: "prod", Account: "reports", Endpoint: up.url, InUse: true, State: "standing"}) {
		t.Errorf("an account with an API token: %+v", list)
	}
	if n := len(up.attempts()); n > 0 {
		t.Errorf("questions alone cost %d logins", n)
	}
}

func TestTheAdminAPIOfAConfigWithoutTheAppSaysSo(t *testing.T) {
	o := &operated{socket: adminSocket(t)}
	o.gateway = startGateway(t, "{\nadmin \"unix/"+o.socket+"|0600\"\n}\n{ADDR} {\nrespond 204\n}\n")
	if got := o.ask("GET", caddymodule.AdminSessions); got.status != 404 || !strings.Contains(got.body, "no controlm") {
		t.Errorf("got %d %s", got.status, got.body)
	}
}
