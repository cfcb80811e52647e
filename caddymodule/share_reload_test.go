package caddymodule_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/access"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

// openSocket opens a WebSocket and reads its first message.
func (g *gateway) openSocket(lines ...string) *wireSocket {
	g.t.Helper()
	s, got := g.socket(lines...)
	if s == nil {
		g.t.Fatalf("a WebSocket got %d %s", got.status, got.body)
	}
	s.receive()
	return s
}

// wantClosed fails the test unless the gateway closes the socket.
func (s *wireSocket) wantClosed(what string) {
	s.t.Helper()
	_ = s.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, s.in); err != nil && !strings.Contains(err.Error(), "reset") {
		s.t.Errorf("%s: the socket is not closed: %v", what, err)
	}
}

func TestAReloadThatRemovesAClientEndsAllItHas(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	environment := accessEnvironment(t, up.URL(), up.trusted())
	nightly, reader := accessClient("nightly", nightlyKey, "allow * /*"), accessClient("reader", readerKey, "allow * /*")
	g := startGateway(t, quietFile(environment+nightly+reader, "controlm prod"))
	token, others := g.logIn("nightly", nightlyKey), g.logIn("reader", readerKey)
	sockets := map[string]*wireSocket{
		"by key": g.openSocket("X-Api-Key: " + nightlyKey), "by Bearer": g.openSocket("Authorization: Bearer " + nightlyKey), "by token": g.openSocket("Authorization: Bearer " + token),
	}
	staying := []*wireSocket{g.openSocket("X-Api-Key: " + readerKey), g.openSocket("Authorization: Bearer " + others)}
	conn := g.dial()
	in := bufio.NewReader(conn)
	ask := func(key string) error {
		_, err := io.WriteString(conn, "GET "+wireEcho+" HTTP/1.1\r\nHost: "+g.addr+"\r\nX-Api-Key: "+key+"\r\n\r\n")
		return err
	}
	if err := ask(nightlyKey); err != nil {
		t.Fatal(err)
	}
	readReply(t, in, "GET").echoed(t)
	if err := g.load(quietFile(environment+reader, "controlm prod")); err != nil {
		t.Fatal(err)
	}
	before := up.Stats()
	for name, s := range sockets {
		s.wantClosed(name)
	}
	// The old server closes the connection, or the new one answers on it.
	if ask(nightlyKey) == nil {
		if _, err := in.Peek(1); err == nil {
			wantUnknown(t, readReply(t, in, "GET"))
		}
	}
	wantUnknown(t, g.getAfterLoad(wireEcho, asBearer(nightlyKey)))
	if got := g.getAfterLoad(wireEcho, asBearer(token)); got.status != 401 || !strings.HasPrefix(got.message(t), "Session token is invalid or expired") {
		t.Errorf("its token got %d %s", got.status, got.body)
	}
	wantUnknown(t, g.tryLogIn("nightly", nightlyKey))
	if s := up.Stats(); s.Calls != before.Calls {
		t.Errorf("upstream saw %+v, before %+v", s, before)
	}
	for _, s := range staying {
		s.pingPong("the other client's stays")
	}
	g.do("GET", wireEcho, nil, asBearer(others)).echoed(t)
	g.do("GET", wireEcho, nil, asAPIKey(readerKey)).echoed(t)
}

