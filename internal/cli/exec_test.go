//go:build unix

package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

func TestExecAdmitsTheKeyOfItsCommandAndNobodyElse(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	g := h.startGuest(t, upstream.passwordFile(t), "")
	if !strings.HasPrefix(g.endpoint, "http://127.0.0.1:") || !strings.HasSuffix(g.endpoint, "/automation-api") {
		t.Errorf("the endpoint is %s", g.endpoint)
	}
	basic := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	for name, test := range map[string]struct {
		header []string
		want   int
	}{
		"as Bearer":              {[]string{"Authorization", "Bearer " + g.key}, 200},
		"as x-api-key":           {[]string{"X-Api-Key", g.key}, 200},
		"in Basic":               {[]string{"Authorization", basic("exec", g.key)}, 200},
		"no key":                 {nil, 401},
		"a wrong key":            {[]string{"Authorization", "Bearer " + strings.ToUpper(g.key)}, 401},
		"another user name":      {[]string{"Authorization", basic("batch", g.key)}, 401},
		"the upstream's own":     {[]string{"Authorization", basic("batch", canary)}, 401},
		"a token of upstream's":  {[]string{"X-Api-Key", canary + "-token"}, 401},
		"a caller through loops": {[]string{"X-Forwarded-For", "127.0.0.1"}, 401},
	} {
		if status, body := g.call(http.MethodGet, "/config/servers", "", test.header...); status != test.want || strings.Contains(body, canary) {
			t.Errorf("%s: got %d %s, want %d", name, status, body, test.want)
		}
	}
	if status, body := g.call(http.MethodPost, "/run/order", `{"ctm":"ctmprod","folder":"NightlyBilling"}`,
		"X-Api-Key", g.key, "Content-Type", "application/json"); status != 200 {
		t.Errorf("ordering: got %d %s", status, body)
	}
	if status, body := g.call(http.MethodGet, "/authentication/tokens", "", "X-Api-Key", g.key); status != 403 {
		t.Errorf("a protected operation: got %d %s", status, body)
	}
	if code, out := g.release("7"); code != 7 || strings.Contains(out, `"level"`) {
		t.Errorf("got %d, and %s", code, out)
	}
	if got := upstream.Stats(); got.Logins != 1 || got.Logouts != 1 || got.LiveSessions != 0 || got.Calls != 4 {
		t.Errorf("got %+v", got)
	}
	nothingLeft(t, h)
}

func TestExecAnswersACommandThatInsistsOnLoggingIn(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	g := h.startGuest(t, upstream.passwordFile(t), "")
	login := func(user, password string) (int, string) {
		body, err := json.Marshal(map[string]string{"username": user, "password": password})
		if err != nil {
			t.Fatal(err)
		}
		return g.call(http.MethodPost, "/session/login", string(body), "Content-Type", "application/json")
	}
	for _, wrong := range [][2]string{{"exec", canary}, {"batch", canary}, {"batch", g.key}} {
		if status, body := login(wrong[0], wrong[1]); status != 401 || strings.Contains(body, canary) {
			t.Errorf("%s: got %d %s", wrong[0], status, body)
		}
	}
	if got := upstream.Stats(); got.Logins+got.RefusedLogins != 0 {
		t.Errorf("a login at the gateway reached Control-M: %+v", got)
	}
	status, body := login("exec", g.key)
	_, rest, found := strings.Cut(body, `"token" : "`)
	token, _, _ := strings.Cut(rest, `"`)
	if status != 200 || !found || token == g.key {
		t.Fatalf("got %d %s", status, body)
	}
	if status, body := g.call(http.MethodGet, "/config/servers", "", "Authorization", "Bearer "+token); status != 200 {
		t.Errorf("got %d %s", status, body)
	}
	if status, body := g.call(http.MethodPost, "/session/logout", "", "Authorization", "Bearer "+token); status != 200 {
		t.Errorf("got %d %s", status, body)
	}
	if status, _ := g.call(http.MethodGet, "/config/servers", "", "Authorization", "Bearer "+token); status != 401 {
		t.Errorf("a token that has ended: got %d", status)
	}
	g.works()
	if code, _ := g.release("0"); code != 0 {
		t.Errorf("got %d", code)
	}
	if got := upstream.Stats(); got.Logins != 1 || got.LiveSessions != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestTheCommandFindsNoSecretInItsEnvironment(t *testing.T) {
	upstream := newPlant(t)
	for name, env := range map[string][]string{
		"a password":   {"CTM_USER=batch", "CTM_PASSWORD=" + canary},
		"an API token": {"CTM_API_TOKEN=" + canary + "-token"},
		"files": upstream.passwordFile(t, "CTM_INSECURE_SKIP_VERIFY=no", "CTM_GATEWAY_KEY=of-another",
			"https_proxy=http://proxy.example.com:3128", "HTTP_PROXY=http://proxy.example.com:3128", "NO_PROXY=localhost, .example.com"),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			g := h.startGuest(t, append([]string{"CTM_ENDPOINT=" + upstream.url, "CTM_CA_FILE=" + upstream.ca, "KEPT=as it=was"}, env...), "")
			for _, line := range g.lines {
				name, _, _ := strings.Cut(line, "=")
				if strings.Contains(line, canary) || strings.HasPrefix(name, "CTM_") && name != "CTM_ENDPOINT" && name != "CTM_GATEWAY_KEY" {
					t.Errorf("there is %s", line)
				}
			}
			if !slices.Contains(g.lines, "KEPT=as it=was") {
				t.Errorf("got %q", g.lines)
			}
			if name == "files" && (!slices.Contains(g.lines, "no_proxy=localhost,.example.com,127.0.0.1") || !slices.Contains(g.lines, "NO_PROXY=localhost,.example.com,127.0.0.1")) {
				t.Errorf("its calls go to a proxy: %q", g.lines)
			}
			g.works()
			g.release("0")
		})
	}
}

