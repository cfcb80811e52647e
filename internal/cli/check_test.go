package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// checked is what `check --json` prints, with the members that its help names.
type checked struct {
	OK      bool
	Results []struct {
		Environment, Account, Endpoint string
		OK                             bool
		Result                         string
		Status                         int
		Version                        string
		Latency                        *int64 `json:"latency_ms"`
		Message, Action                string
		Certificates                   []struct {
			Subject, Issuer string
			Names           []string
			NotBefore       string `json:"not_before"`
			NotAfter        string `json:"not_after"`
			SHA256          string
		}
		Offset   *float64 `json:"clock_offset_seconds"`
		Warnings []string
		SameAs   string `json:"same_as"`
	}
}

// results are those of the account, by its endpoints in their order.
func (c checked) results(name string) (list []string) {
	for _, r := range c.Results {
		if r.Environment+"/"+r.Account == name {
			list = append(list, r.Result)
		}
	}
	return list
}

// check runs the command with --json, and wants exit code.
func (h home) check(t *testing.T, want int, env []string, args ...string) checked {
	t.Helper()
	code, out := h.run(t, env, append([]string{"check", "--json"}, args...)...)
	if code != want {
		t.Errorf("exit %d, want %d", code, want)
	}
	var got checked
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if got.OK != (want == 0) {
		t.Errorf(`"ok" is %t beside exit code %d`, got.OK, code)
	}
	return got
}

// object is JSON of a config.
type object map[string]any

// checkConfig writes a config with environments.
func checkConfig(t *testing.T, environments object) string {
	t.Helper()
	content, err := json.Marshal(object{"apps": object{"controlm": object{"environments": environments}}})
	if err != nil {
		t.Fatal(err)
	}
	return write(t, filepath.Join(t.TempDir(), "config.json"), string(content))
}

// batch is the account of the user batch with the password in file.
func batch(file string) object { return object{"username": "batch", "password": "{file." + file + "}"} }

func passwordIn(t *testing.T, text string) string {
	t.Helper()
	return write(t, filepath.Join(t.TempDir(), "password"), text+"\n")
}

func TestCheckLogsInAndOutWithEveryAccountAtEveryEndpoint(t *testing.T) {
	h, one, two := newHome(t), newPlant(t), newPlant(t)
	file := passwordIn(t, canary)
	config := checkConfig(t, object{
		"prod": object{
			"endpoint": []string{one.url, two.url}, "tls_ca_file": []string{one.ca, two.ca},
			"accounts":        object{"batch": batch(file), "reports": object{"api_token": canary + "-token"}},
			"default_account": "batch",
		},
		"test": object{"endpoint": []string{two.url}, "tls_ca_file": []string{two.ca}, "accounts": object{"batch": batch(file)}},
	})
	got := h.check(t, 0, nil, "--config", config)
	if len(got.Results) != 5 {
		t.Fatalf("got %+v", got)
	}
	for _, r := range got.Results {
		if r.Result != "ok" || !r.OK || r.Latency == nil || r.Message != "" || len(r.Warnings) != 0 || r.SameAs != "" {
			t.Errorf("got %+v", r)
		}
		if want := map[string]string{"batch": "9.21.220"}[r.Account]; r.Version != want {
			t.Errorf("%s has the version %q, want %q", r.Account, r.Version, want)
		}
		if r.Offset == nil || *r.Offset < -60 || *r.Offset > 60 {
			t.Errorf("the clock is off by %v", r.Offset)
		}
	}
	code, out := h.run(t, nil, "check", "--config", config)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 6 || strings.Contains(out, "\x1b") {
		t.Fatalf("exit %d, %s", code, out)
	}
	if got := strings.Fields(lines[0]); !slices.Equal(got, []string{"ACCOUNT", "ENDPOINT", "RESULT", "API", "LATENCY"}) {
		t.Errorf("the header is %q", got)
	}
	if got := strings.Fields(lines[1]); len(got) != 6 || !slices.Equal(got[:4], []string{"prod/batch", one.url, "ok", "9.21.220"}) {
		t.Errorf("the first line is %q", got)
	}
	for _, line := range lines {
		if strings.Index(line, "http") != strings.Index(lines[0], "ENDPOINT") && !strings.Contains(line, "ENDPOINT") {
			t.Errorf("the columns are not straight:\n%s", out)
		}
	}
	// Each endpoint, in two runs: one login of prod/batch, and at the second
	// one of test/batch, whose way there is another; an API token logs in never.
	for p, logins := range map[plant]int{one: 2, two: 4} {
		if s := p.Stats(); s.Logins != logins || s.Logouts != logins || s.LiveSessions != 0 || s.RefusedLogins != 0 {
			t.Errorf("got %+v, want %d logins", s, logins)
		}
	}
}

