package emulator

import (
	"strings"
	"testing"
	"testing/synctest"

	"net/http/httptest"
)

func TestParseFaultReadsWhatHelpNames(t *testing.T) {
	for _, f := range faultTable {
		word := f.target + "=" + f.action
		t.Run(word, func(t *testing.T) {
			got, err := ParseFault(word + "x12")
			if err != nil || got != (Fault{Target: f.target, Action: f.action, Times: 12}) || got.String() != word+"x12" {
				t.Errorf("got %+v, %v", got, err)
			}
			if !strings.Contains(FaultHelp(), word+" ") {
				t.Error("help does not name it")
			}
		})
	}
}

func TestParseFaultErrorsNameWhatIsAllowed(t *testing.T) {
	for in, text := range map[string]string{
		"":                               "expected target=action",
		"login":                          "expected target=action",
		"moon=500":                       "login, logout, expired or calls",
		"login=":                         "expected 401, 500",
		"login=nope":                     "expected 401, 500",
		"login=500x0":                    "at least 1",
		"calls=401x99999999999999999999": "at least 1",
	} {
		if _, err := ParseFault(in); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %v, want %q", in, err, text)
		}
	}
}

func FuzzParseFault(f *testing.F) {
	for _, s := range []string{"login=500x3", "calls=401words", "x=x", "=x1", "login=x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fault, err := ParseFault(s)
		if err != nil {
			return
		}
		if again, err := ParseFault(fault.String()); err != nil || again != fault {
			t.Errorf("%q became %+v, then %+v (%v)", s, fault, again, err)
		}
	})
}

func parsed(t *testing.T, words ...string) []Fault {
	t.Helper()
	var list []Fault
	for _, w := range words {
		f, err := ParseFault(w)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, f)
	}
	return list
}

func TestFaultsChangeTheAnswer(t *testing.T) {
	l := start(t, Options{})
	token := bearer(l.login())
	login := func() (reply, error) {
		return l.try("POST", "/session/login", `{"username":"emuser","password":"canary-pw"}`)
	}
	call := func() (reply, error) { return l.try("GET", "/config/servers", "", token) }
	dead := func() (reply, error) { return l.try("GET", "/config/servers", "", bearer("DEAD")) }
	logout := func() (reply, error) { return l.try("POST", "/session/logout", "", token) }
	for word, test := range map[string]struct {
		send   func() (reply, error)
		status int
		text   string
	}{
		"login=401":       {login, 401, wordsRefused},
		"login=500":       {login, 500, "Internal server error"},
		"login=503":       {login, 503, "<html>"},
		"login=garbage":   {login, 200, "<html>"},
		"login=empty":     {login, 200, `"token" : ""`},
		"login=redirect":  {login, 307, ""},
		"login=echo":      {login, 500, "canary-pw"},
		"logout=500":      {logout, 500, "Internal server error"},
		"expired=401":     {dead, 401, wordsExpired},
		"expired=500":     {dead, 500, wordsExpired},
		"expired=401bare": {dead, 401, "not authorized"},
		"calls=401":       {call, 401, "not authorized"},
		"calls=401words":  {call, 401, wordsExpired},
		"calls=403":       {call, 403, "not permitted"},
		"calls=500":       {call, 500, "Internal server error"},
		"calls=500words":  {call, 500, wordsExpired},
		"calls=503":       {call, 503, "<html>"},
		"calls=redirect":  {call, 302, ""},
	} {
		t.Run(word, func(t *testing.T) {
			l.e.SetFaults(parsed(t, word+"x1")...)
			r, err := test.send()
			if err != nil {
				t.Fatal(err)
			}
			want(t, r, test.status, test.text)
			if test.status/100 == 3 && !strings.HasPrefix(r.header.Get("Location"), "https://elsewhere.invalid/") {
				t.Errorf("leads to %q", r.header.Get("Location"))
			}
		})
	}
	r, err := call()
	if err != nil {
		t.Fatal(err)
	}
	want(t, r, 200, "ctmprod") // each fault was used up
}

func TestFaultsThatEndTheConnection(t *testing.T) {
	l := start(t, Options{})
	token := bearer(l.login())
	for word, send := range map[string]func() (reply, error){
		"login=close":    func() (reply, error) { return l.try("POST", "/session/login", goodLogin) },
		"logout=close":   func() (reply, error) { return l.try("POST", "/session/logout", "", token) },
		"calls=close":    func() (reply, error) { return l.try("POST", "/run/order", "{}", token) },
		"calls=truncate": func() (reply, error) { return l.try("POST", "/run/order", "{}", token) },
		"expired=close":  func() (reply, error) { return l.try("POST", "/run/order", "{}", bearer("DEAD")) },
	} {
		t.Run(word, func(t *testing.T) {
			l.e.SetFaults(parsed(t, word)...)
			if r, err := send(); err == nil {
				t.Errorf("got a whole answer: %d", r.status)
			}
		})
	}
}

func TestAHugeLoginAnswerIsReadable(t *testing.T) {
	l := start(t, Options{Faults: parsed(t, "login=huge")})
	r := l.do("POST", "/session/login", goodLogin)
	if len(r.body) < hugeLogin || !strings.HasSuffix(r.body, " }") {
		t.Errorf("got %d bytes", len(r.body))
	}
}

func TestHangingRequestsEndWhenTheFaultsChange(t *testing.T) {
	for name, end := range map[string]func(*Emulator){
		"new faults": func(e *Emulator) { e.SetFaults() },
		"a restart":  func(e *Emulator) { e.Restart() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := New(Options{Faults: parsed(t, "login=hang")})
				aborted := make(chan any)
				go func() {
					defer func() { aborted <- recover() }()
					r := httptest.NewRequest("POST", "/automation-api/session/login", strings.NewReader(goodLogin))
					e.ServeHTTP(httptest.NewRecorder(), r)
				}()
				synctest.Wait()
				select {
				case <-aborted:
					t.Fatal("did not hang")
				default:
				}
				end(e)
				if <-aborted == nil {
					t.Error("answered instead of ending the connection")
				}
				if got := e.Stats().FailedLogins; got != 1 {
					t.Errorf("counted %d", got)
				}
			})
		})
	}
}

func TestACountedFaultIsUsedUp(t *testing.T) {
	l := start(t, Options{Faults: parsed(t, "login=500x2", "login=503x1")})
	for _, status := range []int{500, 500, 503, 200, 200} {
		if got := l.do("POST", "/session/login", goodLogin).status; got != status {
			t.Errorf("got %d, want %d", got, status)
		}
	}
}