func TestChildEnvironKeepsAllButWhatConcernsTheGateway(t *testing.T) {
	const url, key = "http://127.0.0.1:1/x", "k"
	set := []string{"CTM_ENDPOINT=" + url, "CTM_GATEWAY_KEY=" + key}
	for name, test := range map[string]struct{ ours, want []string }{
		"nothing":                {nil, set},
		"secrets":                {[]string{"CTM_PASSWORD=x", "A=b", "ctm_api_token=x", "CTM_USER=x"}, append([]string{"A=b"}, set...)},
		"names that begin alike": {[]string{"CTM_PASSWORDS=x", "CTM_SERVER=x"}, append([]string{"CTM_PASSWORDS=x", "CTM_SERVER=x"}, set...)},
		"a proxy for everything": {[]string{"ALL_PROXY=p", "no_proxy=*", "NO_PROXY=127.0.0.1"}, append([]string{"ALL_PROXY=p", "no_proxy=*", "NO_PROXY=127.0.0.1"}, set...)},
		"what is near, by the name in capitals": {
			[]string{"http_proxy=p", "NO_PROXY=localhost, .corp"},
			append([]string{"http_proxy=p", "NO_PROXY=localhost,.corp,127.0.0.1", "no_proxy=localhost,.corp,127.0.0.1"}, set...),
		},
		"what is near, by the other name": {
			[]string{"http_proxy=p", "no_proxy=127.0.0.1 localhost"},
			append([]string{"http_proxy=p", "no_proxy=127.0.0.1 localhost", "NO_PROXY=127.0.0.1 localhost"}, set...),
		},
		"what is near, by one name that is empty": {
			[]string{"no_proxy=", "NO_PROXY=localhost", "all_proxy=p"},
			append([]string{"no_proxy=localhost,127.0.0.1", "NO_PROXY=localhost,127.0.0.1", "all_proxy=p"}, set...),
		},
		"what is near, by two names that differ": {
			[]string{"HTTP_PROXY=p", "no_proxy=a", "NO_PROXY=b"},
			append([]string{"HTTP_PROXY=p", "no_proxy=a,127.0.0.1", "NO_PROXY=b,127.0.0.1"}, set...),
		},
		"everything is near, by one name": {[]string{"http_proxy=p", "NO_PROXY=*"}, append([]string{"http_proxy=p", "NO_PROXY=*", "no_proxy=*"}, set...)},
		"nothing is near":                 {[]string{"http_proxy=p"}, append([]string{"http_proxy=p", "no_proxy=127.0.0.1", "NO_PROXY=127.0.0.1"}, set...)},
		"an empty proxy":                  {[]string{"http_proxy="}, append([]string{"http_proxy="}, set...)},
		"no value":                        {[]string{"A", ""}, append([]string{"A", ""}, set...)},
	} {
		if got := childEnviron(test.ours, url, key); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestExecEndsAsItsCommandEnds(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	folder := t.TempDir()
	plainFile := write(t, filepath.Join(folder, "plain"), "x")
	badScript := write(t, filepath.Join(folder, "script"), "#!/nowhere/at/all\n")
	if err := os.Chmod(badScript, 0o700); err != nil { //nolint:gosec // a script
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"done":                   {[]string{"--", "true"}, 0, ""},
		"failed":                 {[]string{"--", "sh", "-c", "exit 3"}, 3, ""},
		"the highest code":       {[]string{"--", "sh", "-c", "exit 255"}, 255, ""},
		"SIGKILL":                {[]string{"--", "sh", "-c", "kill -KILL $$"}, 137, ""},
		"SIGTERM":                {[]string{"--", "sh", "-c", "kill -TERM $$"}, 143, ""},
		"flags of the command":   {[]string{"sh", "-c", "exit 4"}, 4, ""},
		"its own help":           {[]string{"--", "sh", "-c", `test "$1" = --help`, "sh", "--help"}, 0, ""},
		"not found":              {[]string{"--", "no-such-command"}, 127, "running no-such-command: executable file not found"},
		"no such path":           {[]string{"--", folder + "/none"}, 127, "no such file"},
		"a folder":               {[]string{"--", folder}, 126, "is a directory"},
		"not executable":         {[]string{"--", plainFile}, 126, "permission denied"},
		"an interpreter is gone": {[]string{"--", badScript}, 127, "no such file"},
		"no command":             {nil, 2, "expected one after --"},
		"an empty command":       {[]string{"--", ""}, 2, "expected one after --"},
		"an unknown flag":        {[]string{"--listen", "127.0.0.1:1", "--", "true"}, 2, "unknown flag: --listen"},
		"a password as a flag":   {[]string{"--password", canary, "--", "true"}, 2, "CTM_PASSWORD"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out := h.run(t, upstream.passwordFile(t), append([]string{"exec"}, test.args...)...)
			if code != test.code || !strings.Contains(out, test.want) || test.want == "" && out != "" {
				t.Errorf("got %d %s", code, out)
			}
		})
	}
	if got := upstream.Stats(); got.Logins != 0 {
		t.Errorf("nobody called, and it logged in: %+v", got)
	}
	nothingLeft(t, h)
}

func TestExecRunsNothingWhenTheGatewayCannotStart(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	env := func(more ...string) []string { return append(upstream.passwordFile(t), more...) }
	for name, test := range map[string]struct {
		env  []string
		code int
		want string
	}{
		"a password file that is not there": {env("CTM_PASSWORD_FILE=/nowhere/password"), 1, "/nowhere/password"},
		"a CA file without a certificate":   {env("CTM_CA_FILE=" + write(t, filepath.Join(t.TempDir(), "x"), "x")), 1, "BEGIN CERTIFICATE"},
		"endpoints that do not fit":         {env("CTM_ENDPOINT=https://a/x,https://b/y"), 2, "one base path"},
		"two secrets":                       {env("CTM_PASSWORD=" + canary), 2, "CTM_PASSWORD and CTM_PASSWORD_FILE"},
		"no endpoint":                       {[]string{"CTM_USERNAME=batch"}, 2, "CTM_ENDPOINT"},
		"no secret":                         {[]string{"CTM_ENDPOINT=" + upstream.url}, 2, "ctmgate exec --endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out := h.run(t, test.env, "exec", "--", "sh", "-c", "echo it ran")
			if code != test.code || !strings.Contains(out, test.want) || strings.Contains(out, "it ran") || strings.Contains(out, "provision") {
				t.Errorf("got %d %s", code, out)
			}
			nothingLeft(t, h)
		})
	}
}

