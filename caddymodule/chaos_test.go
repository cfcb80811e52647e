package caddymodule_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

const (
	chaosLoginTimeout = 2 * time.Second
	chaosLifetime     = 3 * time.Second
	chaosRenewBefore  = time.Second
	// chaosSlack is how long something may take to arrive on a busy machine.
	chaosSlack = time.Second
	// chaosGrace is how long after a reload the old server may close connections.
	chaosGrace = 2 * time.Second
	chaosLost  = "calls lost at a reload" // a figure
)

// chaosNames are the accounts; the last one has an API token.
var chaosNames = []string{"alpha", "beta", "gamma", "robot"}

// chaosCodes are the errors of the gateway's own that trouble upstream causes.
var chaosCodes = map[string]int{
	"ctmgate.login_refused": 502, "ctmgate.login_paused": 503, "ctmgate.login_failed": 502, "ctmgate.login_timeout": 504,
	"ctmgate.upstream_unreachable": 502, "ctmgate.upstream_timeout": 504, "ctmgate.replay_impossible": 503, "ctmgate.overloaded": 503,
}

// TestChaos has everything go wrong at random, under load, and looks all the
// time whether what the gateway promises holds. It takes some seconds with a
// fixed seed; with CTMGATE_CHAOS=1, two minutes with a random one.
// CTMGATE_CHAOS_SEED=n does again what the seed n did.
func TestChaos(t *testing.T) {
	seed, span := uint64(37), 2500*time.Millisecond
	if os.Getenv("CTMGATE_CHAOS") != "" {
		seed, span = rand.Uint64(), 2*time.Minute
	}
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("CTMGATE_CHAOS_SEED"), fmt.Sprint(seed)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d, for %s", seed, span)
	c := newChaos(t, seed)
	goroutines, heap := runtime.NumGoroutine(), heapInUse()
	if err := c.g.load(c.caddyfile("")); err != nil {
		t.Fatal(err)
	}
	c.expectHealth()
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for n := range 12 {
		workers.Go(func() { c.work(n, stop) })
	}
	c.began = time.Now()
	for _, step := range chaosScript(seed, span) {
		<-time.After(time.Until(c.began.Add(step.at)))
		t.Logf("%7s %s", step.at.Round(time.Millisecond), step.what)
		step.do(c)
	}
	c.background.Wait()
	for _, f := range c.fronts {
		f.open()
		f.SetFaults()
	}
	c.expectHealth()
	close(stop)
	workers.Wait()
	c.expectTheEnd(goroutines, heap)
}

// caddyfile has each account under a path of its own; more stands beside them.
func (c *chaos) caddyfile(more string) string {
	accounts, sites := "", ""
	for _, name := range chaosNames {
		secret := "username " + name + "\npassword"
		if c.accounts[name].standing {
			secret = "api_token"
		}
		accounts += fmt.Sprintf("account %s {\n%s {file.%s}\n}\n", name, secret, c.accounts[name].file)
		sites += fmt.Sprintf("handle_path /%s/* {\ncontrolm prod {\naccount %s\nreplay_buffer 16KiB\n}\n}\n", name, name)
	}
	return fmt.Sprintf(`{
	grace_period %s
	controlm {
		environment prod {
			endpoint https://%s/automation-api https://%s/automation-api
			tls_ca_file %s
			login_timeout %s
			session_lifetime %s
			renew_before %s
			transport http {
				response_header_timeout 2s
				keepalive 2s
			}
			%s
		}
	}
}
{ADDR} {
	%s
}
%s`, chaosGrace, c.fronts[0].addr, c.fronts[1].addr, c.caFile, chaosLoginTimeout, chaosLifetime, chaosRenewBefore, accounts, sites, more)
}

// chaosStep is one thing that the run does to the gateway or to upstream.
type chaosStep struct {
	at   time.Duration
	what string
	do   func(*chaos)
}