func TestCheckReadsTheVariablesOfASidecar(t *testing.T) {
	h, p := newHome(t), newPlant(t)
	got := h.check(t, 0, p.passwordFile(t))
	if names := got.results("127.0.0.1/default"); !slices.Equal(names, []string{"ok"}) {
		t.Errorf("got %+v", got)
	}
	for _, endpoint := range []string{p.url, strings.Replace(p.url, "https", "HTTPS", 1)} {
		got = h.check(t, 0, []string{"CTM_ENDPOINT=" + endpoint, "CTM_API_TOKEN=" + canary + "-token", "CTM_INSECURE_SKIP_VERIFY=1"})
		if w := got.Results[0].Warnings; len(w) != 1 || !strings.Contains(w[0], "CTM_INSECURE_SKIP_VERIFY") {
			t.Errorf("the warnings for %s are %q", endpoint, w)
		}
	}
	got = h.check(t, 1, []string{"CTM_ENDPOINT=" + p.url, "CTM_API_TOKEN=" + canary + "-token"})
	if r := got.Results[0]; r.Result != "certificate_untrusted" || !strings.Contains(r.Action, "CTM_CA_FILE") || !strings.Contains(r.Action, "--ca-file") {
		t.Errorf("got %+v", r)
	}
	if s := p.Stats(); s.Logins != 1 || s.Calls != 3 || s.LiveSessions != 0 {
		t.Errorf("got %+v", s)
	}
}

// Control-M locks a user after some refusals.
func TestARefusedPasswordIsTriedOnce(t *testing.T) {
	h := newHome(t)
	ca, err := emulator.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	// One Control-M behind two endpoints.
	e := emulator.New(emulator.Options{Users: []emulator.User{{Name: "batch", Password: canary}}, LockAfter: 2})
	var endpoints []string
	for range 2 {
		server, err := e.Listen("127.0.0.1:0", ca)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Close() })
		endpoints = append(endpoints, server.URL())
	}
	trusted := []string{write(t, filepath.Join(t.TempDir(), "ca.pem"), string(ca.PEM()))}
	wrong := passwordIn(t, "wrong-"+canary)
	config := checkConfig(t, object{
		"prod": object{
			"endpoint": endpoints, "tls_ca_file": trusted, "default_account": "batch",
			"accounts": object{"batch": batch(wrong), "same": batch(passwordIn(t, "wrong-"+canary))},
		},
		"zone": object{"endpoint": endpoints[:1], "tls_server_name": "localhost", "tls_ca_file": trusted, "accounts": object{"batch": batch(wrong)}},
	})
	got := h.check(t, 1, nil, "--config", config)
	for name, want := range map[string][]string{
		"prod/batch": {"refused", "not_tried"}, "prod/same": {"refused", "not_tried"}, "zone/batch": {"not_tried"},
	} {
		if results := got.results(name); !slices.Equal(results, want) {
			t.Errorf("%s: got %q, want %q", name, results, want)
		}
	}
	if r := got.Results[2]; r.SameAs != "prod/batch" {
		t.Errorf("the second account is %+v", r)
	}
	if s := e.Stats(); s.RefusedLogins != 1 || s.Logins != 0 {
		t.Errorf("got %+v, want one refusal", s)
	}
	// So the user is not locked, and the right password opens.
	h.check(t, 0, []string{
		"CTM_ENDPOINT=" + endpoints[0], "CTM_CA_FILE=" + trusted[0], "CTM_USERNAME=batch", "CTM_PASSWORD=" + canary,
	})
	if s := e.Stats(); s.LiveSessions != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestAccountsWithTheSameUserAndPasswordShareALogin(t *testing.T) {
	h, p := newHome(t), newPlant(t)
	config := checkConfig(t, object{"prod": object{
		"endpoint": []string{p.url}, "tls_ca_file": []string{p.ca}, "default_account": "one",
		"accounts": object{"one": batch(passwordIn(t, canary)), "two": batch(passwordIn(t, canary))},
	}})
	got := h.check(t, 0, nil, "--config", config)
	if len(got.Results) != 2 || got.Results[1].SameAs != "prod/one" || got.Results[1].Version != "9.21.220" {
		t.Errorf("got %+v", got)
	}
	if s := p.Stats(); s.Logins != 1 || s.LiveSessions != 0 {
		t.Errorf("got %+v", s)
	}
}

