package caddymodule_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

func TestAClientEndsWithTheReloadThatRemovesIt(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	environment := accessEnvironment(t, up.URL(), up.trusted())
	nightly, reader := accessClient("nightly", nightlyKey, "allow * /*"), accessClient("reader", readerKey, "allow * /*")
	g := startGateway(t, accessFile(environment+nightly+reader, "controlm prod"))
	token, others := g.logIn("nightly", nightlyKey), g.logIn("reader", readerKey)
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	kept := func(edit func(*http.Request)) (got reply) {
		t.Helper()
		// The old server may take an idle connection with it.
		waitUntil(t, "an answer", func() bool {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url(wireEcho), nil)
			if err != nil {
				t.Fatal(err)
			}
			edit(req)
			res, err := client.Do(req)
			if err != nil {
				return false
			}
			defer res.Body.Close()
			content, err := io.ReadAll(res.Body)
			got = reply{res.StatusCode, res.Header, string(content)}
			return err == nil
		})
		return got
	}
	for _, edit := range []func(*http.Request){asBearer(nightlyKey), asAPIKey(token), asBearer(readerKey)} {
		kept(edit).echoed(t)
	}
	if err := g.load(accessFile(environment+reader, "controlm prod")); err != nil {
		t.Fatal(err)
	}
	before := up.Stats()
	wantUnknown(t, kept(asBearer(nightlyKey)))
	wantUnknown(t, kept(asBasic("nightly", nightlyKey)))
	got := kept(asAPIKey(token))
	wantUnknown(t, got)
	if text := got.message(t); !strings.HasPrefix(text, "Session token is invalid or expired") {
		t.Errorf("it says %q", text)
	}
	if s := up.Stats(); s.Calls != before.Calls {
		t.Errorf("upstream saw %+v, before %+v", s, before)
	}
	kept(asBearer(readerKey)).echoed(t)
	kept(asBearer(others)).echoed(t)
	if s := up.Stats(); s.Logins != 1 {
		t.Errorf("upstream saw %+v; expected that the reload keeps the session", s)
	}
}

// TestABusyConnectionDoesNotOutliveItsClient holds a call open over the
// reload, so that the connection is the old server's still.
func TestABusyConnectionDoesNotOutliveItsClient(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	environment := accessEnvironment(t, up.URL(), up.trusted())
	nightly, reader := accessClient("nightly", nightlyKey, "allow * /*"), accessClient("reader", readerKey, "allow * /*")
	g := startGateway(t, accessFile(environment+nightly+reader, "controlm prod"))
	conn := g.dial()
	in := bufio.NewReader(conn)
	ask := func(path string) error {
		_, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: "+g.addr+"\r\nX-Api-Key: "+nightlyKey+"\r\n\r\n")
		return err
	}
	if err := ask("/automation-api/emulator/download?size=100&gate=one"); err != nil {
		t.Fatal(err)
	}
	// Its first byte is there, so it is under way.
	if _, err := in.Peek(1); err != nil {
		t.Fatal(err)
	}
	if err := g.load(accessFile(environment+reader, "controlm prod")); err != nil {
		t.Fatal(err)
	}
	wantReply(t, g.getAfterLoad("/automation-api/emulator/open?gate=one", asBearer(readerKey)), 200, "")
	if got := readReply(t, in, http.MethodGet); got.status != 200 || len(got.body) != 100 {
		t.Errorf("the call that was under way got %d and %d bytes", got.status, len(got.body))
	}
	calls := up.Stats().Calls
	err := ask(wireEcho)
	if err == nil {
		_, err = in.ReadByte()
	}
	if err == nil {
		t.Error("the connection answers one more call")
	} else if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "broken pipe") {
		t.Errorf("the connection ended with %v", err)
	}
	if s := up.Stats(); s.Calls != calls {
		t.Errorf("%d calls reached upstream", s.Calls-calls)
	}
}

