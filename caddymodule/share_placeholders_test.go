package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// toldHeader tells all placeholders in a header of each answer, once the
// gateway has run.
const toldHeader = `header >X-Told "{controlm.client}|{controlm.account}|{controlm.environment}|{controlm.operation}|{controlm.request_id}"`

func TestOtherDirectivesKnowWhatTheGatewayFound(t *testing.T) {
	_, g := startShare(t, "deny * /config/secret/*\nrate 1/h burst 20", toldHeader, caddysUsers, "controlm prod")
	for _, c := range []struct {
		name, method, path string
		edit               func(*http.Request)
		want               string // without the id
	}{
		{"a client with a key", "GET", "/config/servers", asBearer(nightlyKey), "nightly|batch|prod|GET /config/servers"},
		{"another, of another account", "GET", "/config/servers", asAPIKey(readerKey), "reader|reports|prod|GET /config/servers"},
		{"a HEAD", "HEAD", "/run/job/ctmprod:00001/status", asBearer(nightlyKey), "nightly|batch|prod|GET /run/job/{job}/status"},
		{"a call that is denied", "GET", "/config/secret/one", asBearer(nightlyKey), "nightly||prod|GET /config/secret/{name}"},
		{"a protected call", "GET", "/authentication/tokens", asBearer(nightlyKey), "nightly||prod|GET /authentication/tokens"},
		{"nobody", "GET", "/config/servers", nil, "||prod|GET /config/servers"},
		{"a wrong key", "GET", "/config/servers", asBearer(wrongKey), "||prod|GET /config/servers"},
		{"a wrong key under a right name", "GET", "/config/servers", asBasic("nightly", wrongKey), "||prod|GET /config/servers"},
		{"two keys", "GET", "/config/servers", together(asBearer(nightlyKey), asAPIKey(readerKey)), "||prod|GET /config/servers"},
		{"a user that is no client", "GET", "/config/servers", asked("other", teamPassword), "||prod|GET /config/servers"},
		{"a bad path", "GET", "/run/../config", asBearer(nightlyKey), "||prod|"},
		{"a path outside", "GET", "x", asBearer(nightlyKey), "||prod|"},
		{"a path that is none of the API's", "GET", "/config/server/a/b/c/d/e", asBearer(nightlyKey), "nightly|batch|prod|GET /config/server/*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := g.do(c.method, base+c.path, nil, c.edit)
			if want := c.want + "|" + got.header.Get("X-Request-Id"); got.header.Get("X-Told") != want {
				t.Errorf("with %d it tells %q, want %q", got.status, got.header.Get("X-Told"), want)
			}
		})
	}
	t.Run("a login", func(t *testing.T) {
		if got := g.tryLogIn("nightly", nightlyKey).header.Get("X-Told"); !strings.HasPrefix(got, "nightly|batch|prod|POST /session/login|") {
			t.Errorf("it tells %q", got)
		}
		if got := g.tryLogIn("nightly", wrongKey).header.Get("X-Told"); !strings.HasPrefix(got, "||prod|POST /session/login|") {
			t.Errorf("a wrong one tells %q", got)
		}
	})
}

// Each is a value of a label or a column somewhere: a caller must not be able
// to make ever more of them.
func TestThereAreNoMoreOperationsThanTheAPIHas(t *testing.T) {
	_, g := startShare(t, "", toldHeader, "controlm prod")
	told := map[string]bool{}
	for i := range 50 {
		for _, call := range []string{
			"GET /moon%d", "GET /run/job/ctmprod:%d/status", "GET /config/server/s%d/agents", "GET /config/%d/x", "GET /run/x/%d/y/z", "POST /a/b/c/%d",
			"GET /run/job/%d%%2Fx", "GET /config/server/a/sshkey/b/%d", "FETCH%d /config/servers", "G%dT /run/order", "get%d /x",
		} {
			method, path, _ := strings.Cut(fmt.Sprintf(call, i), " ")
			for _, key := range []string{nightlyKey, wrongKey} {
				got := g.rawCall(method, base+path, "Authorization: Bearer "+key, "Content-Length: 0")
				fields := strings.Split(got.header.Get("X-Told"), "|")
				if len(fields) != 5 {
					t.Fatalf("%s %s tells %q", method, path, fields)
				}
				told[fields[3]] = true
			}
		}
	}
	if len(told) > 12 {
		t.Errorf("%d operations, such as %q", len(told), slices.Sorted(maps.Keys(told))[:12])
	}
}