// `password update` writes FILE.pending, asks the API, and renames it to FILE.
func TestCheckExplainsAChangeOfThePasswordThatWasCutOff(t *testing.T) {
	for name, test := range map[string]struct {
		main, pending string
		result        string
		refusals      int
		words         []string
	}{
		"before the API changed it":         {canary, "new-" + canary, "ok", 0, []string{"is the one in force", "remove the former"}},
		"before the file was replaced":      {"old-" + canary, canary, "refused", 1, []string{"is in force", "mv "}},
		"and somebody set another password": {"old-" + canary, "new-" + canary, "refused", 2, []string{"Neither password works", "unlock"}},
		"and both files hold the same":      {"old-" + canary, "old-" + canary, "refused", 1, []string{"holds the same password"}},
		"and the pending file is empty":     {"old-" + canary, "", "refused", 1, []string{"cannot be read"}},
	} {
		t.Run(name, func(t *testing.T) {
			h, p := newHome(t), newPlant(t)
			file := passwordIn(t, test.main)
			write(t, file+".pending", test.pending)
			// The second endpoint is not asked what the first has refused.
			config := checkConfig(t, object{"prod": object{
				"endpoint": []string{p.url, strings.Replace(p.url, "127.0.0.1", "localhost", 1)}, "tls_ca_file": []string{p.ca},
				"accounts": object{"batch": batch(file)},
			}})
			code := 1
			if test.result == "ok" {
				code = 0
			}
			r := h.check(t, code, nil, "--config", config).Results[0]
			said := strings.Join(append(r.Warnings, r.Message, r.Action), " ")
			for _, word := range append(test.words, file+".pending") {
				if !strings.Contains(said, word) {
					t.Errorf("it does not say %q: %s", word, said)
				}
			}
			if r.Result != test.result {
				t.Errorf("got %+v", r)
			}
			if s := p.Stats(); s.RefusedLogins != test.refusals || s.LiveSessions != 0 || s.Logins != s.Logouts {
				t.Errorf("got %+v, want %d refusals", s, test.refusals)
			}
			if content, err := os.ReadFile(file + ".pending"); err != nil || string(content) != test.pending {
				t.Errorf("the pending file is now %q, %v", content, err)
			}
		})
	}
}

func TestCheckFindsAPendingPasswordBesideTheFileThatIsLinkedTo(t *testing.T) {
	h, p := newHome(t), newPlant(t)
	file := passwordIn(t, "old-"+canary)
	write(t, file+".pending", canary)
	// As Kubernetes lays it out: a link to a file in a folder that is one, too.
	folder := t.TempDir()
	for link, to := range map[string]string{"password": filepath.Join("..data", filepath.Base(file)), "..data": filepath.Dir(file)} {
		if err := os.Symlink(to, filepath.Join(folder, link)); err != nil {
			t.Fatal(err)
		}
	}
	r := h.check(t, 1, []string{
		"CTM_ENDPOINT=" + p.url, "CTM_CA_FILE=" + p.ca, "CTM_USERNAME=batch", "CTM_PASSWORD_FILE=" + filepath.Join(folder, "password"),
	}).Results[0]
	linked, err := filepath.EvalSymlinks(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "`mv " + linked + ".pending " + linked + "`"; r.Result != "refused" || !strings.Contains(r.Action, want) {
		t.Errorf("got %+v, want %s", r, want)
	}
}

func TestAPendingPasswordIsNotTriedWhereNothingIsRefused(t *testing.T) {
	h, p := newHome(t), newPlant(t)
	file := passwordIn(t, "old-"+canary)
	write(t, file+".pending", canary)
	p.SetFaults(emulator.Fault{Target: "login", Action: "500"})
	got := h.check(t, 1, []string{
		"CTM_ENDPOINT=" + p.url, "CTM_CA_FILE=" + p.ca, "CTM_USERNAME=batch", "CTM_PASSWORD_FILE=" + file,
	})
	if r := got.Results[0]; r.Result != "failed" || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], file+".pending") {
		t.Errorf("got %+v", r)
	}
	if s := p.Stats(); s.FailedLogins != 1 || s.Logins != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestAnAccountThatCannotBeOpenedDoesNotKeepTheOthersFromBeingChecked(t *testing.T) {
	h, p := newHome(t), newPlant(t)
	config := checkConfig(t, object{
		"prod": object{
			"endpoint": []string{p.url}, "tls_ca_file": []string{p.ca}, "default_account": "batch",
			"accounts": object{
				"batch": batch(passwordIn(t, canary)), "absent": batch("/nowhere/password"),
				"garbled": object{"api_token": "{file." + passwordIn(t, canary+"\u200b") + "}"}, // which no header carries
			},
		},
		"test": object{"endpoint": []string{p.url}, "tls_ca_file": []string{"/nowhere/ca.pem"}, "accounts": object{"batch": batch(passwordIn(t, canary))}},
	})
	got := h.check(t, 1, nil, "--config", config)
	for name, want := range map[string]string{"prod/batch": "ok", "prod/absent": "not_opened", "prod/garbled": "not_opened", "test/batch": "not_opened"} {
		if results := got.results(name); !slices.Equal(results, []string{want}) {
			t.Errorf("%s: got %q, want %q", name, results, want)
		}
	}
	if _, out := h.run(t, nil, "check", "--config", config); !strings.Contains(out, "/nowhere/password") || !strings.Contains(out, "/nowhere/ca.pem") {
		t.Errorf("it does not name the files: %s", out)
	}
}

