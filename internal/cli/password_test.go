package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// The password after the change. Whoever looks for the canary finds it too.
const changed = canary + "-ch4nged \"<é>&\\"

const updatePath = "/session/user/password/update"

// rotating is an office whose user's password lies in a file, with a command's
// environment.
type rotating struct {
	*office
	home
	env          []string
	file, folder string // the password file, alone in its folder
}

func newRotating(t *testing.T, edit ...func(*emulator.Options)) rotating {
	t.Helper()
	o := newOffice(t, edit...)
	folder := t.TempDir()
	file := write(t, filepath.Join(folder, "password"), canary+"\n")
	return rotating{o, newHome(t), []string{
		"CTM_ENDPOINT=" + o.url, "CTM_CA_FILE=" + o.ca, "CTM_USERNAME=batch", "CTM_PASSWORD_FILE=" + file,
	}, file, folder}
}

// update types the command, with the new password on standard input.
func (r rotating) update(t *testing.T, args ...string) typed {
	t.Helper()
	return r.typed(t, r.env, changed+"\n", append([]string{"password", "update", "--new-password-file", "-"}, args...)...)
}

// after fails unless the user's password and the files are as they should be.
func (r rotating) after(t *testing.T, upstream, file string, files ...string) {
	t.Helper()
	r.SetFaults()
	if r.Stats().LiveSessions != 0 {
		t.Error("a session is left")
	}
	if !r.takes(t, upstream) {
		t.Error("another password is in force")
	}
	if got := contentOf(t, r.file); got != file {
		t.Errorf("the file has %q", got)
	}
	if got := strings.Join(entries(t, r.folder), " "); got != strings.Join(files, " ") {
		t.Errorf("there is: %s", got)
	}
}

func TestBothRowsOfThePasswordUpdateWorkAsTyped(t *testing.T) {
	t.Run("with a password", func(t *testing.T) {
		r := newRotating(t)
		next := write(t, filepath.Join(t.TempDir(), "next"), changed+"\r\n")
		r.typed(t, r.env, "", "password", "update", "--new-password-file", next).want(t, 0,
			"the password of batch is changed, and the new one works", "reads "+r.file+", which this command did not write")
		r.settled(t, 2)
		r.after(t, changed, canary+"\n", "password")
	})
	vault := func(t *testing.T, r rotating) {
		body, _ := json.Marshal(map[string]string{"name": "secretKey", "value": changed})
		if status, answer := r.ask(t, canary+"-token", http.MethodPost, "/config/secret", string(body)); status != 200 {
			t.Fatal(answer)
		}
	}
	t.Run("with a secret of the vault", func(t *testing.T) {
		r := newRotating(t)
		vault(t, r)
		r.typed(t, r.env, "", "password", "update", "--new-secret", "secretKey").want(t, 0, "what the secret secretKey holds", "not proved", "put the new password there")
		r.settled(t, 1)
		r.after(t, changed, canary+"\n", "password")
	})
	t.Run("with a secret whose content is known here", func(t *testing.T) {
		r := newRotating(t)
		vault(t, r)
		r.update(t, "--new-secret", "Secret:secretKey", "--write", r.file).want(t, 0, "the new one works", "pick it up")
		r.settled(t, 2)
		r.after(t, changed, changed+"\n", "password")
	})
	t.Run("with a secret that holds something else", func(t *testing.T) {
		r := newRotating(t)
		vault(t, r)
		other := write(t, filepath.Join(t.TempDir(), "next"), canary+"-other")
		r.typed(t, r.env, "", "password", "update", "--new-secret", "secretKey", "--new-password-file", other, "--write", r.file).want(t, 1,
			"what the secret secretKey holds", "they differ, or the user is locked", r.file+".pending", "ctmgate check")
		r.after(t, changed, canary+"\n", "password", "password.pending")
	})
	t.Run("with a secret that there is not", func(t *testing.T) {
		r := newRotating(t)
		r.typed(t, r.env, "", "password", "update", "--new-secret", "nix").want(t, 1, "(status 400)", "Secret does not exist", "still in force")
		r.after(t, canary, canary+"\n", "password")
	})
}

func TestWriteReplacesThePasswordFile(t *testing.T) {
	for name, test := range map[string]struct {
		before string
		mode   os.FileMode
		after  string
	}{
		"with a newline, for a group": {canary + "\n", 0o640, changed + "\n"},
		"without one, for nobody":     {canary, 0o600, changed},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRotating(t)
			write(t, r.file, test.before)
			if err := os.Chmod(r.file, test.mode); err != nil {
				t.Fatal(err)
			}
			var pending os.FileMode
			r.on(func(e emulator.Event) {
				if strings.HasSuffix(e.Path, updatePath) {
					pending = modeOf(t, r.file+".pending")
				}
			})
			r.update(t, "--write", r.file).want(t, 0, "it is in "+r.file, "running gateways pick it up by themselves within 5 s")
			if pending != 0o600 || modeOf(t, r.file) != test.mode {
				t.Errorf("the modes are %v, then %v", pending, modeOf(t, r.file))
			}
			r.settled(t, 2)
			r.after(t, changed, test.after, "password")
			// And once more, with what lies there now.
			r.typed(t, r.env, canary, "password", "update", "--new-password-file", "-", "--write", r.file).want(t, 0)
			r.after(t, canary, strings.Replace(test.after, changed, canary, 1), "password")
		})
	}
	t.Run("that is not there yet", func(t *testing.T) {
		r := newRotating(t)
		other := filepath.Join(r.folder, "other")
		r.update(t, "--write", other).want(t, 0, "it is in "+other, "reads "+r.file)
		if contentOf(t, other) != changed || modeOf(t, other) != 0o600 {
			t.Errorf("got %q", contentOf(t, other))
		}
	})
}

