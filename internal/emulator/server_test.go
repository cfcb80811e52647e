package emulator

import (
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestTheCertificateIsTrustedForEveryLoopbackName(t *testing.T) {
	l := start(t, Options{})
	_, port, err := net.SplitHostPort(l.server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if l.server.URL() != "https://127.0.0.1:"+port+"/automation-api" {
		t.Errorf("URL is %s", l.server.URL())
	}
	for _, host := range []string{"127.0.0.1", "localhost"} {
		resp, err := l.client.Get("https://" + net.JoinHostPort(host, port) + "/automation-api/build_time.txt")
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		_ = resp.Body.Close()
	}
	other, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trusting(t, other).Get(l.server.URL() + "/build_time.txt"); err == nil {
		t.Error("another CA's client trusts it, too")
	}
}

func TestListenServesPlainHTTPAndHTTP2(t *testing.T) {
	e := New(Options{HTTP2: true})
	plainServer, err := e.Listen("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plainServer.Close() }()
	if !strings.HasPrefix(plainServer.URL(), "http://127.0.0.1:") {
		t.Errorf("URL is %s", plainServer.URL())
	}
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	tlsServer, err := e.Listen("127.0.0.1:0", ca)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tlsServer.Close() }()
	client := trusting(t, ca)
	defer client.CloseIdleConnections()
	for url, major := range map[string]int{plainServer.URL(): 1, tlsServer.URL(): 2} {
		resp, err := client.Get(url + "/build_time.txt")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.ProtoMajor != major {
			t.Errorf("%s: HTTP/%d", url, resp.ProtoMajor)
		}
	}
	if _, err := e.Listen(plainServer.Addr().String(), nil); err == nil {
		t.Error("listening twice on one address is no error")
	}
}

func TestCloseEndsEverythingAndLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	l := start(t, Options{LoginDelay: time.Hour})
	l.e.accounts.addToken(&apiToken{Name: "t", value: "v", User: "emuser"})
	l.e.SetFaults(parsed(t, "logout=hang")...)
	var waiting sync.WaitGroup
	for _, send := range []func() (reply, error){
		func() (reply, error) { return l.try("POST", "/session/login", goodLogin) },
		func() (reply, error) { return l.try("POST", "/session/logout", "", "x-api-key: v") },
		func() (reply, error) { return l.try("GET", "/emulator/download?size=9&gate=never", "", "x-api-key: v") },
	} {
		waiting.Go(func() {
			if _, err := send(); err == nil {
				t.Error("a request was answered")
			}
		})
	}
	socket := dialSocket(t, l, "X-Api-Key: v")
	idle, err := net.Dial("tcp", l.server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = idle.Close() }()
	for l.e.Stats().Calls < 2 { // the download and the socket have arrived
		runtime.Gosched()
	}
	if err := l.server.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.server.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	waiting.Wait()
	if _, err := io.ReadAll(socket.conn); err != nil && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the socket ended with %v", err)
	}
	_ = socket.conn.Close()
	l.client.CloseIdleConnections()
	for begun := time.Now(); runtime.NumGoroutine() > before; { // the client's own end a little later
		if time.Since(begun) > 10*time.Second {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines before, %d now\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
}

func TestSeveralStartsShareOneCA(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	var waiting sync.WaitGroup
	found := make([]string, 8)
	for i := range found {
		waiting.Go(func() {
			ca, err := LoadOrCreateCA(dir)
			if err != nil {
				t.Error(err)
				return
			}
			found[i] = string(ca.PEM())
		})
	}
	waiting.Wait()
	for _, pem := range found {
		if pem != found[0] || pem == "" {
			t.Error("two starts have different CAs")
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("the folder holds %v, %v", files, err)
	}
	file, err := os.Stat(filepath.Join(dir, caFile))
	if err != nil || file.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", file.Mode(), err)
	}
	folder, err := os.Stat(dir)
	if err != nil || folder.Mode().Perm() != 0o700 {
		t.Errorf("the folder is %v, %v", folder.Mode(), err)
	}
}

func TestADamagedCAIsAnErrorThatNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, caFile)
	if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateCA(dir); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

func TestCertificatesNameTheirHosts(t *testing.T) {
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM())
	for name, test := range map[string]struct {
		hosts     []string
		good, bad string
	}{
		"by default":   {nil, "localhost", "em.example.com"},
		"a name":       {[]string{"em.example.com"}, "em.example.com", "localhost"},
		"an address":   {[]string{"192.0.2.7"}, "192.0.2.7", "127.0.0.1"},
		"IPv6 as well": {nil, "::1", "::2"},
	} {
		t.Run(name, func(t *testing.T) {
			cert, err := ca.Certificate(test.hosts...)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(cert.Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: test.good}); err != nil {
				t.Error(err)
			}
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: test.bad}); err == nil {
				t.Errorf("%s is named, too", test.bad)
			}
		})
	}
}

func TestManyCallersAtOnce(t *testing.T) {
	l := start(t, Options{})
	var waiting sync.WaitGroup
	for range 8 {
		waiting.Go(func() {
			r, err := l.try("POST", "/session/login", goodLogin)
			if err != nil || r.status != http.StatusOK {
				t.Errorf("login: %d, %v", r.status, err)
				return
			}
			_, tail, _ := strings.Cut(r.body, `"token" : "`)
			token := bearer(tail[:128])
			for _, step := range [][3]string{
				{"POST", "/run/order", `{"ctm":"ctmprod","folder":"NightlyBilling"}`},
				{"GET", "/run/jobs/status", ""}, {"POST", "/run/event/ctmprod", `{"name":"e"}`}, {"GET", "/authentication/tokens", ""},
				{"POST", "/session/logout", ""},
			} {
				if r, err := l.try(step[0], step[1], step[2], token); err != nil || r.status != http.StatusOK {
					t.Errorf("%s: %d, %v", step[1], r.status, err)
				}
			}
		})
	}
	waiting.Wait()
	if s := l.e.Stats(); s.Logins != 8 || s.Logouts != 8 || s.Calls != 32 || s.LiveSessions != 0 {
		t.Errorf("counted %+v", s)
	}
}