// chaosScript is what a seed stands for: its steps depend on nothing else.
func chaosScript(seed uint64, span time.Duration) (steps []chaosStep) {
	rng := rand.New(rand.NewPCG(seed, 0))
	upTo := func(most time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(most))) }
	add := func(at time.Duration, what string, do func(*chaos)) { steps = append(steps, chaosStep{at, what, do}) }
	all := regexp.MustCompile(`(?m)^ +\w+=\w+`).FindAllString(emulator.FaultHelp(), -1)
	var deck []int
	var busy [2]time.Duration // until when what was done to an endpoint lasts
	for at := upTo(100 * time.Millisecond); at < span; at += upTo(250 * time.Millisecond) {
		if rng.IntN(12) == 0 {
			at += upTo(span / 24) // of quiet
		}
		name, lasts := chaosNames[rng.IntN(3)], upTo(min(6*time.Second, span/4))
		switch n := rng.IntN(24); {
		case n < 12:
			faults, limited := make([]emulator.Fault, 1+rng.IntN(3)), rng.IntN(5) > 0
			for i := range faults {
				if len(deck) == 0 {
					deck = rng.Perm(len(all))
				}
				faults[i], _ = emulator.ParseFault(all[deck[0]])
				if deck = deck[1:]; limited {
					faults[i].Times = 1 + rng.IntN(4)
				}
			}
			for _, i := range [][]int{{0}, {1}, {0, 1}}[rng.IntN(3)] {
				if at < busy[i] {
					continue
				}
				add(at, fmt.Sprint("endpoint ", i, ": ", faults), func(c *chaos) { c.fronts[i].SetFaults(faults...) })
				if !limited {
					busy[i] = at + lasts
					add(busy[i], fmt.Sprint("endpoint ", i, ": no faults"), func(c *chaos) { c.fronts[i].SetFaults() })
				}
			}
		case n < 14:
			add(at, fmt.Sprint("endpoint ", n-12, ": restart"), func(c *chaos) { c.fronts[n-12].Restart() })
		case n < 16:
			add(at, fmt.Sprint("endpoint ", n-14, ": closed"), func(c *chaos) { c.fronts[n-14].close() })
			add(at+lasts/2, fmt.Sprint("endpoint ", n-14, ": open"), func(c *chaos) { c.fronts[n-14].open() })
		case n == 16:
			order := rng.Perm(3)
			add(at, name+": another password", func(c *chaos) { c.changePassword(name, order) })
		case n < 19:
			add(at, "reload", func(c *chaos) { c.reload("", true) })
			if n == 18 {
				add(at, "another at once, with a change", func(c *chaos) { c.reload("http://localhost {\nrespond "+at.String()+"\n}", true) })
			}
		case n == 19:
			add(at, "reload of what does not load", func(c *chaos) { c.reload("http://localhost {\ncontrolm elsewhere\n}", false) })
		case n == 20:
			add(at, name+": renew", func(c *chaos) { c.background.Go(func() { _ = c.ask(http.MethodPost, name, "/renew", 1) }) })
		case n == 21:
			add(at, name+": log out", func(c *chaos) { c.background.Go(func() { _ = c.ask(http.MethodDelete, name, "", 2) }) })
		default:
			add(at, name+": retry", func(c *chaos) { c.background.Go(func() { _ = c.ask(http.MethodPost, name, "/retry", 1) }) })
		}
	}
	slices.SortStableFunc(steps, func(a, b chaosStep) int { return int(a.at - b.at) })
	return steps
}

// changePassword changes it at both endpoints and in its file, in any order.
func (c *chaos) changePassword(name string, order []int) {
	a := c.accounts[name]
	a.changes++
	c.with(func() { a.spare += 3 }) // one at each endpoint, and one that still has the old password
	password := chaosPassword(name, a.changes)
	for _, i := range order {
		if i < len(c.fronts) {
			c.fronts[i].SetPassword(name, password)
			continue
		}
		if err := errors.Join(os.WriteFile(a.file+".new", []byte(password+"\n"), 0o600), os.Rename(a.file+".new", a.file)); err != nil {
			c.with(func() { c.violated("changing a password: %v", err) })
		}
	}
}

