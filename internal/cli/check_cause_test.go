package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// cause is one way in which an account does not work, in an environment of its
// own.
type cause struct {
	environment object // without its accounts, if it has the usual one
	result      string
	status      int
	words       []string // in message and action
}

// usual is an environment with the user whose password is the canary.
func usual(t *testing.T, endpoint string, more object) object {
	t.Helper()
	o := object{"endpoint": []string{endpoint}, "accounts": object{"batch": batch(passwordIn(t, canary))}}
	for word, value := range more {
		o[word] = value
	}
	return o
}

// faulty is an environment over an emulator that misbehaves.
func (c *causes) faulty(t *testing.T, fault string, more object) object {
	t.Helper()
	p := newPlant(t)
	if fault != "" {
		f, err := emulator.ParseFault(fault)
		if err != nil {
			t.Fatal(err)
		}
		p.SetFaults(f)
	}
	c.plants = append(c.plants, p)
	o := usual(t, p.url, object{"tls_ca_file": []string{p.ca}})
	for word, value := range more {
		o[word] = value
	}
	return o
}

type causes struct{ plants []plant }

// talker serves each connection with say.
func talker(t *testing.T, say func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				say(conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		running.Wait()
	})
	return ln.Addr().String()
}

// speaker answers each login with what answer writes, over plain http.
func speaker(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return server.URL
}