// TestALoginHalfSentDoesNotOutliveTheLastClient begins a login before the
// reload and ends it after: it is the old config's to answer.
func TestALoginHalfSentDoesNotOutliveTheLastClient(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	environment := accessEnvironment(t, up.URL(), up.trusted())
	g := startGateway(t, accessFile(environment+accessClient("nightly", nightlyKey, "allow * /*"), "controlm prod"))
	conn := g.dial()
	body := `{"username": "nightly", "password": "` + nightlyKey + `"}`
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", loginPath, g.addr, len(body)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, " 100 ") { // the handler waits for the body
		t.Fatalf("got %q: %v", line, err)
	}
	if err := g.load(accessFile(environment, "controlm prod {\nadmit loopback\naccount batch\n}")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, body); err != nil {
		t.Fatal(err)
	}
	if _, err := in.ReadString('\n'); err != nil { // of the 100
		t.Fatal(err)
	}
	if got := readReply(t, in, http.MethodPost); got.status != 401 || strings.Contains(got.body, "ctmgt_") {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if s := up.Stats(); s.Logins != 0 {
		t.Errorf("upstream saw %+v", s)
	}
}

func TestRulesAndKeysOfAReloadHoldForTheNextCall(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	environment := accessEnvironment(t, up.URL(), up.trusted())
	g := startGateway(t, accessFile(environment+accessClient("nightly", nightlyKey, "allow * /*"), "controlm prod"))
	g.do(http.MethodGet, wireEcho, nil, asBearer(nightlyKey)).echoed(t)
	for _, c := range []struct {
		name, client string
		status       int
		code         string
	}{
		{"fewer rules", accessClient("nightly", nightlyKey, "allow GET /config/*"), 403, "ctmgate.forbidden"},
		{"another account", accessClient("nightly", nightlyKey, "allow * /*", "account prod/reports"), 200, ""},
		{"a key that has ended", "client nightly {\nkey_sha256 " + keyHash(nightlyKey) + " expires 2020-01-01\nallow * /*\n}\n", 401, "ctmgate.client_unauthenticated"},
		{"another key", accessClient("nightly", readerKey, "allow * /*"), 401, "ctmgate.client_unauthenticated"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := g.load(accessFile(environment+c.client, "controlm prod")); err != nil {
				t.Fatal(err)
			}
			got := g.getAfterLoad(wireEcho, asBearer(nightlyKey))
			wantReply(t, got, c.status, c.code)
			if c.status == 200 && got.echoed(t).SessionUser != "reporter" {
				t.Errorf("it was made with the old account: %s", got.body)
			}
		})
	}
	t.Run("a reload that fails changes nothing", func(t *testing.T) {
		wantError(t, g.load(accessFile(environment+"client nightly {\nkey_sha256 "+keyHash(nightlyKey)+"\n}\n", "controlm prod")), "allow read_only")
		wantUnknown(t, g.get(wireEcho))
		g.do(http.MethodGet, wireEcho, nil, asBearer(readerKey)).echoed(t)
	})
}

func TestTheAdminAPIShowsHashesAndNoKey(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	socket := adminSocket(t)
	file := accessFile(accessEnvironment(t, up.URL(), up.trusted())+accessClient("nightly", nightlyKey, "allow read_only"), "controlm prod")
	g := startGateway(t, strings.Replace(file, "{\n", "{\nadmin \"unix/"+socket+"|0600\"\n", 1))
	g.do(http.MethodGet, wireEcho, nil, asBearer(nightlyKey)).echoed(t)
	wantUnknown(t, g.do(http.MethodGet, wireEcho+"?token="+nightlyKey, nil, asAPIKey(wrongKey)))
	shown := fromAdmin(t, socket, "/config/")
	sweep(t, "the admin API", []byte(shown))
	if !strings.Contains(shown, keyHash(nightlyKey)) {
		t.Errorf("the admin API does not show the running config:\n%s", shown)
	}
}