func TestAChangeSaysWhereElseThePasswordStands(t *testing.T) {
	r := newRotating(t)
	variable := []string{"CTM_ENDPOINT=" + r.url, "CTM_CA_FILE=" + r.ca, "CTM_USERNAME=batch", "CTM_PASSWORD=" + canary}
	r.typed(t, variable, changed, "password", "update", "--new-password-file", "-").want(t, 0, "from the environment variable CTM_PASSWORD")
	config := write(t, filepath.Join(t.TempDir(), "Caddyfile"), `:8080 {
	controlm `+r.url+` {
		name prod
		tls_ca_file `+r.ca+`
		username batch
		password `+"`"+changed+"`"+`
	}
}
`)
	out := filepath.Join(t.TempDir(), "new")
	r.typed(t, nil, canary, "password", "update", "--config", config, "--account", "prod/default", "--new-password-file", "-", "--write", out).want(t, 0,
		"it is in "+out, "account prod/default has its password in the config itself")
	r.after(t, canary, canary+"\n", "password")
}

func TestAChangeThatTheAPIDoesNotMakeLeavesAllAsItWas(t *testing.T) {
	for fault, words := range map[string][]string{
		"login=401":      {"refused the username or password", "nothing was changed", "is not tried again", "the user unlocked"},
		"login=500":      {"status 500"},
		"calls=401":      {"(status 401)", "still in force"},
		"calls=403":      {"(status 403)", "still in force"},
		"calls=500":      {"(status 500)", "nothing was changed", "still in force"},
		"calls=503":      {"(status 503)", "still in force"},
		"calls=500x1":    {"still in force"},
		"logout=500":     nil,
		"calls=close":    {"may be at it yet", "look again in a minute", ".pending"},
		"login=redirect": {"redirect"},
	} {
		t.Run(fault, func(t *testing.T) {
			r := newRotating(t)
			f, err := emulator.ParseFault(fault)
			if err != nil {
				t.Fatal(err)
			}
			r.SetFaults(f)
			got := r.update(t, "--write", r.file)
			switch fault {
			case "logout=500": // it is changed, and the sessions end by themselves
				got.want(t, 0, "the new one works", "ends by itself within 30 minutes")
				r.Restart()
				r.after(t, changed, changed+"\n", "password")
			case "calls=close":
				got.want(t, 1, words...)
				if modeOf(t, r.file+".pending") != 0o600 {
					t.Errorf("its mode is %v", modeOf(t, r.file+".pending"))
				}
				r.after(t, canary, canary+"\n", "password", "password.pending")
			default:
				got.want(t, 1, words...)
				r.after(t, canary, canary+"\n", "password")
			}
			if n := r.Stats().RefusedLogins; n > 1 {
				t.Errorf("%d attempts", n)
			}
		})
	}
}

func TestAWrongCurrentPasswordIsTriedOnce(t *testing.T) {
	r := newRotating(t)
	write(t, r.file, canary+"-wrong")
	r.update(t, "--write", r.file).want(t, 1, "refused", "mend it where it stands (file "+r.file+")")
	if got := r.Stats(); got.RefusedLogins != 1 || got.Calls != 0 {
		t.Errorf("got %+v", got)
	}
	r.after(t, canary, canary+"-wrong", "password")
}

// unsteady is an office behind a server that spoils the answer to a change.
func (r rotating) unsteady(t *testing.T, spoil func(http.ResponseWriter, *http.Request, http.Handler)) rotating {
	t.Helper()
	target, err := url.Parse(strings.TrimSuffix(r.url, "/automation-api"))
	if err != nil {
		t.Fatal(err)
	}
	to := &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
		Transport: &http.Transport{TLSClientConfig: trusting(t, r.ca), DisableKeepAlives: true},
	}
	r.env = append(r.env, "CTM_ENDPOINT="+serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, updatePath) {
			spoil(w, req, to)
			return
		}
		to.ServeHTTP(w, req)
	}))+"/automation-api")
	return r
}