func TestTheAccessLogCanHaveTheClient(t *testing.T) {
	_, g := startShare(t, "", "log", "log_append client {controlm.client}", "log_append operation {controlm.operation}", "log_append call {controlm.request_id}", "controlm prod")
	ids := map[string]string{}
	for _, c := range []struct{ key, client string }{{nightlyKey, "nightly"}, {readerKey, "reader"}, {wrongKey, ""}} {
		ids[g.as(c.key, "GET", base+"/config/servers").header.Get("X-Request-Id")] = c.client
	}
	found := map[string]bool{}
	wireEventually(t, "all lines are there", func() bool {
		for text := range strings.Lines(g.logged()) {
			var line struct{ Msg, Client, Operation, Call string }
			if json.Unmarshal([]byte(text), &line) != nil || line.Msg != "handled request" {
				continue
			}
			if client, ok := ids[line.Call]; !ok || client != line.Client || line.Operation != "GET /config/servers" {
				t.Fatalf("the line is %s", text)
			}
			found[line.Call] = true
		}
		return len(found) == len(ids)
	})
}

var madeID = regexp.MustCompile(`^[A-Z2-7]{26}$`)

func TestARequestIDFollowsTheCallFromEndToEnd(t *testing.T) {
	up := startClientUpstream(t, emulator.Options{Users: twoUsers})
	g := startGateway(t, shareClients(t, up.url, "", "", ""))
	kept := []string{"a", "build-4711.step_3:retry/2+x=y@host", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", strings.Repeat("x", 128)}
	made := []string{
		"", " ", strings.Repeat("x", 129), strings.Repeat("x", 10_000), "a b", "a\tb", `a"b`, "a'b", `a\b`, "a,b", "a;b", "a{b}", "{controlm.client}", "<script>", "a%0ab",
		"m\u00fcller", "a\u2028b", "\xff", "$(id)", "a&b", "a|b", "a?b", "a#b", "`a`",
	}
	call := func(id string) (got reply, arrived []string) {
		t.Helper()
		before := len(up.calls())
		got = g.rawCall("GET", wireEcho, "Authorization: Bearer "+nightlyKey, "X-Request-Id: "+id)
		calls := up.calls()[before:]
		if len(calls) != 1 {
			t.Fatalf("%q: %d calls arrived, got %d %s", id, len(calls), got.status, got.body)
		}
		return got, calls[0].header["X-Request-Id"]
	}
	for _, id := range kept {
		got, arrived := call(id)
		if !slices.Equal(got.header["X-Request-Id"], []string{id}) || !slices.Equal(arrived, []string{id}) || g.auditOf(got).RequestID != id {
			t.Errorf("%q came back as %q and arrived as %q", id, got.header["X-Request-Id"], arrived)
		}
	}
	seen := map[string]bool{}
	for _, id := range made {
		got, arrived := call(id)
		own := got.header.Get("X-Request-Id")
		if len(got.header["X-Request-Id"]) != 1 || !madeID.MatchString(own) || seen[own] || !slices.Equal(arrived, []string{own}) {
			t.Errorf("%.40q came back as %q and arrived as %q", id, got.header["X-Request-Id"], arrived)
		}
		seen[own] = true
		if line := g.auditOf(got); id != "" && len(id) > 1 && strings.Contains(line.text, id) {
			t.Errorf("the audit line of %.40q is %.300s", id, line.text)
		}
	}
	t.Run("of several, the first counts", func(t *testing.T) {
		before := len(up.calls())
		got := g.rawCall("GET", wireEcho, "Authorization: Bearer "+nightlyKey, "X-Request-Id: one", "X-Request-Id: two")
		if arrived := up.calls()[before].header["X-Request-Id"]; !slices.Equal(got.header["X-Request-Id"], []string{"one"}) || !slices.Equal(arrived, []string{"one"}) {
			t.Errorf("came back as %q and arrived as %q", got.header["X-Request-Id"], arrived)
		}
	})
	t.Run("one that is missing is made", func(t *testing.T) {
		before := len(up.calls())
		got := g.as(nightlyKey, "GET", wireEcho)
		own := got.header.Get("X-Request-Id")
		if arrived := up.calls()[before].header["X-Request-Id"]; !madeID.MatchString(own) || !slices.Equal(arrived, []string{own}) {
			t.Errorf("came back as %q and arrived as %q", own, arrived)
		}
	})
	t.Run("one of upstream does not come beside it", func(t *testing.T) {
		got := g.asWith(nightlyKey, "GET", base+"/emulator/answer?header=X-Request-Id:theirs&header=x-request-ID:more", "X-Request-Id: mine")
		if !slices.Equal(got.header["X-Request-Id"], []string{"mine"}) {
			t.Errorf("came back as %q", got.header["X-Request-Id"])
		}
	})
}

// Who asks for help with an error needs it most.
func TestEachErrorOfTheGatewaysOwnHasARequestID(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	g := startGateway(t, shareClients(t, up.URL(), up.trusted(), "rate 1/h burst 1\nmax_body 1B", "deny * /config/secret/*",
		"handle_path /here/* {\ncontrolm prod {\nadmit loopback\n}\n}", "controlm prod"))
	g.as(nightlyKey, "GET", wireEcho).echoed(t)
	for _, c := range []struct {
		code, method, path string
		edit               func(*http.Request)
	}{
		{"ctmgate.not_admitted", "GET", "/here" + wireEcho, asHeader("Origin", "https://evil.example")},
		{"ctmgate.client_unauthenticated", "GET", wireEcho, nil},
		{"ctmgate.client_unauthenticated", "GET", wireEcho, asBearer("ctmgt_x")},
		{"ctmgate.client_unauthenticated", "POST", loginPath, nil},
		{"ctmgate.ambiguous_credentials", "GET", wireEcho, together(asBearer(nightlyKey), asAPIKey(readerKey))},
		{"ctmgate.rate_limited", "GET", wireEcho, asBearer(nightlyKey)},
		{"ctmgate.method_not_allowed", "TRACE", wireEcho, asBearer(readerKey)},
		{"ctmgate.method_not_allowed", "GET", loginPath, asBearer(readerKey)},
		{"ctmgate.forbidden", "GET", base + "/config/secret/one", asBearer(readerKey)},
		{"ctmgate.protected", "GET", base + "/authentication/tokens", asBearer(readerKey)},
		{"ctmgate.outside_api", "GET", "/other", asBearer(readerKey)},
		{"ctmgate.bad_path", "GET", base + "/run/..%2Fx", asBearer(readerKey)},
	} {
		t.Run(c.code+" of "+c.path, func(t *testing.T) {
			for _, id := range []string{"mine-1", ""} {
				got := g.do(c.method, c.path, nil, func(r *http.Request) {
					if c.edit != nil {
						c.edit(r)
					}
					if id != "" {
						r.Header.Set("X-Request-Id", id)
					}
				})
				if own := got.header["X-Request-Id"]; got.code() != c.code || len(own) != 1 || id != "" && own[0] != id || id == "" && !madeID.MatchString(own[0]) {
					t.Errorf("got %d %s with the id %q", got.status, got.body, own)
				}
			}
		})
	}
	t.Run("ctmgate.upstream_unreachable", func(t *testing.T) {
		wireFaults(t, up.Emulator, "calls=close")
		got := g.asWith(readerKey, "POST", wireEcho, "X-Request-Id: mine-2")
		if own := got.header["X-Request-Id"]; got.code() != "ctmgate.upstream_unreachable" || !slices.Equal(own, []string{"mine-2"}) {
			t.Errorf("got %d %s with the id %q", got.status, got.body, own)
		}
	})
}

// A WebSocket's answer goes straight from upstream to the connection.
func TestAWebSocketHasARequestIDToo(t *testing.T) {
	up := startClientUpstream(t, emulator.Options{Users: twoUsers})
	g := startGateway(t, shareClients(t, up.url, "", "", ""))
	s, got := g.socket("X-Api-Key: "+nightlyKey, "X-Request-Id: socket-1")
	if s == nil {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	if calls := up.calls(); !slices.Equal(calls[len(calls)-1].header["X-Request-Id"], []string{"socket-1"}) {
		t.Errorf("it arrived as %q", calls[len(calls)-1].header["X-Request-Id"])
	}
	if !slices.Equal(got.header["X-Request-Id"], []string{"socket-1"}) {
		t.Errorf("it came back as %q", got.header["X-Request-Id"])
	}
}
