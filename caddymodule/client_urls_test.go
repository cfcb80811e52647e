package caddymodule_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// jobPage is a page of job statuses, or the answer of something that runs.
type jobPage struct {
	RunID, StatusURI, MonitorPageURI, NextURI, PrevURI string
	Total, Returned                                    int
	Statuses                                           []struct{ Name, OutputURI, LogURI string }
}

// page asks for a URL blindly and reads the page that must be there.
func (v clientView) page(url string, status int) jobPage {
	v.t.Helper()
	got := v.get(url)
	if got.status != status {
		v.t.Fatalf("%s got %d %s, want %d", url, got.status, got.body, status)
	}
	var p jobPage
	got.decode(v.t, &p)
	return p
}

// text asks for a URL blindly and wants a text with part in it.
func (v clientView) text(url, part string) {
	v.t.Helper()
	got := v.get(url)
	if got.status != 200 || !strings.HasPrefix(got.header.Get("Content-Type"), "text/plain") || !strings.Contains(got.body, part) {
		v.t.Errorf("%s got %d %s", url, got.status, got.body)
	}
}

// walk does what a client does that knows its base URL and follows all others
// as it is given them: call fails where one of them leaves the gateway.
func (v clientView) walk() {
	v.t.Helper()
	if got := v.call("POST", v.base+"/session/login", "application/json", someLogin); got.status != 200 {
		v.t.Fatalf("the login got %d %s", got.status, got.body)
	}
	v.walkRuns()
	v.walkPages()
	root := v.get(v.base + "/")
	if want := v.base + "/swagger-ui.html"; root.status != 302 || root.header.Get("Location") != want {
		v.t.Fatalf("/ got %d with the Location %s, want %s", root.status, root.header.Get("Location"), want)
	}
	if got := v.get(root.header.Get("Location")); got.status != 200 || !strings.Contains(got.body, "Automation API") {
		v.t.Errorf("behind the redirect is %d %s", got.status, got.body)
	}
}

func (v clientView) walkRuns() {
	v.t.Helper()
	form, kind := definitionsForm("jobDefinitionsFile", "jobs.json", "application/json", clientFolder)
	for what, start := range map[string]reply{
		"run":   v.call("POST", v.base+"/run", kind, form),
		"order": v.call("POST", v.base+"/run/order", "application/json", `{"ctm":"ctmtest","folder":"SmokeTest"}`),
	} {
		var run jobPage
		start.decode(v.t, &run)
		if start.status != 200 || run.StatusURI != v.base+"/run/status/"+run.RunID {
			v.t.Fatalf("%s got %d %s", what, start.status, start.body)
		}
		if status := v.page(run.StatusURI, 200); len(status.Statuses) != 1 {
			v.t.Errorf("the status of the %s is %+v", what, status)
		} else {
			v.text(status.Statuses[0].LogURI, "ORDERED JOB")
		}
	}
}

func (v clientView) walkPages() {
	v.t.Helper()
	seen, prose := 0, 0
	p := v.page(v.base+"/run/jobs/status?limit=4&ctm=ctmprod&jobname=*", 206)
	for {
		seen += p.Returned
		for _, job := range p.Statuses {
			v.text(job.LogURI, "ORDERED JOB:"+job.Name)
			if strings.HasPrefix(job.OutputURI, "http") {
				v.text(job.OutputURI, job.Name)
			} else {
				prose++
			}
		}
		if p.NextURI == "" {
			break
		}
		url := p.NextURI
		// The last page is whole.
		status := 206
		if seen+4 >= p.Total {
			status = 200
		}
		p = v.page(url, status)
	}
	if seen != 9 || p.Total != 9 || prose != 1 {
		v.t.Errorf("saw %d jobs of %d, %d without a URL of an output", seen, p.Total, prose)
	}
	back := 0
	for ; p.PrevURI != ""; back++ {
		p = v.page(p.PrevURI, 206)
	}
	if back != 2 {
		v.t.Errorf("%d pages back", back)
	}
}