// reload loads the config, with more beside it.
func (c *chaos) reload(more string, good bool) {
	c.background.Go(func() {
		c.with(func() { c.reloading++ })
		config, err := c.g.adapt(c.caddyfile(more))
		if err == nil {
			err = caddy.Load(config, true)
		}
		c.Lock()
		defer c.Unlock()
		c.reloading, c.reloaded = c.reloading-1, time.Now()
		if (err == nil) != good || strings.Contains(fmt.Sprint(err), canaryPassword) {
			c.violated("a reload gave %v", err)
		}
	})
}

// ask has the admin API do something to an account, which may cost logins
// beyond its budget; a retry, one with a refused password or in a pause.
func (c *chaos) ask(method, name, verb string, logins int) error {
	a := c.accounts[name]
	c.with(func() {
		if a.spare, a.asked = a.spare+logins, a.asked+1; verb == "/retry" {
			clear(a.refused)
			a.logins[0].pardoned, a.logins[1].pardoned = true, true
		}
	})
	defer c.with(func() { a.asked-- })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, method, caddymodule.AdminSessions+"/prod/"+name+verb, nil)
	err := caddymodule.AdminAPI{}.Routes()[1].Handler.ServeHTTP(w, r)
	if text := fmt.Sprint(err) + w.Body.String(); strings.Contains(text, canaryPassword) || ctx.Err() != nil {
		c.with(func() { c.violated("the admin API was asked to %s %s of %s, and gave %s", method, verb, name, text) })
	}
	return err
}

// work calls as one account after the other, until stop.
func (c *chaos) work(n int, stop <-chan struct{}) {
	rng := rand.New(rand.NewPCG(c.seed, uint64(n)+1))
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rng.Int64N(int64(20 * time.Millisecond)))):
		}
		call := &chaosCall{account: chaosNames[(i+n)%len(chaosNames)]}
		if rng.IntN(2) == 0 {
			call.method, call.size = http.MethodPost, []int{0, 200, 10 << 10, 200 << 10}[rng.IntN(4)]
		}
		if rng.IntN(12) == 0 {
			call.leaves = time.Duration(rng.Int64N(int64(6 * time.Millisecond)))
		}
		c.call(call)
	}
}

// call makes one call and judges what comes of it.
func (c *chaos) call(call *chaosCall) (got reply) {
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(call.leaves, time.Minute))
	defer cancel()
	id := ""
	c.with(func() {
		c.figures["calls"]++
		id = fmt.Sprintf("call=%d", len(c.calls))
		c.calls[id], call.began = call, time.Now()
	})
	var res *http.Response
	req, err := http.NewRequestWithContext(ctx, call.method, c.g.url("/"+call.account+wireEcho+"?"+id), bytes.NewReader(make([]byte, call.size)))
	if err == nil {
		res, err = c.client.Do(req)
	}
	if err == nil {
		var content []byte
		content, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
		got = reply{res.StatusCode, res.Header, string(content)}
	}
	c.with(func() { c.judge(id, call, got, err) })
	return got
}