func TestExecPassesInputAndOutputThrough(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	input := make([]byte, 32<<20)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte("input"))).Read(input)
	cmd := exec.Command(program, "exec", "--", "sh", "-c", "cat; echo trouble >&2") //nolint:noctx,gosec // ends with its input
	cmd.Env = h.environ(upstream.passwordFile(t)...)
	cmd.Stdin = bytes.NewReader(input)
	output, trouble := sha256.New(), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = output, trouble
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, trouble)
	}
	if want := sha256.Sum256(input); !bytes.Equal(output.Sum(nil), want[:]) {
		t.Error("what came out is not what went in")
	}
	if trouble.String() != "trouble\n" {
		t.Errorf("on standard error: %q", trouble)
	}
}

func TestExecWorksWithoutAHomeAndWhereNothingCanBeWritten(t *testing.T) {
	upstream, folder := newPlant(t), t.TempDir()
	if err := os.Chmod(folder, 0o500); err != nil { //nolint:gosec // what is tested
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(folder, 0o700) })                                      //nolint:gosec // so that it can be removed
	cmd := exec.Command(program, "exec", "--", "sh", "-c", `echo "$CTM_ENDPOINT"; exit 5`) //nolint:noctx,gosec // ends by itself
	cmd.Env = append(upstream.passwordFile(t), "PATH="+os.Getenv("PATH"), "TMPDIR="+folder)
	cmd.Dir = folder
	trouble := new(strings.Builder)
	cmd.Stderr = trouble
	out, _ := cmd.Output()
	if cmd.ProcessState.ExitCode() != 5 || !strings.HasPrefix(string(out), "http://127.0.0.1:") {
		t.Errorf("got %d %s", cmd.ProcessState.ExitCode(), out)
	}
	// Caddy says so once, before any of ours runs.
	if said := trouble.String(); strings.Count(said, "\n") > 1 || said != "" && !strings.Contains(said, "$XDG_CONFIG_HOME nor $HOME") {
		t.Errorf("on standard error: %s", said)
	}
	if left := entries(t, folder); len(left) > 0 {
		t.Errorf("it left behind: %q", left)
	}
}