// What a reload takes away from a client ends its WebSockets as well, however
// many reloads have gone over them.
func TestAWebSocketStaysAsLongAsItsClientMayHaveIt(t *testing.T) {
	const second = canaryKey + "-second"
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	environment := accessEnvironment(t, up.URL(), up.trusted())
	reader := accessClient("reader", readerKey, "allow * /*")
	client := func(lines ...string) string {
		return quietFile(environment+"client nightly {\n"+strings.Join(lines, "\n")+"\n}\n"+reader, caddysUsers, "controlm prod")
	}
	one, two, user, allow := "key_sha256 "+keyHash(nightlyKey)+" one", "key_sha256 "+keyHash(second)+" two", "user team", "allow * /*"
	all := client(one, two, user, allow)
	byUser := []string{"X-Asked: 1", "Authorization: " + basicHeader("team", teamPassword)}
	for _, c := range []struct {
		name  string
		lines []string // how the client proves itself
		next  string
		stays bool
	}{
		{"nothing changed", []string{"X-Api-Key: " + nightlyKey}, all, true},
		{"a limit more", []string{"X-Api-Key: " + nightlyKey}, client(one, two, user, allow, "rate 1/h burst 1\nmax_concurrent 1"), true},
		{"another key removed", []string{"X-Api-Key: " + nightlyKey}, client(one, user, allow), true},
		{"narrower rules that have it", []string{"X-Api-Key: " + nightlyKey}, client(one, "allow GET /run/alerts/*"), true},
		{"its key removed", []string{"X-Api-Key: " + nightlyKey}, client(two, user, allow), false},
		{"its key ended", []string{"X-Api-Key: " + nightlyKey}, client(one+" expires 2020-01-01", two, user, allow), false},
		{"its key another's", []string{"X-Api-Key: " + nightlyKey},
			quietFile(environment+reader+"client other {\n"+one+"\n"+allow+"\n}\nclient nightly {\n"+two+"\n"+allow+"\n}\n", "controlm prod"), false},
		{"its user removed", byUser, client(one, two, allow), false},
		{"its user still there", byUser, client(user, allow), true},
		{"its rule removed", []string{"X-Api-Key: " + nightlyKey}, client(one, two, user, "allow GET /config/*"), false},
		{"a deny more", []string{"X-Api-Key: " + nightlyKey}, client(one, two, user, allow, "deny * /Run/*"), false},
		{"no client any more", []string{"X-Api-Key: " + nightlyKey}, quietFile(environment, "controlm prod {\nadmit loopback\n}"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := startGateway(t, all)
			s, staying := g.openSocket(c.lines...), g.openSocket("X-Api-Key: "+readerKey)
			if err := g.load(c.next); err != nil {
				t.Fatal(err)
			}
			if c.stays {
				s.pingPong("still there")
			} else {
				s.wantClosed("it")
			}
			if c.name != "no client any more" {
				staying.pingPong("the other client's stays")
			}
		})
	}
	t.Run("over several reloads", func(t *testing.T) {
		g := startGateway(t, all)
		first, staying := g.openSocket("X-Api-Key: "+nightlyKey), g.openSocket("X-Api-Key: "+readerKey)
		again := func(option string) string { return strings.Replace(all, "{\ncontrolm", "{\n"+option+"\ncontrolm", 1) }
		for _, option := range []string{"grace_period 7s", "grace_period 8s"} {
			if err := g.load(again(option)); err != nil {
				t.Fatal(err)
			}
			first.pingPong("after another reload")
		}
		second := g.openSocket("X-Api-Key: " + nightlyKey)
		if err := g.load(client(two, user, allow)); err != nil {
			t.Fatal(err)
		}
		second.wantClosed("the one of the last config")
		first.wantClosed("the one of the first config")
		staying.pingPong("the other client's stays")
	})
}

// basicHeader is the value of Authorization for Basic.
func basicHeader(name, password string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(name, password)
	return r.Header.Get("Authorization")
}

func TestATokenEndsWithTheKeyThatItWasHadWith(t *testing.T) {
	const second = canaryKey + "-second"
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	environment := accessEnvironment(t, up.URL(), up.trusted())
	client := func(lines ...string) string {
		return quietFile(environment+"client nightly {\n"+strings.Join(append(lines, "allow * /*"), "\n")+"\n}\n", "controlm prod")
	}
	one, two := "key_sha256 "+keyHash(nightlyKey)+" one", "key_sha256 "+keyHash(second)+" two"
	g := startGateway(t, client(one, two))
	first, other := g.logIn("nightly", nightlyKey), g.logIn("nightly", second)
	want := func(what string, got reply, status int) {
		t.Helper()
		if got.status != status || status == 401 && !strings.HasPrefix(got.message(t), "Session token is invalid or expired") {
			t.Errorf("%s: got %d %s, want %d", what, got.status, got.body, status)
		}
	}
	for _, step := range []struct {
		name, config  string
		first, second int
	}{
		{"both keys, the other way round", client(two, one), 200, 200},
		{"the second alone", client(two), 401, 200},
		{"both again", client(one, two), 200, 200},
		{"the first ended", client(one+" expires 2020-01-01", two), 401, 200},
		{"the first alone", client(one), 200, 401},
		{"another name for the key", client("key_sha256 " + keyHash(nightlyKey) + " renamed"), 200, 401},
		{"the keys of another client", strings.Replace(client(one, two), "client nightly", "client other", 1), 401, 401},
	} {
		if err := g.load(step.config); err != nil {
			t.Fatal(err)
		}
		want(step.name+", the first token", g.getAfterLoad(wireEcho, asBearer(first)), step.first)
		want(step.name+", the second token", g.getAfterLoad(wireEcho, asAPIKey(other)), step.second)
	}
	if s := up.Stats(); s.Logins != 1 || s.Logouts != 0 {
		t.Errorf("upstream saw %+v; expected that the session outlives all that", s)
	}
}

// shownClient is a client as the admin API tells of it.
type shownClient struct {
	Client string
	Keys   []struct {
		Name     string
		Ends     *time.Time
		LastUsed *time.Time `json:"last_used"`
	}
}

