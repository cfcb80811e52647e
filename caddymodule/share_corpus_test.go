package caddymodule_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// corpusPieces are what attacks on paths are made of.
var corpusPieces = []string{
	".", "..", "...", "%2e", "%2E%2e", ".%2e", "%252e%252e", "%25252e", "%252525252e", "/", "//", "%2f", "%2F", "%252f", "%5c", "%255c", `\`, ";", ";x=1", "%3b", "%253b",
	"?", "?/", "?a=../..", "#", "%23", "%3f", "%00", "%2500", "%c0%ae", "%c0%af", "%e0%80%ae", "%ff", "%u002e", "%", "%2", "%zz", "%20", "%09", "%0d%0a", "%7f",
	"%E2%80%A5", "%EF%BC%8E", "%EF%BC%8F", "%E2%88%95", "x", "JOBS", "job", "config", "session", "logout", "run", "automation-api", ":", "@", "*", "{x}", "<", "\"", "é",
}

// corpus are targets that begin below what the client may call, as attacks do.
func corpus() (targets []string) {
	for i, a := range corpusPieces {
		targets = append(targets, "/run/"+a, "/run"+a, "/"+a+"/run/x", a+"/run/x", "/run/"+a+"/config/servers", "/run"+a+"config/servers")
		for j, b := range corpusPieces {
			switch (i + j) % 3 {
			case 0:
				targets = append(targets, "/run/"+a+b)
			case 1:
				targets = append(targets, "/run/"+a+b+"config/servers")
			case 2:
				targets = append(targets, "/run/x"+a+b+"/session/logout")
			}
		}
	}
	for _, malformed := range malformedPaths {
		targets = append(targets, strings.TrimPrefix(malformed.path, base))
	}
	return append(targets,
		"/run/jobs/status", "/run/job/ctmprod:00001/status", "/run/job/ctmprod%3A00001/output", "/run/job/a%2Fb/status", "/run/a/b/c/d/e", "/run/jobs/status/",
		"/run/jobs/status?/../config", "/run/jobs/status?a=%2e%2e%2f", "/run/.hidden", "/run/a..b/c", "/run/a.b.c", "/run/x;y", "/runs/x", "/ru", "/run", "/run/", "/RUN/x", "/Run/x",
		"/%72un/x", "/r%75n/x", "/run%2Fx", "/run%2fjobs/status", "/x/../run/y", "/config/servers?/run/x", "/config/servers#/run/x", "/config/servers%3F/run/x", "/config/servers;/run/x",
		"/config/../run/x", "/config/..%2frun/x", "/config%2f..%2frun/x", "/run/x/..", "/run/x/../..", "/run/x/%2e%2e/%2e%2e/session/logout", "/run/..%00/session/logout",
		"/run/..%ef%bc%8fsession", "/run/%2e%2e%5csession", "/run/x%2f%2e%2e%2f%2e%2e%2fsession%2flogout", "/run/x%252f%252e%252e%252fsession",
	)
}

// lenientPaths are what a path may come to at a server that decodes, once or
// several times, cuts off what it takes for parameters or a query, takes a
// backslash for a slash, and resolves dots, before or after.
func lenientPaths(path string) (all []string) {
	for layer := range 6 {
		slashes := strings.ReplaceAll(path, `\`, "/")
		for _, text := range []string{path, slashes, cutAtAny(path, "?#\x00"), cutAtAny(slashes, "?#\x00")} {
			for _, cut := range []bool{false, true} {
				read := resolved(text, cut)
				if decoded, err := url.PathUnescape(read); layer == 0 && err == nil {
					read = decoded // each server decodes once
				}
				all = append(all, read)
			}
		}
		decoded, err := url.PathUnescape(path)
		if err != nil || decoded == path {
			break
		}
		path = decoded
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func cutAtAny(text, bytes string) string {
	if i := strings.IndexAny(text, bytes); i >= 0 {
		return text[:i]
	}
	return text
}

func resolved(path string, cutParameters bool) string {
	var kept []string
	for segment := range strings.SplitSeq(path, "/") {
		if cutParameters {
			segment = cutAtAny(segment, ";\x00")
		}
		switch strings.TrimSpace(segment) {
		case "", ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, segment)
		}
	}
	return "/" + strings.Join(kept, "/")
}

// TestTheCorpusKnowsWhatALenientServerMakesOfAPath is of use to the one below.
func TestTheCorpusKnowsWhatALenientServerMakesOfAPath(t *testing.T) {
	const out = "/automation-api/session"
	for _, path := range []string{
		"/run/../session", "/run/%2e%2e/session", "/run/%252e%252e/session", "/run/..%2fsession", "/run/..%252fsession", `/run/..\session`, "/run/..%5csession",
		"/run/..;/session", "/run/..;x=1/session", "/run/..%3b/session", "//session", "/./session", "/run/ ../session", "/run/..%00/session", "/session?/run", "/session%3f/run/x",
		"/session%23/run/x",
	} {
		if reads := lenientPaths(base + path); !slices.Contains(reads, out) {
			t.Errorf("%s is read as %q", path, reads)
		}
	}
	if reads := lenientPaths(base + "/run/job/a%2Fb/status/"); slices.ContainsFunc(reads, func(read string) bool { return !strings.HasPrefix(read, base+"/run/") }) {
		t.Errorf("a plain path is read as %q", reads)
	}
}

// rawSession sends one request after the other on a connection, and opens a
// new one where the last was closed.
type rawSession struct {
	g    *gateway
	conn net.Conn
	in   *bufio.Reader
}

func (s *rawSession) get(target string, lines ...string) reply {
	s.g.t.Helper()
	if s.conn == nil {
		s.conn = s.g.dial()
		s.in = bufio.NewReader(s.conn)
	}
	if _, err := io.WriteString(s.conn, "GET "+target+" HTTP/1.1\r\nHost: "+s.g.addr+"\r\n"+strings.Join(append(lines, "\r\n"), "\r\n")); err != nil {
		s.g.t.Fatal(err)
	}
	res, err := http.ReadResponse(s.in, nil)
	if err != nil {
		s.g.t.Fatalf("%q: %v", target, err)
	}
	content, err := io.ReadAll(res.Body)
	if err != nil {
		s.g.t.Fatalf("%q: %v", target, err)
	}
	if res.Close {
		_ = s.conn.Close()
		s.conn = nil
	}
	return reply{res.StatusCode, res.Header, string(content)}
}

// TestWhatIsDecidedOfAPathIsWhatIsSent has a client that may GET /run/* alone.
func TestWhatIsDecidedOfAPathIsWhatIsSent(t *testing.T) {
	for _, mount := range []struct{ name, prefix, site string }{
		{"at the root", "", "controlm prod"}, {"under a prefix", "/prod", "handle_path /prod/* {\ncontrolm prod\n}\nrespond 404"},
	} {
		t.Run(mount.name, func(t *testing.T) {
			up := startFront(t, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(http.StatusNoContent) })
			app := strings.ReplaceAll(accessEnvironment(t, up.url), "username reporter", "username emuser") +
				accessClient("runner", readerKey, "allow GET /run/*")
			g := startGateway(t, quietFile(app, mount.site))
			targets := corpus()
			if mount.prefix != "" {
				targets = targets[len(targets)-200:]
			}
			type outcome struct {
				target  string
				got     reply
				arrived []string
			}
			outcomes := map[string]outcome{}
			session := &rawSession{g: g}
			for i, target := range targets {
				if !strings.HasPrefix(target, "//automation-api") && !strings.HasPrefix(target, "/..") && !strings.HasPrefix(target, "automation-api") {
					target = base + target
				}
				target = mount.prefix + target
				id, before := fmt.Sprint("corpus-", i), len(up.arrived())
				got := session.get(target, "Authorization: Bearer "+readerKey, "X-Request-Id: "+id)
				outcomes[id] = outcome{target, got, up.arrived()[before:]}
			}
			lines := map[string]auditLine{}
			wireEventually(t, "each request that came to the gateway has its line", func() bool {
				for _, line := range audited(t, g.log) {
					lines[line.RequestID] = line
				}
				for id, o := range outcomes {
					if _, ok := lines[id]; !ok && o.got.header.Get("X-Request-Id") != "" {
						return false
					}
				}
				return true
			})
			forwarded := 0
			for id, o := range outcomes {
				line, known := lines[id]
				path, _, _ := strings.Cut(o.target, "?")
				if known && line.Path != path && !strings.HasSuffix(line.Path, "REDACTED") && utf8.ValidString(path) {
					t.Errorf("%q: the audit line has the path %q", o.target, line.Path)
				}
				if len(o.arrived) == 0 {
					if known && line.Decision != "denied" || o.got.status < 400 || o.got.status > 405 {
						t.Errorf("%q was not sent; the caller got %d %s, and the audit line says %s", o.target, o.got.status, o.got.body, line.text)
					}
					continue
				}
				forwarded++
				if want := "GET " + strings.TrimPrefix(o.target, mount.prefix); !slices.Equal(o.arrived, []string{want}) {
					t.Errorf("%q arrived as %q", o.target, o.arrived)
				}
				if !known || line.Decision != "allowed" || line.Rule != "allow GET /run/*" || o.got.status != 204 {
					t.Errorf("%q was sent, and the caller got %d; the audit line says %s", o.target, o.got.status, line.text)
				}
				for _, read := range lenientPaths(strings.TrimPrefix(path, mount.prefix)) {
					if read != base+"/run" && !strings.HasPrefix(read, base+"/run/") {
						t.Errorf("%q was sent, and a server may take it for %q", o.target, read)
					}
				}
			}
			if forwarded == 0 || forwarded > len(targets)/2 {
				t.Errorf("%d of %d were sent", forwarded, len(targets))
			}
			t.Logf("%d of %d were sent", forwarded, len(targets))
		})
	}
}