// judge wants an error of the gateway's own that fits, or just what upstream
// answered; and a reason where there is no answer, or not the whole of it.
func (c *chaos) judge(id string, call *chaosCall, got reply, broken error) {
	number, notUpstream := strconv.Atoi(got.header.Get(chaosAnswer))
	cut := slices.ContainsFunc(call.arrivals, func(a *chaosArrival) bool { return a.cut })
	var e echoed
	switch {
	case strings.Contains(got.body, canaryPassword) || strings.Contains(got.body, canaryToken) || chaosSecret.MatchString(got.body):
		c.violated("the answer to %s holds a secret", id)
	case broken != nil && call.leaves > 0:
		c.figures["calls left by the client"]++
	case broken != nil && (cut || c.closed.Add(chaosSlack).After(call.began)):
		c.figures["answers that broke off upstream"]++
	case broken != nil && (c.reloading > 0 || c.reloaded.Add(chaosGrace).After(call.began)):
		c.figures[chaosLost]++
	case broken != nil:
		c.violated("%s of %s broke off after %s: %v", id, call.account, time.Since(call.began), broken)
	case notUpstream != nil:
		c.figures[fmt.Sprintf("%d %s", got.status, got.code())]++
		if chaosCodes[got.code()] != got.status || (got.status == 503) != (got.header.Get("Retry-After") != "") {
			c.violated("%s got an error of the gateway's own that does not fit: %d %v %s", id, got.status, got.header, got.body)
		}
	case number < 0 || number >= len(call.arrivals) || call.arrivals[number].status != got.status:
		c.violated("%s got %d as upstream's answer %d, which it never gave: %s", id, got.status, number, got.body)
	case got.status != http.StatusOK:
		c.figures[fmt.Sprintf("%d from upstream", got.status)]++
	case json.Unmarshal([]byte(got.body), &e) != nil || e.SessionUser != call.account || e.BodySize != int64(call.size) || !strings.HasSuffix(e.Target, "?"+id):
		c.violated("%s of %s with %d bytes got %s", id, call.account, call.size, got.body)
	default:
		c.figures["200 from upstream"]++
	}
}

// chaosSecret is what session tokens look like.
var chaosSecret = regexp.MustCompile(`[0-9A-F]{128}`)

// expectHealth wants every account to answer again, where nothing is wrong
// upstream any more: at once where a retry is asked for after a refusal, and
// else after the longest pause between logins.
func (c *chaos) expectHealth() {
	began := time.Now()
	for _, name := range chaosNames {
		for got := (reply{}); got.status != http.StatusOK; {
			<-time.After(20 * time.Millisecond)
			got = c.call(&chaosCall{account: name})
			var err error
			if got.code() == "ctmgate.login_refused" {
				err = c.ask(http.MethodPost, name, "/retry", 1)
			}
			if err != nil || got.status != http.StatusOK && time.Since(began) > 75*time.Second {
				c.with(func() {
					c.violated("%s does not answer again, but %d %s; a retry gave %v", name, got.status, got.body, err)
				})
				return
			}
		}
	}
	c.t.Logf("every account answers after %s", time.Since(began).Round(time.Millisecond))
}

// expectTheEnd takes the config away, and wants nothing of it to be left.
func (c *chaos) expectTheEnd(goroutines int, heap uint64) {
	ended := time.Now()
	if err := c.g.load("http://" + freeAddr(c.t) + " {\n\trespond 204\n}"); err != nil {
		c.t.Fatal(err)
	}
	caddymodule.WaitForLogouts()
	c.client.CloseIdleConnections()
	c.with(func() {
		for _, token := range c.tokens {
			// A front that is closed hears of no log-out.
			if token.ended.IsZero() && token.made.After(c.closed) && ended.Sub(token.made) < chaosLifetime-chaosSlack {
				c.violated("a session of %s at endpoint %d was not logged out", token.account, token.front)
			}
		}
		if chaosSecret.MatchString(c.g.logText()) {
			c.violated("the log holds a token")
		}
		c.t.Log(c.figures, "oldest tokens: ", c.fronts[0].Stats().MaxTokenAge, c.fronts[1].Stats().MaxTokenAge)
		if lost, all := c.figures[chaosLost], c.figures["calls"]; lost > 5+all/100 {
			c.violated("%d of %d calls got no answer", lost, all)
		}
		c.tokens, c.calls = nil, nil
	})
	for deadline := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > goroutines+3 && time.Now().Before(deadline); {
		<-time.After(50 * time.Millisecond)
	}
	if now := runtime.NumGoroutine(); now > goroutines+3 {
		var stacks bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		c.violated("%d goroutines have become %d:\n%s", goroutines, now, stacks.String())
	}
	if now := heapInUse(); now > heap+32<<20 {
		c.violated("the heap has grown from %d to %d bytes", heap, now)
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
