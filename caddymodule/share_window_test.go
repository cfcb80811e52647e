package caddymodule_test

import (
	"bufio"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

// heldRequests is a handler in front of controlm, `test_hold`, that keeps each
// request until it is told otherwise: what any handler may do that reads a
// body, compares a bcrypt hash or asks somebody else.
type heldRequests struct{}

var hold struct {
	arrived chan struct{}
	goOn    chan struct{}
}

func (heldRequests) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_hold", New: func() caddy.Module { return new(heldRequests) }}
}

func (heldRequests) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.Header.Get("X-Test-Hold") != "" {
		hold.arrived <- struct{}{}
		<-hold.goOn
	}
	return next.ServeHTTP(w, r)
}

var registerHold = sync.OnceFunc(func() {
	caddy.RegisterModule(heldRequests{})
	httpcaddyfile.RegisterHandlerDirective("test_hold", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return heldRequests{}, nil
	})
})

// What the server of the old config has accepted before a reload, and what
// reaches `controlm` after it, is judged by the new config.
func TestARequestThatIsUnderWayDuringAReloadIsJudgedByTheNewConfig(t *testing.T) {
	registerHold()
	hold.arrived, hold.goOn = make(chan struct{}), make(chan struct{})
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	environment := accessEnvironment(t, up.URL(), up.trusted())
	file := func(clients string) string {
		return quietFile(environment+clients, "route {", "test_hold", "controlm prod", "}")
	}
	g := startGateway(t, file(accessClient("nightly", nightlyKey, "allow * /*")+accessClient("reader", readerKey, "allow * /*")))
	token, staying := g.logIn("nightly", nightlyKey), g.logIn("reader", readerKey)

	const servers = "/automation-api/config/servers"
	socket := "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
	form := "Content-Type: application/json\r\nContent-Length: "
	login := `{"username":"nightly","password":"` + nightlyKey + `"}`
	rows := []struct {
		name, line, header, body string
		status                   int
		code                     string
	}{
		{"the key of a client that was removed", "GET " + servers, "X-Api-Key: " + nightlyKey, "", 401, "ctmgate.client_unauthenticated"},
		{"its token", "GET " + servers, "Authorization: Bearer " + token, "", 401, "ctmgate.client_unauthenticated"},
		{"its WebSocket", "GET " + wireEcho, "X-Api-Key: " + nightlyKey + "\r\n" + socket, "", 401, "ctmgate.client_unauthenticated"},
		{"its login", "POST /automation-api/session/login", form + "LENGTH", login, 401, "ctmgate.client_unauthenticated"},
		{"what a client may do no more", "GET " + wireEcho, "X-Api-Key: " + readerKey, "", 403, "ctmgate.forbidden"},
		{"what it still may", "GET " + servers, "X-Api-Key: " + readerKey, "", 200, ""},
		{"what it still may, by its token", "GET " + servers, "Authorization: Bearer " + staying, "", 200, ""},
	}
	conns := make([]io.Reader, len(rows))
	for i, row := range rows {
		conn := g.dial()
		header := strings.Replace(row.header, "LENGTH", strconv.Itoa(len(row.body)), 1)
		if _, err := io.WriteString(conn, row.line+" HTTP/1.1\r\nHost: "+g.addr+"\r\nX-Test-Hold: yes\r\n"+header+"\r\n\r\n"+row.body); err != nil {
			t.Fatal(err)
		}
		<-hold.arrived
		conns[i] = conn
	}
	before := up.Stats()
	err := g.load(file(accessClient("reader", readerKey, "allow GET /config/*")))
	close(hold.goOn)
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range rows {
		got := readReply(t, bufio.NewReader(conns[i]), "GET")
		if row.code == "" {
			if got.status != row.status {
				t.Errorf("%s: got %d %s, expected %d", row.name, got.status, got.body, row.status)
			}
			continue
		}
		t.Run(row.name, func(t *testing.T) { got.wantOwn(t, row.status, row.code) })
	}
	if s := up.Stats(); s.Calls != before.Calls+2 || s.Logins != before.Logins {
		t.Errorf("upstream saw %+v, before %+v", s, before)
	}
}

// Its session has ended by then, and there is a new one.
func TestARequestThatIsUnderWayDuringAReloadGoesWithTheNewSession(t *testing.T) {
	registerHold()
	hold.arrived, hold.goOn = make(chan struct{}), make(chan struct{})
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	file := func(more string) string {
		return quietFile(accessEnvironment(t, up.URL(), up.trusted(), more)+accessClient("nightly", nightlyKey, "allow * /*"),
			"route {", "test_hold", "controlm prod", "}")
	}
	g := startGateway(t, file("session_lifetime 30m"))
	g.do("GET", wireEcho, nil, asBearer(nightlyKey)).echoed(t)
	login := `{"username":"nightly","password":"` + nightlyKey + `"}`
	requests := []string{
		"GET " + wireEcho + " HTTP/1.1\r\nX-Api-Key: " + nightlyKey + "\r\n",
		"POST /automation-api/session/login HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(login)) + "\r\n",
	}
	var answers []*bufio.Reader
	for i, request := range requests {
		conn := g.dial()
		body := []string{"", login}[i]
		if _, err := io.WriteString(conn, request+"Host: "+g.addr+"\r\nX-Test-Hold: yes\r\n\r\n"+body); err != nil {
			t.Fatal(err)
		}
		<-hold.arrived
		answers = append(answers, bufio.NewReader(conn))
	}
	err := g.load(file("session_lifetime 20m"))
	waitUntil(t, "the old session has ended", func() bool { return up.Stats().Logouts == 1 })
	caddymodule.WaitForLogouts()
	close(hold.goOn)
	if err != nil {
		t.Fatal(err)
	}
	for i, in := range answers {
		if got := readReply(t, in, "GET"); got.status != 200 {
			t.Errorf("%q: got %d %s", requests[i], got.status, got.body)
		}
	}
	if s := up.Stats(); s.Logins != 2 || s.Logouts != 1 || s.RejectedCalls != 0 {
		t.Errorf("upstream saw %+v", s)
	}
}
