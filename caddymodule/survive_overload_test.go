package caddymodule_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// atOnce makes n calls at the same time and returns what came of them.
func (g *gateway) atOnce(n int, client *http.Client, method, path string, body []byte) []shot {
	shots := make([]shot, n)
	var group sync.WaitGroup
	for i := range shots {
		group.Go(func() {
			s := &shots[i]
			req, err := http.NewRequestWithContext(g.t.Context(), method, g.url(path), bytes.NewReader(body))
			if err != nil {
				s.err = err
				return
			}
			s.path, s.sent = method+" "+path, time.Now()
			res, err := client.Do(req)
			if err != nil {
				s.err = err
				return
			}
			defer res.Body.Close()
			content, err := io.ReadAll(res.Body)
			s.took, s.err = time.Since(s.sent), err
			s.reply = reply{res.StatusCode, res.Header, string(content)}
			s.code = s.reply.code()
		})
	}
	group.Wait()
	return shots
}

// checkUploads fails the test unless each upload arrived whole, or its caller
// was told when to send it again. It returns how many were told so, and how
// many that the connection broke.
func checkUploads(t *testing.T, shots []shot, body []byte) (told, broke int) {
	t.Helper()
	sum := sha(body)
	for _, s := range shots {
		switch {
		case s.err != nil:
			t.Errorf("got no answer: %v", s.err)
		case s.status == 200:
			if e := s.echoed(t); e.BodySHA256 != sum {
				t.Errorf("upstream got %d bytes of %d", e.BodySize, len(body))
			}
		case s.status == 503 && (s.code == "ctmgate.overloaded" && s.retryAfter() > 0 || s.code == "ctmgate.replay_impossible" && s.retryAfter() == 0):
			told++
		case s.status == 502 && strings.Contains(s.body, "may have been carried out"):
			broke++
		default:
			t.Errorf("got %d %s, Retry-After %q", s.status, s.body, s.header.Get("Retry-After"))
		}
	}
	t.Logf("%v", tally(shots))
	return told, broke
}