func TestCheckTellsUsageFromFailure(t *testing.T) {
	h, p := newHome(t), newPlant(t)
	config := checkConfig(t, object{"prod": object{
		"endpoint": []string{p.url}, "tls_ca_file": []string{p.ca}, "accounts": object{"batch": batch(passwordIn(t, canary))},
	}})
	for name, test := range map[string]struct {
		args  []string
		code  int
		words string
	}{
		"no config and no variables": {nil, 2, "CTM_ENDPOINT"},
		"an argument":                {[]string{"prod"}, 2, "flags only"},
		"an account that is not":     {[]string{"--config", config, "--account", "prod/other"}, 2, "prod/batch"},
		"a config that is not":       {[]string{"--config", config + "x"}, 1, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, out := h.run(t, nil, append([]string{"check"}, test.args...)...); code != test.code || !strings.Contains(out, test.words) {
				t.Errorf("exit %d, %s", code, out)
			}
		})
	}
	if s := p.Stats(); s.Logins != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestTheHelpOfCheckNamesEveryResult(t *testing.T) {
	for _, result := range []string{
		resultOK, resultNotResolved, resultNotConnected, resultLost, resultLate, resultNoTLS, resultTLS, resultUntrusted, resultOtherName,
		resultExpired, resultNotHTTP, resultNotAPI, resultRefused, resultForbidden, resultFailed, resultNotTried, resultNotOpened,
	} {
		if !strings.Contains(checkHelp, "\n  "+result+" ") {
			t.Errorf("it does not name %s", result)
		}
	}
}

func TestCheckWritesDownACertificateAndTrustsItNoMore(t *testing.T) {
	h, p := newHome(t), newPlant(t)
	file := filepath.Join(t.TempDir(), "em.pem")
	environment := object{"endpoint": []string{p.url}, "accounts": object{"batch": batch(passwordIn(t, canary))}}
	args := []string{"check", "--config", checkConfig(t, object{"prod": environment}), "--save-certificate", file}
	code, out := h.run(t, nil, args...)
	saved, err := os.ReadFile(file)
	if err != nil || string(saved) != string(p.issuer.PEM()) {
		t.Fatalf("it has written %q, %v", saved, err)
	}
	pool := trusting(t, file)
	if code != 1 || pool == nil || !strings.Contains(out, "trusted by nothing yet") || !strings.Contains(out, "--account prod/batch") {
		t.Errorf("exit %d, %s", code, out)
	}
	// It writes over nothing, and is not trusted by having been written.
	if code, out := h.run(t, nil, args...); code != 1 || !strings.Contains(out, "file exists") || !strings.Contains(out, "certificate untrusted") {
		t.Errorf("exit %d, %s", code, out)
	}
	if s := p.Stats(); s.Logins+s.RefusedLogins+s.FailedLogins+s.RejectedCalls != 0 {
		t.Errorf("something was sent: %+v", s)
	}
	environment["tls_ca_file"] = []string{file}
	args = []string{"check", "--config", checkConfig(t, object{"prod": environment}), "--save-certificate", file + "2"}
	if code, out := h.run(t, nil, args...); code != 0 || !strings.Contains(out, "is not written") {
		t.Errorf("exit %d, %s", code, out)
	}
	if _, err := os.Stat(file + "2"); err == nil {
		t.Error("it has written a certificate that is trusted")
	}
}
