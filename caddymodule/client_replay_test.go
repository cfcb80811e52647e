package caddymodule_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// exchange is one request of a client, as it was seen on the wire.
//
// In send and body, {HOST} is the gateway, {TOKEN} the token of the login
// before, {RUN} the runId, and {STATUS} and {OUTPUT} the statusURI and the
// first outputURI of the answers before, as targets.
type exchange struct {
	send   string // request line and headers but for Host and the length of body
	body   string
	status int
	has    string // in the answer
	own    bool   // answered by the gateway itself
	times  int    // how often upstream sees it; 0: once
	fault  string // of the emulator, from here on
}

// clientScript is what one client does, from its first request to its last.
type clientScript struct {
	name   string
	steps  []exchange
	logins int // that upstream sees; 0: one
}

// conversation is a client at work.
type conversation struct {
	t     testing.TB
	g     *gateway
	up    *clientUpstream
	conn  net.Conn
	in    *bufio.Reader
	known map[string]string
}

func TestClientScriptsGoThroughUnchanged(t *testing.T) {
	for _, script := range clientScripts() {
		t.Run(script.name, func(t *testing.T) {
			up := startClientUpstream(t, emulator.Options{})
			g := startGateway(t, wireSite(up.url, wireUser(t)))
			c := &conversation{t: t, g: g, up: up, known: map[string]string{"{HOST}": g.addr}}
			for _, step := range script.steps {
				c.play(step)
			}
			// What the gateway logs out is a session of its own that was rejected.
			if s, want := up.Stats(), max(1, script.logins); s.Logins != want || s.Logouts >= want || s.LiveSessions < 1 {
				t.Errorf("upstream saw %+v", s)
			}
			for _, login := range up.logins() {
				if !strings.Contains(login, `"emuser"`) {
					t.Errorf("upstream got a login of the client's: %s", login)
				}
			}
		})
	}
}

// play makes one exchange, and looks at both ends of it.
func (c *conversation) play(x exchange) {
	c.t.Helper()
	if x.fault != "" {
		fault, err := emulator.ParseFault(x.fault)
		if err != nil {
			c.t.Fatal(err)
		}
		c.up.SetFaults(fault)
	}
	send, body := c.fill(x.send), c.fill(x.body)
	before := len(c.up.calls())
	got := c.exchange(send, body)
	if got.status != x.status || !strings.Contains(got.body, x.has) {
		c.t.Fatalf("%s\ngot %d %s\nwant %d with %q", send, got.status, got.body, x.status, x.has)
	}
	if strings.Contains(got.body, c.up.host+"/automation-api") {
		c.t.Errorf("%s\nthe answer names upstream: %s", send, got.body)
	}
	c.learn(got)
	arrived := c.up.calls()[before:]
	want := max(1, x.times)
	if x.own {
		want = 0
	}
	if len(arrived) != want {
		c.t.Fatalf("%s\nupstream got %d requests, want %d", send, len(arrived), want)
	}
	for _, a := range arrived {
		c.compare(send, body, a)
	}
}

func (c *conversation) fill(text string) string {
	for name, value := range c.known {
		text = strings.ReplaceAll(text, name, value)
	}
	return text
}

// exchange sends bytes as they stand, on the connection of the request before
// if that still lives.
func (c *conversation) exchange(send, body string) reply {
	c.t.Helper()
	if c.conn == nil {
		c.conn = c.g.dial()
		c.in = bufio.NewReader(c.conn)
	}
	line, headers, _ := strings.Cut(send, "\n")
	raw := line + " HTTP/1.1\r\nHost: " + c.g.addr + "\r\n" + strings.ReplaceAll(headers, "\n", "\r\n")
	if headers != "" {
		raw += "\r\n"
	}
	if body != "" {
		raw += "Content-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	if _, err := io.WriteString(c.conn, raw+"\r\n"+body); err != nil {
		c.t.Fatal(err)
	}
	method, _, _ := strings.Cut(send, " ")
	got := readReply(c.t, c.in, method)
	if strings.Contains(headers, "Connection: close") {
		_ = c.conn.Close()
		c.conn = nil
	}
	return got
}

// learn takes what a client takes from an answer.
func (c *conversation) learn(got reply) {
	c.t.Helper()
	var said struct {
		Token, RunID, StatusURI string
		Statuses                []struct{ OutputURI string }
	}
	_ = json.Unmarshal([]byte(got.body), &said) // lists and texts have nothing to learn
	if len(said.Statuses) > 0 {
		c.keep("{OUTPUT}", said.Statuses[0].OutputURI)
	}
	c.keep("{STATUS}", said.StatusURI)
	for name, value := range map[string]string{"{TOKEN}": said.Token, "{RUN}": said.RunID} {
		if value != "" {
			c.known[name] = value
		}
	}
}

// keep learns a URL, which has to lead back here.
func (c *conversation) keep(name, url string) {
	c.t.Helper()
	if !strings.HasPrefix(url, "http") {
		return
	}
	target, ok := strings.CutPrefix(url, "http://"+c.g.addr)
	if !ok {
		c.t.Fatalf("%s leaves the gateway: %s", name, url)
	}
	c.known[name] = target
}

var sessionToken = regexp.MustCompile(`^Bearer [0-9A-F]{128}$`)

// compare looks whether what arrived is what was sent, but for the credential.
func (c *conversation) compare(send, body string, a arrival) {
	c.t.Helper()
	line, headers, _ := strings.Cut(send, "\n")
	if arrived := a.method + " " + a.target; arrived != line {
		c.t.Errorf("sent %s, upstream got %s", line, arrived)
	}
	if a.body != body {
		c.t.Errorf("%s\nsent the body %q, upstream got %q", line, body, a.body)
	}
	want := map[string]string{"Host": c.up.host}
	for header := range strings.SplitSeq(headers, "\n") {
		name, value, _ := strings.Cut(header, ": ")
		switch name {
		case "Authorization", "x-api-key", "Authentication", "Accept-Encoding", "Connection", "Expect", "Content-Length", "":
		default:
			want[name] = value
		}
	}
	for name, value := range want {
		if got := strings.Join(a.header.Values(name), ", "); got != value {
			c.t.Errorf("%s\nupstream got %s %q, want %q", line, name, got, value)
		}
	}
	if got := a.header.Values("Authorization"); len(got) != 1 || !sessionToken.MatchString(got[0]) {
		c.t.Errorf("%s\nupstream got %d credentials, or not the session", line, len(got))
	}
	for _, name := range []string{"X-Api-Key", "Authentication", "Cookie"} {
		if a.header[name] != nil {
			c.t.Errorf("%s\nupstream got %s", line, name)
		}
	}
	if len(a.header.Values("X-Request-Id")) != 1 {
		c.t.Errorf("%s\nupstream got the request ids %q", line, a.header.Values("X-Request-Id"))
	}
	if got := a.header.Values("Accept-Encoding"); len(got) != 1 || got[0] != "identity" {
		c.t.Errorf("%s\nupstream was asked for %q", line, got)
	}
	if len(a.header) > len(want)+5 { // Accept-Encoding, Authorization, X-Request-Id, and maybe Content-Length and Expect
		c.t.Errorf("%s\nupstream got headers that nobody sent: %v", line, a.header)
	}
}
