package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctmgate/ctmgate/internal/secret"
)

// errWrong is what the fake issuer says to a wrong password.
var errWrong = errors.New("wrong username or password")

// errDown is what it says when the API cannot be asked.
var errDown = errors.New("connection refused")

// attempt is one login that reached the issuer.
type attempt struct {
	at       time.Time
	password string
}

// issuer is a Session service that a test scripts. It counts, and remembers
// what it gave out.
type issuer struct {
	mu       sync.Mutex
	answer   func(ctx context.Context, n int, password string) error // nil: every login succeeds
	onLogOut func(ctx context.Context)
	attempts []attempt
	born     map[string]time.Time // of every token ever given
	ended    map[string]int       // how often each was logged out
	judged   []error              // what Refused was asked about
}

func (i *issuer) LogIn(ctx context.Context, password secret.Value) (Login, error) {
	i.mu.Lock()
	now, answer := time.Now(), i.answer
	i.attempts = append(i.attempts, attempt{now, password.Reveal()})
	n := len(i.attempts)
	i.mu.Unlock()
	if answer != nil {
		if err := answer(ctx, n, password.Reveal()); err != nil {
			return Login{}, err
		}
	}
	token := fmt.Sprintf("token-%d", n)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.born[token] = now
	return Login{Token: secret.New(token), Version: "9.22.30"}, nil
}

func (i *issuer) LogOut(ctx context.Context, token secret.Value) error {
	i.mu.Lock()
	i.ended[token.Reveal()]++
	wait := i.onLogOut
	i.mu.Unlock()
	if wait != nil {
		wait(ctx)
	}
	return ctx.Err()
}

func (i *issuer) Refused(err error) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.judged = append(i.judged, err)
	return errors.Is(err, errWrong)
}

func (i *issuer) script(answer func(ctx context.Context, n int, password string) error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = answer
}

func (i *issuer) fail(err error) {
	i.script(func(context.Context, int, string) error { return err })
}

// block makes logins wait until the test sends what they come to.
func (i *issuer) block() chan<- error {
	gate := make(chan error)
	i.script(func(ctx context.Context, _ int, _ string) error {
		select {
		case err := <-gate:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return gate
}

func (i *issuer) logins() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.attempts)
}

func (i *issuer) times() (at []time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, a := range i.attempts {
		at = append(at, a.at)
	}
	return at
}

func (i *issuer) loggedOut(token string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.ended[token] > 0
}

func (i *issuer) age(token string) time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	return time.Since(i.born[token])
}

// password is a Password that a test changes.
type password struct {
	mu       sync.Mutex
	text     string
	version  uint64
	newer    string // lies where the password is kept, not yet noticed
	rechecks int
}

func (p *password) Current() (secret.Value, uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return secret.New(p.text), p.version
}

func (p *password) Recheck() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rechecks++
	if p.newer != "" {
		p.text, p.newer = p.newer, ""
		p.version++
	}
}

func (p *password) change(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = text
	p.version++
}

// rig is a session with everything around it in the hands of the test.
type rig struct {
	*Session
	issuer   *issuer
	password *password
	mu       sync.Mutex
	events   []Event
}

// newRig makes a session with the default timings; it is closed at the end of
// the test, which also proves that nothing stays logged in.
func newRig(t *testing.T, edits ...func(*Config)) *rig {
	t.Helper()
	r := &rig{
		issuer:   &issuer{born: make(map[string]time.Time), ended: make(map[string]int)},
		password: &password{text: "first", version: 1},
	}
	c := Config{
		Issuer: r.issuer, Password: r.password,
		Keys: []string{"https://em.example.com/automation-api user"}, Refusals: NewRefusals(),
		Lifetime: 30 * time.Minute, RenewBefore: 5 * time.Minute, IdleTimeout: 30 * time.Minute,
		LoginTimeout: 15 * time.Second,
		Observe: func(e Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
		},
	}
	for _, edit := range edits {
		edit(&c)
	}
	r.Session = New(c)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		r.Close(ctx)
		r.allEnded(t)
	})
	return r
}

// allEnded fails unless every token was logged out exactly once, or ended by
// itself.
func (r *rig) allEnded(t *testing.T) {
	t.Helper()
	r.issuer.mu.Lock()
	defer r.issuer.mu.Unlock()
	for token, born := range r.issuer.born {
		n := r.issuer.ended[token]
		if n > 1 {
			t.Errorf("%s was logged out %d times", token, n)
		}
		if n == 0 && time.Since(born) < r.Lifetime {
			t.Errorf("%s, %v old, was never logged out", token, time.Since(born))
		}
	}
}

func (r *rig) take(t *testing.T) Use {
	t.Helper()
	u, err := r.Take(t.Context(), Use{})
	if err != nil {
		t.Fatalf("Take: %v", err)
	}
	return u
}

// takeAtOnce fails when the Take waited.
func (r *rig) takeAtOnce(t *testing.T) Use {
	t.Helper()
	start := time.Now()
	u := r.take(t)
	if waited := time.Since(start); waited != 0 {
		t.Fatalf("Take waited %v", waited)
	}
	return u
}

// use takes and releases, and returns which token it was.
func (r *rig) use(t *testing.T) string {
	t.Helper()
	u := r.take(t)
	r.Release(u)
	return u.Token.Reveal()
}

func (r *rig) count(kind Kind) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func (r *rig) wantLogins(t *testing.T, n int) {
	t.Helper()
	if got := r.issuer.logins(); got != n {
		t.Fatalf("%d logins, want %d", got, n)
	}
}

func wantToken(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}

// errorAs returns err as an E, or fails.
func errorAs[E error](t *testing.T, err error) E {
	t.Helper()
	e, ok := errors.AsType[E](err)
	if !ok {
		t.Fatalf("got error %T %v, want %T", err, err, e)
	}
	return e
}

// pass lets d go by, and everything happen that happens within it.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// bubble runs a test on a clock of its own, which moves only when everyone
// waits; it fails when a goroutine of the session outlives the test.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}