func TestTheAdminAPITellsWhenAKeyWasLastUsed(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	socket := adminSocket(t)
	// Keys of this test's own: what is told of a key is remembered by the process.
	old, current, others := access.NewKey(), access.NewKey(), access.NewKey()
	file := quietFile(accessEnvironment(t, up.URL(), up.trusted())+"client nightly {\nkey_sha256 "+keyHash(old)+" 2025-key\nkey_sha256 "+keyHash(current)+" 2026-key expires 2999-12-31\nallow read_only\n}\n"+
		accessClient("reader", others, "allow read_only")+"client people {\nuser team\nallow read_only\n}\n", "controlm prod")
	g := startGateway(t, strings.Replace(file, "{\n", "{\nadmin \"unix/"+socket+"|0600\"\n", 1))
	look := func() map[string]*time.Time {
		t.Helper()
		text := fromAdmin(t, socket, "/controlm/clients")
		for _, secret := range []string{old, current, others, keyHash(old), keyHash(current), keyHash(others), keyHash(old)[:16], "sha256"} {
			if strings.Contains(text, secret) {
				t.Errorf("the admin API shows %.12s…: %s", secret, text)
			}
		}
		var list []shownClient
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if len(list) != 3 || list[0].Client != "nightly" || list[1].Client != "people" || list[2].Client != "reader" || len(list[0].Keys) != 2 || list[1].Keys == nil ||
			len(list[1].Keys) != 0 || len(list[2].Keys) != 1 || list[0].Keys[0].Ends != nil || list[0].Keys[1].Ends == nil || !list[0].Keys[1].Ends.Equal(time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)) {
			t.Fatalf("it tells %s", text)
		}
		return map[string]*time.Time{"old": list[0].Keys[0].LastUsed, "current": list[0].Keys[1].LastUsed, "others": list[2].Keys[0].LastUsed}
	}
	if used := look(); used["old"] != nil || used["current"] != nil || used["others"] != nil {
		t.Errorf("before the first call it tells %v", used)
	}
	wantUnknown(t, g.as(current+"x", "GET", base+"/config/servers"))
	wantReply(t, g.do("GET", base+"/config/servers?token="+current, nil, nil), 401, "ctmgate.client_unauthenticated")
	if used := look(); used["old"] != nil || used["current"] != nil || used["others"] != nil {
		t.Errorf("after wrong keys it tells %v", used)
	}
	begun := time.Now().Truncate(time.Second)
	wantReply(t, g.as(current, "GET", base+"/config/servers"), 200, "")
	used := look()
	if at := used["current"]; at == nil || at.Before(begun) || at.After(time.Now()) || used["old"] != nil || used["others"] != nil {
		t.Errorf("after a call at %s it tells %v", begun, used)
	}
	t.Run("also by a token, and over a reload", func(t *testing.T) {
		token := g.logIn("reader", others)
		first := look()["others"]
		if first == nil {
			t.Fatal("a login is no use of a key")
		}
		if err := g.load(strings.Replace(file, "{\n", "{\nadmin \"unix/"+socket+"|0600\"\ngrace_period 7s\n", 1)); err != nil {
			t.Fatal(err)
		}
		if again := look(); again["others"] == nil || !again["others"].Equal(*first) || again["current"] == nil || again["old"] != nil {
			t.Errorf("after a reload it tells %v", again)
		}
		wireEventually(t, "a call with the token counts", func() bool {
			wantReply(t, g.getAfterLoad(base+"/config/servers", asBearer(token)), 200, "")
			return look()["others"].After(*first)
		})
	})
	t.Run("and a reload is no use of a key", func(t *testing.T) {
		s := g.openSocket("X-Api-Key: " + current)
		first := look()["current"]
		// The next second, or the time would be the same.
		<-time.After(time.Until(first.Add(1100 * time.Millisecond)))
		if err := g.load(strings.Replace(file, "{\n", "{\nadmin \"unix/"+socket+"|0600\"\ngrace_period 8s\n", 1)); err != nil {
			t.Fatal(err)
		}
		s.pingPong("still there")
		if again := look()["current"]; !again.Equal(*first) {
			t.Errorf("nobody has shown it since %s, and it tells %s", first, again)
		}
	})
	t.Run("to those who ask with GET", func(t *testing.T) {
		for method, want := range map[string]int{"POST": 405, "DELETE": 405, "PUT": 405} {
			if status := adminStatus(t, socket, method, "/controlm/clients"); status != want {
				t.Errorf("%s gets %d, want %d", method, status, want)
			}
		}
		if status := adminStatus(t, socket, "GET", "/controlm/clients/nightly"); status != 404 {
			t.Errorf("what lies below gets %d", status)
		}
	})
}
