package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait: far more than anything here takes, so that a
// slow machine fails no test.
const patience = 60 * time.Second

var program string // the real binary

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	folder, err := os.MkdirTemp("", "cli")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(folder) }()
	program = filepath.Join(folder, "ctmgate")
	build := exec.Command("go", "build", "-race="+strconv.FormatBool(raceDetector), "-o", program, "../../cmd/ctmgate") //nolint:noctx,gosec // ends by itself; our own arguments
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the program: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// home is where processes of one test keep what they keep.
type home struct {
	data, runtime, temporary string
}

func newHome(t *testing.T) home {
	t.Helper()
	return home{shortFolder(t), shortFolder(t), shortFolder(t)}
}

// environ is the whole environment of a process, and nothing of ours.
func (h home) environ(more ...string) []string {
	return append([]string{
		"HOME=" + h.data, "XDG_DATA_HOME=" + h.data, "XDG_CONFIG_HOME=" + h.data,
		"XDG_RUNTIME_DIR=" + h.runtime, "TMPDIR=" + h.temporary, "PATH=" + os.Getenv("PATH"),
	}, more...)
}

// process is a run of the program whose output can be waited for.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}

	mu      sync.Mutex
	output  bytes.Buffer
	changed chan struct{}
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
	return p.output.Write(b)
}

// look returns the output so far, and what is closed when there is more.
func (p *process) look() (string, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String(), p.changed
}

// start runs the program in h. The test ends it, at its own end if need be.
func (h home) start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, done: make(chan struct{}), changed: make(chan struct{})}
	p.cmd = exec.Command(program, args...) //nolint:noctx,gosec // ended below; the program under test
	p.cmd.Env = h.environ(env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		out, _ := p.look()
		if t.Failed() {
			t.Logf("ctmgate %s:\n%s", strings.Join(args, " "), out)
		}
		if strings.Contains(out, canary) {
			t.Errorf("a secret stands in the output of ctmgate %s", args[0])
		}
		if strings.Contains(out, "DATA RACE") {
			t.Errorf("a data race in ctmgate %s", args[0])
		}
	})
	return p
}

// waitFor returns the output once it contains text.
func (p *process) waitFor(text string) string {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		out, changed := p.look()
		if strings.Contains(out, text) {
			return out
		}
		select {
		case <-changed:
		case <-p.done:
			if out, _ := p.look(); !strings.Contains(out, text) {
				p.t.Fatalf("it ended with %d before it said %q", p.cmd.ProcessState.ExitCode(), text)
			}
		case <-deadline:
			p.t.Fatalf("it does not say %q", text)
		}
	}
}

// exit waits for the end, and returns exit code and output.
func (p *process) exit() (int, string) {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("it does not end")
	}
	out, _ := p.look()
	return p.cmd.ProcessState.ExitCode(), out
}

// end sends a signal, and returns exit code and output.
func (p *process) end(signal syscall.Signal) (int, string) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
	return p.exit()
}

// run runs the program to its end.
func (h home) run(t *testing.T, env []string, args ...string) (int, string) {
	t.Helper()
	return h.start(t, env, args...).exit()
}

// freeAddress is one where nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	addr, err := claim("--listen", address(t, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	return addr.String()
}

// get asks url, by way of the socket if there is one, and trusts everybody.
func get(t *testing.T, url, socket string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return send(t, target{socket: socket}.client(true), req)
}

func send(t *testing.T, client *http.Client, req *http.Request) (int, string) {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// curl does what a printed curl line says, as far as ours go.
func curl(t *testing.T, printed string) (int, string) {
	t.Helper()
	words := shellWords(t, printed)
	if len(words) == 0 || words[0] != "curl" {
		t.Fatalf("no curl line: %s", printed)
	}
	method, header, transport := http.MethodGet, make(http.Header), &http.Transport{DisableKeepAlives: true}
	var url, body string
	for i := 1; i < len(words); i++ {
		switch words[i] {
		case "-H":
			i++
			name, value, _ := strings.Cut(words[i], ": ")
			header.Set(name, value)
		case "-d":
			i++
			method, body = http.MethodPost, words[i]
		case "--cacert":
			i++
			transport.TLSClientConfig = trusting(t, words[i])
		case "--unix-socket":
			i++
			socket := words[i]
			transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			}
		default:
			if strings.HasPrefix(words[i], "-") || url != "" {
				t.Fatalf("unknown word %q in %s", words[i], printed)
			}
			url = words[i]
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	return send(t, &http.Client{Transport: transport}, req)
}

func trusting(t *testing.T, path string) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "PRIVATE KEY") {
		t.Errorf("%s, which clients are told to trust, holds a key", path)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatalf("%s holds no certificate", path)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// shellWords cuts a line as a shell does that knows quotes and nothing else.
func shellWords(t *testing.T, text string) []string {
	t.Helper()
	var words []string
	var word strings.Builder
	var quoted rune
	inside := false
	for _, r := range text {
		switch {
		case quoted != 0 && r == quoted:
			quoted = 0
		case quoted == 0 && (r == '\'' || r == '"'):
			quoted, inside = r, true
		case quoted == 0 && r == ' ':
			if inside {
				words = append(words, word.String())
			}
			word.Reset()
			inside = false
		case quoted == 0 && strings.ContainsRune("&;|<>$`\\*?()", r):
			t.Fatalf("a shell would not take %q as it stands: %s", r, text)
		default:
			word.WriteRune(r)
			inside = true
		}
	}
	if inside {
		words = append(words, word.String())
	}
	return words
}

// curlLines are those in out.
func curlLines(out string) []string {
	var lines []string
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "curl ") {
			lines = append(lines, line)
		}
	}
	return lines
}

// eventually waits for something that no output tells of.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ; !is(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// entries are the names of what lies in folder.
func entries(t *testing.T, folder string) []string {
	t.Helper()
	list, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