// frontProxy plays the proxy in front of the gateway: clients know it as
// public, and it says so to addr.
type frontProxy struct {
	public, addr string
	next         http.RoundTripper
}

func (p frontProxy) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme+"://"+r.URL.Host != p.public {
		return nil, errors.New("this URL is not one of the proxy's")
	}
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.Host = "http", p.addr, "gateway.internal"
	scheme, host, _ := strings.Cut(p.public, "://")
	out.Header.Set("X-Forwarded-For", "192.0.2.7")
	out.Header.Set("X-Forwarded-Proto", scheme)
	out.Header.Set("X-Forwarded-Host", host)
	return p.next.RoundTrip(out)
}

// dialing is a transport that connects to addr whatever the URL says.
func dialing(t testing.TB, addr string) *http.Transport {
	tr := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// certificate writes a certificate of a CA of its own, for the loopback
// addresses and names, as two PEM files.
func certificate(t testing.TB, names ...string) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	ca, err := emulator.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Certificate(append(names, "127.0.0.1", "localhost")...)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	certFile, keyFile = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	if err := errors.Join(os.WriteFile(certFile, certPEM, 0o600), os.WriteFile(keyFile, keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())
	return certFile, keyFile, roots
}

func TestClientFollowsURLsBackToTheGateway(t *testing.T) {
	const plain = "{ADDR} {\n%s\n}"
	certFile, keyFile, roots := certificate(t, "gateway.example.com")
	overTLS := "{\n\tauto_https disable_redirects\n}\nhttps://127.0.0.1:{PORT}, https://gateway.example.com:{PORT} {\n\tbind 127.0.0.1\n\ttls " +
		certFile + " " + keyFile + "\n%s\n}"
	behindProxy := "{\n\tservers {\n\t\ttrusted_proxies static %s\n\t}\n}\nhttp://:{PORT} {\n\tbind 127.0.0.1\n%%s\n}"
	tlsTo := func(addr, protocol string) http.RoundTripper {
		tr := dialing(t, addr)
		tr.TLSClientConfig = &tls.Config{RootCAs: roots, NextProtos: []string{protocol}}
		tr.ForceAttemptHTTP2 = protocol == "h2"
		return tr
	}
	for _, row := range []struct {
		name, caddyfile string // with one %s for the directive
		words           string
		base            string // with {ADDR} for host and port
		transport       func(addr string) http.RoundTripper
		upstream        emulator.Options
	}{
		{name: "at the root", caddyfile: plain, base: "http://{ADDR}/automation-api"},
		{name: "under a prefix", caddyfile: "{ADDR} {\nhandle_path /prod/* {\n%s\n}\n}", base: "http://{ADDR}/prod/automation-api"},
		{name: "under two prefixes", caddyfile: "{ADDR} {\nhandle_path /eu/* {\nhandle_path /prod-1/* {\n%s\n}\n}\n}", base: "http://{ADDR}/eu/prod-1/automation-api"},
		{name: "under a prefix with an escape", caddyfile: "{ADDR} {\nhandle_path \"/eu west/*\" {\n%s\n}\n}", base: "http://{ADDR}/eu%20west/automation-api"},
		{name: "over TLS", caddyfile: overTLS, base: "https://{ADDR}/automation-api", transport: func(addr string) http.RoundTripper { return tlsTo(addr, "http/1.1") }},
		{name: "over TLS with HTTP/2, by name", caddyfile: overTLS, base: "https://gateway.example.com:{PORT}/automation-api", words: "admit loopback gateway.example.com",
			transport: func(addr string) http.RoundTripper { return tlsTo(addr, "h2") }},
		{name: "over TLS under a prefix", caddyfile: strings.Replace(overTLS, "%s", "handle_path /prod/* {\n%s\n}", 1), base: "https://{ADDR}/prod/automation-api",
			transport: func(addr string) http.RoundTripper { return tlsTo(addr, "http/1.1") }},
		{name: "by another name", caddyfile: "http://:{PORT} {\n\tbind 127.0.0.1\n%s\n}", base: "http://em.example.com/automation-api", words: "admit loopback em.example.com",
			transport: func(addr string) http.RoundTripper { return dialing(t, addr) }},
		{name: "through a trusted proxy", caddyfile: fmt.Sprintf(behindProxy, "127.0.0.1/32"), base: "https://controlm.example.com/automation-api", words: "admit anyone",
			transport: func(addr string) http.RoundTripper {
				return frontProxy{"https://controlm.example.com", addr, dialing(t, addr)}
			}},
		{name: "through a trusted proxy under a prefix", caddyfile: fmt.Sprintf(strings.Replace(behindProxy, "%%s", "handle_path /prod/* {\n%%s\n}", 1), "127.0.0.1/32"),
			base: "https://controlm.example.com:8443/prod/automation-api", words: "admit anyone",
			transport: func(addr string) http.RoundTripper {
				return frontProxy{"https://controlm.example.com:8443", addr, dialing(t, addr)}
			}},
		{name: "to a server that prints itself under another name", caddyfile: plain, base: "http://{ADDR}/automation-api",
			words: "public_url https://controlm.example.com", upstream: emulator.Options{PublicURL: "https://controlm.example.com/automation-api"}},
		{name: "to a server without a base path", caddyfile: plain, base: "http://{ADDR}", upstream: emulator.Options{BasePath: "/"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := startUpstream(t, row.upstream)
			site := fmt.Sprintf("controlm %s {\n\t\ttls_ca_file %s\n\t\t%s\n\t\t%s\n\t}", up.URL(), up.caFile, wireUser(t), row.words)
			g := wireStart(t, fmt.Sprintf(row.caddyfile, site))
			_, port, _ := net.SplitHostPort(g.addr)
			var transport http.RoundTripper
			if row.transport != nil {
				transport = row.transport(g.addr)
			}
			base := strings.NewReplacer("{ADDR}", g.addr, "{PORT}", port).Replace(row.base)
			clientView{t, base, clientHTTP(t, transport)}.walk()
			if s := up.Stats(); s.Logins != 1 || s.RejectedCalls != 0 {
				t.Errorf("upstream saw %+v", s)
			}
		})
	}
}

func TestClientURLsMindNoHeaderOfAStranger(t *testing.T) {
	up := startClientUpstream(t, emulator.Options{})
	g := wireStart(t, wireAnyHost(wireSite(up.url, wireUser(t), "admit anyone")))
	for name, row := range map[string]struct{ lines, base string }{
		"X-Forwarded-Host of a proxy that is not trusted": {"Host: {HOST}\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Prefix: /x\r\n", "http://" + g.addr},
		"Forwarded":            {"Host: {HOST}\r\nForwarded: host=evil.example;proto=https\r\n", "http://" + g.addr},
		"X-Original-URL":       {"Host: {HOST}\r\nX-Original-URL: /x/automation-api/run/jobs/status\r\nX-Rewrite-URL: /x\r\n", "http://" + g.addr},
		"a Host in capitals":   {"Host: EM.Example.COM:8443\r\n", "http://EM.Example.COM:8443"},
		"a Host of IPv6":       {"Host: [::1]:8443\r\n", "http://[::1]:8443"},
		"no Host, in HTTP/1.0": {"", "http://" + g.addr},
	} {
		t.Run(name, func(t *testing.T) {
			version := "1.1"
			if row.lines == "" {
				version = "1.0"
			}
			got := g.raw("GET /automation-api/run/jobs/status?limit=1 HTTP/" + version + "\r\n" + row.lines + "\r\n")
			var p jobPage
			got.decode(t, &p)
			if got.status != 206 || !strings.HasPrefix(p.NextURI, row.base+"/automation-api/run/jobs/status?") {
				t.Errorf("got %d with the nextURI %s, want it at %s", got.status, p.NextURI, row.base)
			}
		})
	}
	t.Run("an absolute target", func(t *testing.T) {
		got := g.raw("GET http://em.example.com/automation-api/run/jobs/status?limit=1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
		var p jobPage
		got.decode(t, &p)
		if !strings.HasPrefix(p.NextURI, "http://em.example.com/automation-api/") {
			t.Errorf("got %d with the nextURI %s", got.status, p.NextURI)
		}
	})
	t.Run("a Host that would end the string", func(t *testing.T) {
		got := g.raw("GET /automation-api/run/jobs/status?limit=1 HTTP/1.1\r\nHost: a\"b\\c\r\n\r\n")
		if got.status == 206 {
			var p jobPage
			got.decode(t, &p)
		} else if got.status != 400 {
			t.Errorf("got %d %s", got.status, got.body)
		}
	})
}

func TestClientFollowsURLsOfAServerThatWritesByteByByte(t *testing.T) {
	const token = "E14A4F8E45406977B31A1B091E5E0423"
	template := `{ "statusURI" : "{BASE}/run/status/1{TOKEN}", "outputURI":"{SLASHED}\/run\/job\/workbench%3A00001\/output", ` +
		`"outputURI" : "Job did not run, see {BASE}/x?token=t", "list":["{BASE}","{BASE}/","{BASE}?limit=2{AND}"],"nested" : {"logURI"` + "\n\t" + `:` + "\n" +
		`"{BASE}/log?a=1{AND}&b=%2f\u0026c=3#part"}, "near":"{BASE}x/run", "other" : "https://elsewhere.example/automation-api/run?token=stays", ` +
		`"monitorPageURI" : "{ORIGIN}/ControlM/#Neighborhood", "escaped":"\"{BASE}/prose\"", "number":12.50,"text":"umlauts äöü \u00fc" }` + "\n"
	var origin string
	fill := func(base, query, and string) string {
		return strings.NewReplacer("{BASE}", base, "{SLASHED}", strings.ReplaceAll(base, "/", `\/`), "{ORIGIN}", origin, "{TOKEN}", query, "{AND}", and).Replace(template)
	}
	byByte := func(w http.ResponseWriter, text string) {
		w.Header().Set("Content-Type", "application/json")
		flush := http.NewResponseController(w).Flush
		for i := range len(text) {
			if _, err := io.WriteString(w, text[i:i+1]); err != nil || flush() != nil {
				return
			}
		}
	}
	server := newLocalServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case clientLogin:
			byByte(w, `{ "username" : "emuser", "token" : "`+token+`", "version" : "9.21.7" }`)
		case clientLogout:
			byByte(w, `{ "message" : "Successfully logged out" }`)
		default:
			byByte(w, fill(origin+"/automation-api", "?token="+token, "&token="+token))
		}
	})
	origin = server
	for _, words := range []string{"rewrite_urls on", "rewrite_urls off"} {
		t.Run(words, func(t *testing.T) {
			g := startGateway(t, wireSite(origin+"/automation-api", wireUser(t), words))
			if got, gatewayToken := g.signIn(someLogin, nil); cutTokenOut(got.body) != gatewayToken || !strings.Contains(got.body, `"9.21.7"`) {
				t.Errorf("the login got %s", got.body)
			}
			base := origin + "/automation-api"
			if words == "rewrite_urls on" {
				base = g.url("/automation-api")
			}
			got := g.get("/automation-api/run/jobs/status")
			want := fill(base, "", "")
			// Prose and what is no base of the API stay as they are.
			for _, kept := range []string{`see %s/x?token=t`, `"near":"%sx/run"`, `"\"%s/prose\""`} {
				want = strings.ReplaceAll(want, fmt.Sprintf(kept, base), fmt.Sprintf(kept, origin+"/automation-api"))
			}
			if got.status != 200 || got.body != want {
				t.Errorf("got %d\n%s\nwant\n%s", got.status, got.body, want)
			}
		})
	}
}