func TestAChangeThatWasMadeIsFoundOutWhateverTheAnswerSays(t *testing.T) {
	for name, spoil := range map[string]http.HandlerFunc{
		"an error":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"a proxy's error": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusGatewayTimeout) },
		"a sign-in page":  func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"no answer":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRotating(t)
			r = r.unsteady(t, func(w http.ResponseWriter, req *http.Request, to http.Handler) {
				to.ServeHTTP(httptest.NewRecorder(), req) // the change is made
				spoil(w, req)
			})
			r.update(t, "--write", r.file).want(t, 0, "has changed the password all the same", "the new one works")
			if n := r.Stats().RefusedLogins; n != 1 {
				t.Errorf("%d logins were refused, want that with the old password", n)
			}
			r.after(t, changed, changed+"\n", "password")
		})
	}
}

func TestAProofThatFailsTellsTheStateExactly(t *testing.T) {
	// What happens to logins once the password is changed, or not.
	for name, test := range map[string]struct {
		change   bool // the API makes the change that it says it has made
		faults   string
		code     int
		want     []string
		upstream string
		files    string
	}{
		"one login fails":                {true, "login=503x1", 0, []string{"the new one works"}, changed, "password"},
		"all logins fail":                {true, "login=503", 1, []string{"could not be proved", "most likely the new password is in force", "ctmgate check"}, changed, "password password.pending"},
		"all logins are refused":         {true, "login=401", 1, []string{"it refuses the new one and the current one", "locked", "ctmgate check"}, changed, "password password.pending"},
		"the API has not changed it":     {false, "", 1, []string{"still takes the current one", "the current password is in force"}, canary, "password"},
		"refused, and then no more says": {true, "login=401x1 login=500", 1, []string{"whether it still takes the current one could not be found out"}, changed, "password password.pending"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			r := newRotating(t)
			var faults []emulator.Fault
			for one := range strings.FieldsSeq(test.faults) {
				f, err := emulator.ParseFault(one)
				if err != nil {
					t.Fatal(err)
				}
				faults = append(faults, f)
			}
			r = r.unsteady(t, func(w http.ResponseWriter, req *http.Request, to http.Handler) {
				if test.change {
					to.ServeHTTP(httptest.NewRecorder(), req)
				}
				r.SetFaults(faults...)
				fmt.Fprint(w, `{ "message" : "Password was updated successfully" }`)
			})
			got := r.update(t, "--write", r.file)
			got.want(t, test.code, test.want...)
			file := canary + "\n"
			if test.code == 0 {
				file = changed + "\n"
			}
			r.after(t, test.upstream, file, strings.Fields(test.files)...)
			if strings.Contains(test.files, "pending") && contentOf(t, r.file+".pending") != changed+"\n" {
				t.Errorf("the pending file has %q", contentOf(t, r.file+".pending"))
			}
		})
	}
}

func TestAProcessThatIsKilledLeavesBothPasswords(t *testing.T) {
	r := newRotating(t)
	asked, release := make(chan struct{}, 1), make(chan struct{})
	defer close(release)
	r = r.unsteady(t, func(_ http.ResponseWriter, req *http.Request, to http.Handler) {
		to.ServeHTTP(httptest.NewRecorder(), req)
		asked <- struct{}{}
		<-release
	})
	next := write(t, filepath.Join(t.TempDir(), "next"), changed)
	p := r.start(t, r.env, "password", "update", "--new-password-file", next, "--write", r.file)
	await(t, asked)
	p.end(syscall.SIGKILL)
	if contentOf(t, r.file) != canary+"\n" || contentOf(t, r.file+".pending") != changed+"\n" || modeOf(t, r.file+".pending") != 0o600 {
		t.Errorf("got %q and %q", contentOf(t, r.file), contentOf(t, r.file+".pending"))
	}
	before := r.Stats()
	r.update(t, "--write", r.file).want(t, 1, r.file+".pending exists already", "ctmgate check")
	if after := r.Stats(); after.Logins != before.Logins || after.RefusedLogins != before.RefusedLogins {
		t.Error("it has logged in all the same")
	}
	if contentOf(t, r.file+".pending") != changed+"\n" {
		t.Error("the pending password is lost")
	}
}

func TestASignalDoesNotBreakOffAChange(t *testing.T) {
	r := newRotating(t)
	asked, signalled := make(chan struct{}, 1), make(chan struct{})
	r = r.unsteady(t, func(w http.ResponseWriter, req *http.Request, to http.Handler) {
		body, _ := io.ReadAll(req.Body)
		asked <- struct{}{}
		await(t, signalled)
		req.Body = io.NopCloser(strings.NewReader(string(body)))
		to.ServeHTTP(w, req)
	})
	next := write(t, filepath.Join(t.TempDir(), "next"), changed)
	p := r.start(t, r.env, "password", "update", "--new-password-file", next, "--write", r.file)
	await(t, asked)
	for range 2 { // as timeout(1) does
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	close(signalled)
	if code, out := p.exit(); code != 0 || !strings.Contains(out, "the new one works") {
		t.Errorf("got %d %s", code, out)
	}
	r.after(t, changed, changed+"\n", "password")
}