// showing serves an emulator with a certificate that edit has changed, signed
// by itself, and returns its URL and the file of the certificate.
func showing(t *testing.T, edit func(*x509.Certificate), config func(*tls.Config)) (endpoint, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "em.example.com\x1b[31m"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	edit(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(emulator.New(emulator.Options{Users: []emulator.User{{Name: "batch", Password: canary}}}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes fail on purpose
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	if config != nil {
		config(server.TLS)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return server.URL + "/automation-api", write(t, filepath.Join(t.TempDir(), "em.pem"), string(text))
}

// trusted is an environment over such a server, with its certificate trusted.
func trusted(t *testing.T, edit func(*x509.Certificate), config func(*tls.Config)) object {
	t.Helper()
	endpoint, file := showing(t, edit, config)
	return usual(t, endpoint, object{"tls_ca_file": []string{file}})
}

func unchanged(*x509.Certificate) {}

// untilClosed reads a connection to its end.
func untilClosed(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// short is a bound that a server which hangs is given.
var short = object{"login_timeout": "500ms"}

// make is every cause, by the name of its environment.
func (c *causes) make(t *testing.T) map[string]cause {
	untrusted, _ := showing(t, unchanged, nil)
	misnamed := func(cert *x509.Certificate) {
		cert.IPAddresses, cert.DNSNames = nil, []string{"*.example.com", "em.example.com"}
	}
	bothFaults, _ := showing(t, misnamed, nil)
	_, another := showing(t, unchanged, nil)
	web := speaker(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(map[bool]int{true: 200, false: 405}[r.Method == http.MethodGet])
		_, _ = io.WriteString(w, "<html>welcome</html>")
	})
	denied := speaker(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"errors":[{"message":"User is not permitted"}]}`)
	})
	proxy := speaker(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
	})
	echo := speaker(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/"+canary)
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(body)
	})
	ssh := talker(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.9\r\n")
		untilClosed(conn)
	})
	silent := talker(t, untilClosed)
	deaf := talker(t, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) })
	tlsServer := newPlant(t)
	const closed = "127.0.0.1:1" // nobody listens on a port that none gave out
	return map[string]cause{
		"name": {usual(t, "https://em.invalid:8443/automation-api", nil), "name_not_resolved", 0, []string{"em.invalid", "getent hosts em.invalid"}},
		"port": {usual(t, "https://"+closed+"/automation-api", nil), "no_connection", 0, []string{"Nobody listens at " + closed, "8443"}},

		"self-signed": {usual(t, untrusted, nil), "certificate_untrusted", 0,
			[]string{"Nothing was sent", "issued by itself", "SHA-256 fingerprint", "tls_ca_file FILE", "--account self-signed/batch --save-certificate"}},
		"another-ca": {usual(t, untrusted, object{"tls_ca_file": []string{another}}), "certificate_untrusted", 0, []string{"none of those in " + another}},
		"other-name": {trusted(t, misnamed, nil), "certificate_name", 0,
			[]string{"another name than 127.0.0.1: for *.example.com, em.example.com", "tls_server_name em.example.com"}},
		"given-name": {usual(t, untrusted, object{"tls_server_name": "em.example.com"}), "certificate_untrusted", 0,
			[]string{"another name than em.example.com: for 127.0.0.1"}},
		"no-name": {trusted(t, func(c *x509.Certificate) { c.IPAddresses = nil }, nil), "certificate_name", 0,
			[]string{"bears no name", "tls_server_name does not help"}},
		"expired": {trusted(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, nil), "certificate_expired", 0,
			[]string{"has expired", "the clock of this machine says " + time.Now().UTC().Format("2006-01-")}},
		"not-begun": {trusted(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, nil), "certificate_expired", 0,
			[]string{"is not valid yet", "Set the clock"}},
		"two-faults": {usual(t, bothFaults, nil), "certificate_untrusted", 0, []string{"Nothing here vouches", "tls_server_name"}},
		"wants-certificate": {trusted(t, unchanged, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }), "tls_failed", 0,
			[]string{"tls_client_certificate"}},
		"old-tls": {trusted(t, unchanged, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), "tls_failed", 0,
			[]string{"TLS 1.2 or newer"}},

		"plain-http":  {usual(t, strings.Replace(web, "http:", "https:", 1)+"/automation-api", nil), "no_tls", 0, []string{"does not speak TLS", "Nothing was sent"}},
		"ssh":         {usual(t, "https://"+ssh+"/automation-api", nil), "no_tls", 0, []string{"8443"}},
		"ssh-as-http": {usual(t, "http://"+ssh+"/automation-api", nil), "not_http", 0, []string{"does not speak HTTP", "https://"}},
		"ssh-as-HTTP": {usual(t, "HTTP://"+ssh+"/automation-api", nil), "not_http", 0, []string{"does not speak HTTP", "https://"}},
		"tls-as-http": {usual(t, strings.Replace(tlsServer.url, "https:", "http:", 1), nil), "not_automation_api", 400, []string{"status 400", "https://"}},
		"web-server":  {usual(t, web, nil), "not_automation_api", 405, []string{"status 405", "text/html", web + "/automation-api"}},
		"web-page":    {usual(t, web, object{"accounts": object{"batch": object{"api_token": canary}}}), "not_automation_api", 200, []string{"status 200", "/automation-api"}},
		"wrong-path":  {c.path(t, "/wrong"), "not_automation_api", 404, []string{"status 404", "application/json", "/automation-api"}},
		"longer-path": {c.path(t, "/automation-api/v2"), "not_automation_api", 401,
			[]string{"has no login there", "/automation-api as endpoint"}},
		"wrong-host": {usual(t, speaker(t, http.NotFound)+"/automation-api", nil), "not_automation_api", 404,
			[]string{"status 404", "text/plain", "Check host and port"}},
		"login-page":   {c.faulty(t, "login=garbage", nil), "not_automation_api", 200, []string{"status 200", "text/html"}},
		"redirect":     {c.faulty(t, "login=redirect", nil), "not_automation_api", 307, []string{"Redirects are not followed"}},
		"no-token":     {c.faulty(t, "login=empty", nil), "not_automation_api", 200, []string{"status 200"}},
		"repeats":      {usual(t, echo, nil), "not_automation_api", 418, []string{"not shown"}},
		"hangs":        {c.faulty(t, "login=hang", short), "timed_out", 0, []string{"no answer within 500ms", "login_timeout"}},
		"hangs-in-tls": {usual(t, "https://"+silent, short), "timed_out", 0, []string{"TLS found no beginning"}},
		"breaks-off":   {c.faulty(t, "login=close", nil), "connection_lost", 0, []string{"before it answered"}},
		"deaf":         {usual(t, "https://"+deaf, nil), "tls_failed", 0, []string{"could not be agreed upon"}},

		"wrong-password": {c.faulty(t, "", object{"accounts": object{"batch": batch(passwordIn(t, "wrong-"+canary))}}), "refused", 401,
			[]string{"user batch", "stands in file /", "locked", "tried once"}},
		"locked":      {c.locked(t), "refused", 401, []string{"locked", "unlock"}},
		"wrong-token": {c.faulty(t, "", object{"accounts": object{"batch": object{"api_token": canary}}}), "refused", 401, []string{"did not accept the API token", "expired or deleted"}},
		"proxy":       {usual(t, proxy, nil), "refused", 401, []string{"a proxy in front"}},

		"login-denied": {usual(t, denied, nil), "forbidden", 403, []string{"no right to use it", "Automation API"}},
		"call-denied":  {c.faulty(t, "calls=403", nil), "forbidden", 403, []string{"login of user batch succeeded", "interface Automation API"}},
		"token-denied": {c.faulty(t, "calls=403", object{"accounts": object{"batch": object{"api_token": canary + "-token"}}}), "forbidden", 403, []string{"no right to use it"}},
		"call-rights":  {c.faulty(t, "calls=401", nil), "forbidden", 401, []string{"interface Automation API"}},
		"other-server": {c.faulty(t, "calls=401words", nil), "failed", 401, []string{"balancer", "A token holds at the server that gave it"}},
		"call-fails":   {c.faulty(t, "calls=500", nil), "failed", 500, []string{"The login succeeded, the call after it did not", "status 500"}},
		"call-hangs":   {c.faulty(t, "calls=hang", short), "timed_out", 0, []string{"The login succeeded"}},
		"login-fails":  {c.faulty(t, "login=500", nil), "failed", 500, []string{"status 500", "application/json", "not refused"}},
		"balancer":     {c.faulty(t, "login=503", nil), "failed", 503, []string{"status 503", "text/html", "proxy or balancer"}},
		"echo":         {c.faulty(t, "login=echo", nil), "failed", 500, []string{"status 500"}},
	}
}

// path is an environment whose base path is not that of the API.
func (c *causes) path(t *testing.T, path string) object {
	t.Helper()
	o := c.faulty(t, "", nil)
	o["endpoint"] = []string{strings.Replace(o["endpoint"].([]string)[0], "/automation-api", path, 1)}
	return o
}

func (c *causes) locked(t *testing.T) object {
	t.Helper()
	server := httptest.NewServer(emulator.New(emulator.Options{Users: []emulator.User{{Name: "batch", Password: canary, Locked: true}}}))
	t.Cleanup(server.Close)
	return usual(t, server.URL+"/automation-api", nil)
}

func TestCheckTellsEachCauseFromTheOthersAndSaysWhatToDo(t *testing.T) {
	h := newHome(t)
	var all causes
	rows, environments := all.make(t), object{}
	for name, row := range rows {
		environments[name] = row.environment
	}
	config := checkConfig(t, environments)
	got := h.check(t, 1, nil, "--config", config)
	if len(got.Results) != len(rows) {
		t.Fatalf("got %d results of %d", len(got.Results), len(rows))
	}
	_, table := h.run(t, nil, "check", "--config", config)
	table = strings.Join(strings.Fields(table), " ")
	for _, r := range got.Results {
		want := rows[r.Environment]
		if r.Result != want.result || r.Status != want.status || r.OK || r.Action == "" {
			t.Errorf("%s: got %+v, want %s", r.Environment, r, want.result)
		}
		for _, word := range want.words {
			if !strings.Contains(r.Message+" "+r.Action, word) {
				t.Errorf("%s does not say %q: %s %s", r.Environment, word, r.Message, r.Action)
			}
			if !strings.Contains(table, word) {
				t.Errorf("%s does not say %q in the table", r.Environment, word)
			}
		}
		if certificate := strings.HasPrefix(r.Result, "certificate_"); certificate != (len(r.Certificates) == 1) {
			t.Errorf("%s shows %d certificates", r.Environment, len(r.Certificates))
		}
		for _, c := range r.Certificates {
			if len(c.SHA256) != 32*3-1 || !strings.HasPrefix(c.Subject, "CN=em.example.com") || c.Issuer != c.Subject || c.NotAfter <= c.NotBefore {
				t.Errorf("%s: the certificate is %+v", r.Environment, c)
			}
			if !strings.Contains(table, c.SHA256) {
				t.Errorf("%s: the table has no fingerprint", r.Environment)
			}
		}
	}
	if strings.Contains(table, "\x1b") {
		t.Error("a certificate has written to the terminal")
	}
	for _, p := range all.plants {
		if s := p.Stats(); s.LiveSessions != 0 || s.Logins != s.Logouts || s.Logins+s.RefusedLogins+s.FailedLogins > 2 {
			t.Errorf("after two runs there is %+v", s)
		}
	}
}

func TestAClockThatIsOffIsAWarning(t *testing.T) {
	h := newHome(t)
	e := emulator.New(emulator.Options{Users: []emulator.User{{Name: "batch", Password: canary}}})
	dated := func(off time.Duration) object {
		return usual(t, speaker(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
			e.ServeHTTP(w, r)
		})+"/automation-api", nil)
	}
	config := checkConfig(t, object{"ahead": dated(10 * time.Minute), "behind": dated(-time.Hour), "right": dated(5 * time.Second)})
	got := h.check(t, 0, nil, "--config", config)
	for _, r := range got.Results {
		want := map[string]string{"ahead": "behind the server's", "behind": "ahead of the server's"}[r.Environment]
		off := map[string]float64{"ahead": 600, "behind": -3600, "right": 5}[r.Environment]
		if r.Offset == nil || *r.Offset < off-5 || *r.Offset > off+5 || (want == "") != (len(r.Warnings) == 0) {
			t.Errorf("%s: got %+v", r.Environment, r)
			continue
		}
		if want != "" && !strings.Contains(r.Warnings[0], want) {
			t.Errorf("%s: it says %q, want %q", r.Environment, r.Warnings, want)
		}
	}
	if code, out := h.run(t, nil, "check", "--config", config); code != 0 || !strings.Contains(out, "ok, see below") || !strings.Contains(out, "Warning: ") {
		t.Errorf("exit %d, %s", code, out)
	}
	if s := e.Stats(); s.LiveSessions != 0 || s.Logins != 6 {
		t.Errorf("got %+v", s)
	}
}

// What cannot be reached is the same for everyone; who is refused is not.
func TestAnEndpointThatIsDownIsTriedForOneAccount(t *testing.T) {
	h := newHome(t)
	var calls sync.Map
	hangs := talker(t, func(conn net.Conn) {
		calls.Store(conn, nil)
		untilClosed(conn)
	})
	p := newPlant(t)
	config := checkConfig(t, object{"prod": object{
		"endpoint": []string{"https://" + hangs + "/automation-api", p.url}, "tls_ca_file": []string{p.ca}, "login_timeout": "500ms", "default_account": "a",
		"accounts": object{
			"a": batch(passwordIn(t, "wrong-"+canary)), "b": batch(passwordIn(t, canary)),
			"c": object{"username": "another", "password": "{file." + passwordIn(t, canary) + "}"},
		},
	}})
	got := h.check(t, 1, nil, "--config", config)
	for name, want := range map[string][]string{
		"prod/a": {"timed_out", "refused"}, "prod/b": {"timed_out", "ok"}, "prod/c": {"timed_out", "refused"},
	} {
		if results := got.results(name); !slices.Equal(results, want) {
			t.Errorf("%s: got %q, want %q", name, results, want)
		}
	}
	connections := 0
	calls.Range(func(any, any) bool { connections++; return true })
	if connections != 1 {
		t.Errorf("%d connections were made to what is down", connections)
	}
	if _, out := h.run(t, nil, "check", "--config", config); !strings.Contains(out, "prod/c at https://"+hangs+"/automation-api: as prod/a.") {
		t.Errorf("it does not say that the trouble is the same: %s", out)
	}
}

func TestASessionThatCannotBeLoggedOutIsAWarning(t *testing.T) {
	h := newHome(t)
	var all causes
	config := checkConfig(t, object{"prod": all.faulty(t, "logout=500", nil)})
	r := h.check(t, 0, nil, "--config", config).Results[0]
	if r.Result != "ok" || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "could not be logged out") {
		t.Errorf("got %+v", r)
	}
}

// What a server chooses is shown neither with a secret in it nor with what
// steers a terminal.
func TestAVersionThatRepeatsASecretIsNotShown(t *testing.T) {
	h := newHome(t)
	endpoint := speaker(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{ "token" : "abcdef", "version" : "`+canary+`" }`)
	})
	config := checkConfig(t, object{"prod": usual(t, endpoint, nil)})
	if r := h.check(t, 0, nil, "--config", config).Results[0]; !strings.Contains(r.Version, "not shown") {
		t.Errorf("got %+v", r)
	}
}
