package caddymodule_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestWhatAReloadRemovesIsNotCountedAgain lets calls and a login end after the
// reload that took their names out of the config.
func TestWhatAReloadRemovesIsNotCountedAgain(t *testing.T) {
	reached, open := make(chan struct{}, 10), make(chan struct{})
	held := func() {
		reached <- struct{}{}
		<-open
	}
	up := newLocalServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/session/login"):
			body, _ := io.ReadAll(r.Body)
			if strings.Contains(string(body), "late") {
				held()
			}
			_, _ = io.WriteString(w, `{"token":"ABC","version":"9.22.0"}`)
		case strings.HasSuffix(r.URL.Path, "/held"):
			held()
			_, _ = io.WriteString(w, `{}`)
		}
	})
	account := func(name, user string) string {
		return "account " + name + " {\nusername " + user + "\npassword " + wirePassword(t) + "\n}\n"
	}
	environment := func(name, base string, accounts ...string) string {
		return "environment " + name + " {\nendpoint " + up + base + "\ndefault_account batch\n" + strings.Join(accounts, "") + "}\n"
	}
	batch := account("batch", "emuser")
	reader := accessClient("reader", readerKey, "allow * /*")
	metrics := "handle /metrics {\nmetrics\n}\n"
	before := accessFile(environment("prod", base, batch, account("reports", "reporter"))+environment("gone", "/gone", account("batch", "late"))+reader+
		accessClient("nightly", nightlyKey, "allow * /*")+accessClient("monthly", endedKey, "allow * /*", "account prod/reports"),
		metrics, "handle /gone/* {\ncontrolm gone\n}\nhandle {\ncontrolm prod\n}")
	after := accessFile(environment("prod", base, batch)+reader+accessClient("monthly", endedKey, "allow * /*"), metrics, "handle {\ncontrolm prod\n}")
	g := startGateway(t, before)

	var calls []*bufio.Reader
	ask := func(path, key string) {
		t.Helper()
		conn := g.dial()
		if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: "+g.addr+"\r\nX-Api-Key: "+key+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-reached
		calls = append(calls, bufio.NewReader(conn))
	}
	ask("/automation-api/held", readerKey)
	ask("/automation-api/held", nightlyKey)
	ask("/automation-api/held", endedKey)
	ask("/gone/config/servers", readerKey)
	if err := g.load(after); err != nil {
		t.Fatal(err)
	}
	close(open)
	for i, in := range calls {
		// JSON has no length beforehand, so its end is sent when the call has been
		// counted.
		if got := readReply(t, in, http.MethodGet); got.status != 200 {
			t.Errorf("call %d got %d %s", i, got.status, got.body)
		}
	}
	shown := g.getAfterLoad("/metrics", asBearer(readerKey)).body
	if want := `caddy_controlm_requests_total{account="batch",client="reader",code="200",environment="prod"} 1`; !strings.Contains(shown, want) {
		t.Errorf("the call of the old config is not counted under the names that stay: want %s", want)
	}
	for line := range strings.Lines(shown) {
		if strings.HasPrefix(line, "caddy_controlm_") &&
			(strings.Contains(line, `"gone"`) || strings.Contains(line, `"nightly"`) || strings.Contains(line, `"reports"`)) {
			t.Errorf("it shows again %s", line)
		}
	}
}
