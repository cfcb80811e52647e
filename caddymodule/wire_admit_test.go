package caddymodule_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// admissionRows are requests and whether `admit loopback em.example.com` lets
// them in.
var admissionRows = []struct {
	name  string
	host  string
	lines []string
	ok    bool
}{
	{name: "by address", host: "127.0.0.1:8080", ok: true},
	{name: "by address without a port", host: "127.0.0.1", ok: true},
	{name: "by another loopback address", host: "127.8.9.10", ok: true},
	{name: "by the address of IPv6", host: "[::1]:8080", ok: true},
	{name: "by the address of IPv6 without a port", host: "[::1]", ok: true},
	{name: "by localhost", host: "localhost", ok: true},
	{name: "by localhost in capitals", host: "LocalHost:8080", ok: true},
	{name: "by a name below localhost", host: "ctm.localhost", ok: true},
	{name: "by the listed name", host: "em.example.com", ok: true},
	{name: "by the listed name with a port", host: "EM.example.com:8080", ok: true},
	{name: "by another name", host: "evil.example", ok: false},
	{name: "by a name below the listed one", host: "a.em.example.com", ok: false},
	{name: "by a name that begins like the listed one", host: "em.example.com.evil.example", ok: false},
	{name: "by a name that ends like a local one", host: "localhost.evil.example", ok: false},
	{name: "by a name that begins like an address", host: "127.0.0.1.evil.example", ok: false},
	{name: "by a name that ends like localhost", host: "evillocalhost", ok: false},
	{name: "by a number", host: "2130706433", ok: false},
	{name: "by the address of any", host: "0.0.0.0", ok: false},
	{name: "by a private address", host: "192.168.1.1:8080", ok: false},
	{name: "by a web page", host: "localhost", lines: []string{"Origin: https://evil.example"}, ok: false},
	{name: "by a web page of its own origin", host: "localhost", lines: []string{"Origin: http://localhost"}, ok: false},
	{name: "by a page that hides its origin", host: "localhost", lines: []string{"Origin: null"}, ok: false},
	{name: "with an empty origin", host: "localhost", lines: []string{"Origin: "}, ok: false},
	{name: "by an image in a page", host: "localhost", lines: []string{"Sec-Fetch-Site: cross-site"}, ok: false},
	{name: "by a page of the same site", host: "localhost", lines: []string{"Sec-Fetch-Site: same-site"}, ok: false},
	{name: "by an unknown kind of page", host: "localhost", lines: []string{"Sec-Fetch-Site: x"}, ok: false},
	{name: "by two kinds of page", host: "localhost", lines: []string{"Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"}, ok: false},
	{name: "by the address bar", host: "localhost", lines: []string{"Sec-Fetch-Site: none"}, ok: true},
	{name: "by a page of the same origin", host: "localhost", lines: []string{"sec-fetch-site: same-origin"}, ok: true},
	{name: "through a proxy of the standard", host: "localhost", lines: []string{"Forwarded: for=192.0.2.1"}, ok: false},
	{name: "through a proxy", host: "localhost", lines: []string{"x-forwarded-for: 192.0.2.1"}, ok: false},
	{name: "through a proxy that tells the host", host: "localhost", lines: []string{"X-Forwarded-Host: em.example.com"}, ok: false},
	{name: "through a proxy that tells the address", host: "localhost", lines: []string{"X-Real-IP: 192.0.2.1"}, ok: false},
	{name: "through a proxy that tells itself", host: "localhost", lines: []string{"Via: 1.1 tunnel"}, ok: false},
	{name: "with a credential", host: "localhost", lines: []string{"Authorization: Bearer " + canaryKey}, ok: true},
}

func TestWireAdmission(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	call := func(g *gateway, host string, lines []string) reply {
		return g.raw("GET " + wireEcho + " HTTP/1.1\r\nHost: " + host + "\r\n" + strings.Join(append(lines, "\r\n"), "\r\n"))
	}
	site := func(words string) string {
		return wireAnyHost(wireSite(up.URL(), "tls_ca_file "+up.caFile, wireUser(t), words))
	}
	t.Run("loopback and one name", func(t *testing.T) {
		g := wireStart(t, site("admit loopback em.example.com"))
		for _, row := range admissionRows {
			t.Run(row.name, func(t *testing.T) {
				before := up.Stats().Calls
				got := call(g, row.host, row.lines)
				if row.ok {
					got.echoed(t)
					return
				}
				got.wantOwn(t, 403, "ctmgate.not_admitted")
				if up.Stats().Calls != before {
					t.Error("it reached upstream")
				}
			})
		}
		t.Run("a malformed path is not told to strangers", func(t *testing.T) {
			g.raw("GET /automation-api/.. HTTP/1.1\r\nHost: evil.example\r\n\r\n").wantOwn(t, 403, "ctmgate.not_admitted")
		})
	})
	t.Run("loopback by default", func(t *testing.T) {
		g := wireStart(t, site(""))
		call(g, "localhost", nil).echoed(t)
		call(g, "em.example.com", nil).wantOwn(t, 403, "ctmgate.not_admitted")
	})
	t.Run("anyone", func(t *testing.T) {
		g := wireStart(t, site("admit anyone"))
		for _, row := range admissionRows {
			t.Run(row.name, func(t *testing.T) { call(g, row.host, row.lines).echoed(t) })
		}
		if log := g.logText(); !strings.Contains(log, "admit anyone") {
			t.Error("the log does not warn")
		}
	})
	t.Run("a connection from another machine", func(t *testing.T) {
		// The PROXY protocol says so, as it does to Caddy behind a balancer.
		g := wireStart(t, "{\n\tservers {\n\t\tlistener_wrappers {\n\t\t\tproxy_protocol {\n\t\t\t\tallow 127.0.0.1/32\n\t\t\t}\n\t\t}\n\t}\n}\n"+
			site(""))
		request := "GET " + wireEcho + " HTTP/1.1\r\nHost: localhost\r\n\r\n"
		for peer, ok := range map[string]bool{"127.0.0.9": true, "192.0.2.7": false, "10.0.0.1": false} {
			conn := g.dial()
			if _, err := io.WriteString(conn, "PROXY TCP4 "+peer+" 127.0.0.1 40000 80\r\n"+request); err != nil {
				t.Fatal(err)
			}
			got := readReply(t, bufio.NewReader(conn), "GET")
			if ok {
				got.echoed(t)
			} else {
				got.wantOwn(t, 403, "ctmgate.not_admitted")
			}
		}
	})
}

func TestWireAUnixSocketCountsAsThisMachine(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	path := filepath.Join(t.TempDir(), "g.sock")
	site := up.sidecar("{file." + secretFile(t, canaryPassword) + "}")
	g := startGateway(t, strings.Replace(site, "{ADDR} {", "http:// {\n\tbind unix/"+path+"\n", 1))
	for host, ok := range map[string]bool{"localhost": true, "127.0.0.1": true, "evil.example": false} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.WriteString(conn, "GET "+wireEcho+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		got := readReply(g.t, bufio.NewReader(conn), http.MethodGet)
		if ok {
			got.echoed(t)
		} else {
			got.wantOwn(t, 403, "ctmgate.not_admitted")
		}
	}
}