func TestManyCommandsAtOnceHaveAGatewayEach(t *testing.T) {
	upstream := newPlant(t)
	var guests []guest
	for range 4 {
		guests = append(guests, newHome(t).startGuest(t, upstream.passwordFile(t), ""))
	}
	for i, g := range guests {
		g.works()
		other := guests[(i+1)%len(guests)]
		if status, _ := g.call(http.MethodGet, "/config/servers", "", "X-Api-Key", other.key); status != 401 {
			t.Errorf("the key of another command: got %d", status)
		}
	}
	for _, g := range guests {
		if code, _ := g.release("0"); code != 0 {
			t.Errorf("got %d", code)
		}
	}
	if got := upstream.Stats(); got.LiveSessions != 0 || got.Logins != len(guests) {
		t.Errorf("got %+v", got)
	}
}

func TestExecWithAnAPITokenNeverLogsIn(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	file := write(t, filepath.Join(t.TempDir(), "token"), canary+"-token\n")
	g := h.startGuest(t, nil, "", "--endpoint", upstream.url, "--ca-file", upstream.ca, "--api-token-file", file)
	g.works()
	if code, out := g.release("0"); code != 0 || strings.Contains(out, `"level"`) {
		t.Errorf("got %d %s", code, out)
	}
	if got := upstream.Stats(); got.Logins != 0 || got.Calls != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestExecSaysOnStandardErrorThatThePasswordWasRefused(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	upstream.SetPassword("batch", "another one")
	g := h.startGuest(t, upstream.passwordFile(t), "")
	for range 3 {
		if status, body := g.call(http.MethodGet, "/config/servers", "", "X-Api-Key", g.key); status != 502 || !strings.Contains(body, "ctmgate.login_refused") {
			t.Errorf("got %d %s", status, body)
		}
	}
	if code, out := g.release("22"); code != 22 || !strings.Contains(out, "login refused") {
		t.Errorf("got %d %s", code, out)
	}
	if got := upstream.Stats(); got.RefusedLogins != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestExecDoesNotWaitForCallsThatItsCommandLeftBehind(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	g := h.startGuest(t, upstream.passwordFile(t), "")
	g.works()
	hang, err := emulator.ParseFault("calls=hang")
	if err != nil {
		t.Fatal(err)
	}
	upstream.SetFaults(hang)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.endpoint+"/config/servers", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", g.key)
	left := make(chan struct{})
	go func() {
		defer close(left)
		if resp, err := http.DefaultTransport.RoundTrip(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}()
	eventually(t, "a call that hangs", func() bool { return upstream.Stats().Calls == 2 })
	began := time.Now()
	if code, _ := g.release("0"); code != 0 {
		t.Errorf("got %d", code)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s to end", took)
	}
	<-left
	if got := upstream.Stats(); got.LiveSessions != 0 {
		t.Errorf("it has not logged out: %+v", got)
	}
}