func uploader(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

const megabyte = 1 << 20

// The emulator answers a dead token before it has read the body, as servers
// do: how much of it has to be sent again is chance. It closes the connection
// half a second later; a machine that is too busy to have seen the answer by
// then sees a reset in its place, and cannot know what became of the call.
func TestUploadsOverARestartAreSentAgainOrToldToRepeat(t *testing.T) {
	body := bytes.Repeat([]byte("definition"), megabyte/10)
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
	client := uploader(t)
	for range soaking(1, 5) {
		g.get(wireEcho).echoed(t)
		up.Restart()
		checkUploads(t, g.atOnce(soaking(50, 200), client, http.MethodPost, wireEcho, body), body)
		surviveFor(t, soaking(0, 5*time.Second)) // for the budget of logins after rejections
	}
}

// Here upstream reads all of them to their end before it rejects the first:
// all would have to be kept at once, which is more than there is memory for.
func TestTwoHundredUploadsThatAreRejectedAtTheirEndDoNotTakeMoreMemoryThanThereIs(t *testing.T) {
	const uploads = 200
	body := bytes.Repeat([]byte("x"), megabyte)
	var reject, arrived atomic.Int64 // calls
	var all chan struct{}            // closed when those to be rejected have arrived
	up := startFront(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if reject.Add(-1) < 0 {
			next.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if arrived.Add(-1) == 0 {
			close(all)
		}
		select {
		case <-all:
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"errors":[{"message":"Session token is invalid or expired"}]}`)
	})
	// All have to arrive for any to go on, however slow this machine is.
	g := startGateway(t, wireSite(up.url, wireUser(t), "transport http {\n\t\t\tdial_timeout 1m\n\t\t}"))
	client := uploader(t)
	round := func(n int) []shot {
		all = make(chan struct{})
		reject.Store(int64(n))
		arrived.Store(int64(n))
		return g.atOnce(n, client, http.MethodPost, wireEcho, body)
	}
	g.get(wireEcho).echoed(t)
	told, broke := checkUploads(t, round(uploads), body)
	// 64 MiB are kept, and each body needs 1.
	if told < uploads-64 || told == uploads || broke > 0 {
		t.Errorf("%d of %d uploads were told to repeat, and %d connections broke", told, uploads, broke)
	}
	if n := up.Stats().Logins; n != 2 {
		t.Errorf("there were %d logins, expected one for all that were rejected", n)
	}
	t.Run("and all of the memory is given back", func(t *testing.T) {
		if told, broke := checkUploads(t, round(60), body); told+broke > 0 {
			t.Errorf("%d of 60 uploads were told to repeat, and %d connections broke", told, broke)
		}
	})
}

// heldLogins is an emulator whose logins take until they are let go.
type heldLogins struct {
	*emulator.Emulator
	url  string
	free chan struct{}
}

func startHeldLogins(t *testing.T) *heldLogins {
	t.Helper()
	h := &heldLogins{free: make(chan struct{}), Emulator: emulator.New(emulator.Options{
		Users: []emulator.User{{Name: "emuser", Password: canaryPassword, Roles: []string{"Admin"}}},
	})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/session/login") {
			select {
			case <-h.free:
			case <-r.Context().Done():
			}
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	h.url = server.URL + "/automation-api"
	return h
}

// waitingCalls is how many calls may wait for one login.
const waitingCalls = 4096

// The calls are streams of a few HTTP/2 connections, since a socket for each,
// twice over, is more than many machines allow.
func TestFiveThousandCallsThatWaitForALoginAreAnsweredOrTurnedAwayAtOnce(t *testing.T) {
	const calls = 5000
	up := startHeldLogins(t)
	site := wireSite(up.url, wireUser(t), "login_timeout 1m", "transport http {\nmax_conns_per_host 64\n}")
	g := startGateway(t, "{\nservers {\nprotocols h1 h2c\n}\n}\n"+site)
	// A connection has room for 250 calls. One transport for all of them dials
	// thousands of connections when they come at once.
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transports := make([]*http.Transport, calls/200)
	for i := range transports {
		transports[i] = &http.Transport{Protocols: &protocols, MaxConnsPerHost: 1}
		defer transports[i].CloseIdleConnections()
		res, err := (&http.Client{Transport: transports[i], Timeout: time.Minute}).Get(g.url("/beside-the-api"))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusNotFound || res.ProtoMajor != 2 {
			t.Fatalf("got %s %s", res.Proto, res.Status)
		}
	}

	var sent, away atomic.Int64
	enough := make(chan struct{})
	counting := &http.Client{Timeout: 2 * time.Minute, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		res, err := transports[sent.Add(1)%int64(len(transports))].RoundTrip(r)
		if err == nil && res.StatusCode == http.StatusServiceUnavailable && away.Add(1) == calls-waitingCalls {
			close(enough)
		}
		return res, err
	})}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	freed := make(chan time.Time, 1)
	go func() {
		select {
		case <-enough: // while the login still hangs
		case <-ctx.Done():
			t.Errorf("only %d calls were turned away while the others waited", away.Load())
		}
		freed <- time.Now()
		close(up.free)
	}()
	shots := g.atOnce(calls, counting, http.MethodGet, surviveGet, nil)
	free := <-freed
	for _, s := range shots {
		switch {
		case s.err != nil:
			t.Fatalf("got no answer: %v", s.err)
		case s.status == 200:
		case s.status == 503 && s.code == "ctmgate.overloaded" && s.retryAfter() > 0 && s.over().Before(free.Add(time.Second)):
		default:
			t.Errorf("got %v %s", s, s.body)
		}
	}
	count := tally(shots)
	t.Logf("%v", count)
	if count["200"] != waitingCalls {
		t.Errorf("%d calls waited for the login, expected %d", count["200"], waitingCalls)
	}
	if s := up.Stats(); s.Logins != 1 || s.RejectedCalls != 0 {
		t.Errorf("upstream saw %+v", s)
	}
}

// roundTripper is a function that is one.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
