package caddymodule_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

const surviveGet = "/automation-api/config/servers"

// soaking is long with CTMGATE_SOAK=1, else short.
func soaking[T any](short, long T) T {
	if os.Getenv("CTMGATE_SOAK") != "" {
		return long
	}
	return short
}

// surviveFor waits for a time that is part of a test's size.
func surviveFor(t testing.TB, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatal("the test has ended")
	}
}

// witness keeps what an emulator saw, and when.
type witness struct {
	mu     sync.Mutex
	events []witnessed
}

type witnessed struct {
	emulator.Event
	at time.Time
}

func (w *witness) observe(e emulator.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, witnessed{e, time.Now()})
}

// saw are the events of these kinds so far.
func (w *witness) saw(kinds ...string) (events []witnessed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if slices.Contains(kinds, e.Kind) {
			events = append(events, e)
		}
	}
	return events
}

// attempts are all logins so far, whatever came of them.
func (w *witness) attempts() []witnessed {
	return w.saw(emulator.KindLogin, emulator.KindLoginRefused, emulator.KindLoginFailed)
}

// machine is an emulator that can be switched off and on again at one address.
type machine struct {
	*emulator.Emulator
	*witness
	t         testing.TB
	ca        *emulator.CA
	server    *emulator.Server
	url, addr string
	caFile    string
}

func startMachine(t testing.TB, o emulator.Options) *machine {
	t.Helper()
	if len(o.Users) == 0 {
		o.Users = []emulator.User{{Name: "emuser", Password: canaryPassword, Roles: []string{"Admin", "User"}}}
	}
	m := &machine{t: t, witness: new(witness), addr: "127.0.0.1:0", caFile: filepath.Join(t.TempDir(), "ca.pem")}
	o.Observe = m.observe
	m.Emulator = emulator.New(o)
	var err error
	if m.ca, err = emulator.NewCA(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.caFile, m.ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	m.on()
	m.url, m.addr = m.server.URL(), m.server.Addr().String()
	t.Cleanup(func() { _ = m.server.Close() })
	return m
}

// off ends the listener and every connection.
func (m *machine) off() { _ = m.server.Close() }

// on listens where it did before. A connection of somebody else's may have
// the port for its own end for a moment.
func (m *machine) on() {
	m.t.Helper()
	wireEventually(m.t, "the machine listens", func() bool {
		server, err := m.Listen(m.addr, m.ca)
		if err == nil {
			m.server = server
		}
		return err == nil
	})
}

// surviveSite is the Caddyfile of a site in front of machines, with words in its
// block.
func surviveSite(machines []*machine, words ...string) string {
	var urls []string
	for _, m := range machines {
		urls = append(urls, m.url)
		words = append(words, "tls_ca_file "+m.caFile)
	}
	return wireSite(strings.Join(urls, " "), words...)
}

// asEmuser are the words of the account emuser.
func asEmuser(password string) string {
	return "username emuser\n\t\tpassword {file." + password + "}"
}

// shot is one call of a barrage.
type shot struct {
	reply         // without the body where that is upstream's
	path          string
	sent          time.Time
	took          time.Duration
	again         bool // sent twice, since the first connection gave no answer
	err           error
	code, message string // of an error of the gateway's own
}

// retryAfter is what the answer asks for, or less than zero.
func (s shot) retryAfter() time.Duration {
	seconds, err := strconv.Atoi(s.header.Get("Retry-After"))
	if err != nil {
		return -1
	}
	return time.Duration(seconds) * time.Second
}

// over is when the answer was there.
func (s shot) over() time.Time { return s.sent.Add(s.took) }

func (s shot) String() string {
	return fmt.Sprintf("%s: %d %s after %s (%v)", s.path, s.status, s.code, s.took.Round(time.Millisecond), s.err)
}

// barrage is a load of several clients with connections that they keep.
type barrage struct {
	g      *gateway
	client *http.Client
	call   func(n int) (method, path, body string)
	ended  chan struct{}
	group  sync.WaitGroup

	mu    sync.Mutex
	next  int
	shots []shot
}

// fire starts a barrage in which each client calls once every so often. The
// calls are numbered; call says what the n-th is.
func (g *gateway) fire(clients int, every time.Duration, call func(n int) (method, path, body string)) *barrage {
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	b := &barrage{g: g, call: call, ended: make(chan struct{}), client: &http.Client{
		Transport: transport, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for range clients {
		b.group.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				select {
				case <-b.ended:
					return
				case <-tick.C:
					b.shoot()
				}
			}
		})
	}
	g.t.Cleanup(func() {
		b.stop()
		transport.CloseIdleConnections()
	})
	return b
}

// onlyGets is a barrage of calls that read.
func onlyGets(int) (method, path, body string) { return http.MethodGet, surviveGet, "" }

// stop ends the barrage and returns what came of it.
func (b *barrage) stop() []shot {
	select {
	case <-b.ended:
	default:
		close(b.ended)
	}
	b.group.Wait()
	return b.shots
}

// sofar are the shots that have been answered.
func (b *barrage) sofar() []shot {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.shots)
}

func (b *barrage) shoot() {
	b.mu.Lock()
	n := b.next
	b.next++
	b.mu.Unlock()
	method, path, body := b.call(n)
	s := b.try(b.client, method, path, body)
	for tries := 0; s.err != nil && tries < 50 && b.g.t.Context().Err() == nil; tries++ {
		<-time.After(20 * time.Millisecond) // reloads may follow one another
		s = b.try(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}, method, path, body)
		s.again = true
	}
	b.mu.Lock()
	b.shots = append(b.shots, s)
	b.mu.Unlock()
}

func (b *barrage) try(client *http.Client, method, path, body string) (s shot) {
	s.path = method + " " + path
	req, err := http.NewRequestWithContext(b.g.t.Context(), method, b.g.url(path), strings.NewReader(body))
	if err != nil {
		s.err = err
		return s
	}
	s.sent = time.Now()
	res, err := client.Do(req)
	if err != nil {
		s.took, s.err = time.Since(s.sent), err
		return s
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	s.took, s.err = time.Since(s.sent), err
	sweep(b.g.t, "an answer", content)
	s.reply = reply{res.StatusCode, res.Header, string(content)}
	if s.code = s.reply.code(); !strings.HasPrefix(s.code, "ctmgate.") {
		s.code, s.body = "", ""
		return s
	}
	s.message = s.reply.message(b.g.t)
	return s
}

// tally counts shots by status and code.
func tally(shots []shot) map[string]int {
	count := make(map[string]int)
	for _, s := range shots {
		key := strconv.Itoa(s.status) + " " + s.code
		if s.err != nil {
			key = "no answer"
		}
		count[strings.TrimSpace(key)]++
		if s.again {
			count["sent anew"]++
		}
	}
	return count
}

// median of how long the shots took.
func median(shots []shot) time.Duration {
	times := make([]time.Duration, 0, len(shots))
	for _, s := range shots {
		times = append(times, s.took)
	}
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[len(times)/2]
}
