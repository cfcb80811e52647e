package cli

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// explained is a Caddyfile with clients. None of its secrets is there.
const explained = `{
	controlm {
		environment prod {
			endpoint https://em1.example.com:8443/automation-api https://em2.example.com:8443/automation-api
			account batch {
				username {env.NO_SUCH_VARIABLE}
				password {file./nowhere/password}
			}
		}
		environment test {
			endpoint https://test.example.com/other/api
			account batch {
				api_token {file./nowhere/token}
			}
		}
		client nightly {
			key_sha256 dd8d4597db5288ee40802cd4cb97e38fe4979f57ca166b5212fdfce54a59ceb5
			account prod/batch
			allow read_only
			allow POST /run/order /run/event/*
			deny * /config/secret/*
		}
		client admin {
			user alice
			allow * /*
			allow_credential_changes
		}
		client narrow {
			user bob
			allow GET /run/job/*/output
			allow POST /authentication/token
			allow_credential_changes
		}
		client open {
			user carol
			allow * /*
		}
		public GET /ctm-cli.tgz
	}
}
:8080 {
	controlm prod
}
`

// explainHere runs the command in this process, which a long table takes less
// time with.
func explainHere(args ...string) (code int, out string) {
	cmd := &cobra.Command{Use: "explain", SilenceUsage: true}
	buildExplain(cmd)
	finish(cmd)
	var printed bytes.Buffer
	cmd.SetOut(&printed)
	cmd.SetErr(&printed)
	cmd.SetArgs(args)
	if cmd.Execute() != nil {
		code = 1
	}
	return code, printed.String()
}

func TestExplainSaysWhichLineDecides(t *testing.T) {
	config := write(t, filepath.Join(t.TempDir(), "Caddyfile"), explained)
	const none, protected, session, login = "no `allow` of the client matches", "it handles credentials or rights: it takes `allow_credential_changes` beside an `allow`",
		"it would be a login or logout of the gateway's own session: open to nobody", "the gateway answers logins and logouts itself, with a token of its own"
	const postAlone = "logging in and out takes POST: any other method is answered 405"
	line := func(text string) string { return "by the line `" + text + "`" }
	for _, c := range []struct {
		client, method, path string
		yes                  bool
		why                  string
	}{
		{"nightly", "GET", "/run/jobs/status", true, line("allow read_only")},
		{"nightly", "GET", "/run/jobs/status?jobname=a&b=/../x", true, line("allow read_only")},
		{"nightly", "HEAD", "/run/jobs/status", true, line("allow read_only")},
		{"nightly", "POST", "/run/order", true, line("allow POST /run/order /run/event/*")},
		{"nightly", "POST", "/run/order/", true, line("allow POST /run/order /run/event/*")},
		{"nightly", "POST", "/automation-api/run/order", true, line("allow POST /run/order /run/event/*")},
		{"nightly", "POST", "/other/api/run/order", true, line("allow POST /run/order /run/event/*")},
		{"nightly", "POST", "/build", true, line("allow read_only")},
		{"nightly", "POST", "/run/event/ctmprod", true, line("allow POST /run/order /run/event/*")},
		{"nightly", "POST", "/run", false, none},
		{"nightly", "POST", "/Run/order", false, none},
		{"nightly", "DELETE", "/run/event/ctmprod/a/0101", false, none},
		{"nightly", "FETCH", "/run/order", false, none},
		{"nightly", "GET", "/config/secret/one", false, line("deny * /config/secret/*")},
		{"nightly", "GET", "/Config/SECRET/one.json", false, line("deny * /config/secret/*")},
		{"nightly", "GET", "/automation-api/config%2Fsecret%2Fone", false, line("deny * /config/secret/*")},
		{"nightly", "GET", "/config/secrets", true, line("allow read_only")},
		{"nightly", "GET", "/automation-apix/run/order", true, line("allow read_only")},
		{"nightly", "GET", "/automation-api", true, line("allow read_only")},
		{"nightly", "GET", "/ctm-cli.tgz", true, line("allow read_only")},
		{"narrow", "GET", "/ctm-cli.tgz", true, line("public GET /ctm-cli.tgz")},
		{"narrow", "POST", "/ctm-cli.tgz", false, none},
		{"nightly", "GET", "/authentication/tokens", false, protected},
		{"nightly", "POST", "/config/authorization/role", false, protected},
		{"nightly", "GET", "/config/authorization/roles", true, line("allow read_only")},
		{"nightly", "POST", "/session/login", true, login},
		{"nightly", "POST", "/automation-api/session/logout", true, login},
		{"nightly", "POST", "/session/login/", true, login},
		{"nightly", "GET", "/session/login", false, postAlone},
		{"nightly", "HEAD", "/session/login", false, postAlone},
		{"nightly", "post", "/session/login", false, postAlone},
		{"nightly", "OPTIONS", "/automation-api/session/login", false, postAlone},
		{"admin", "GET", "/session/logout", false, postAlone},
		{"open", "DELETE", "/other/api/session/logout/", false, postAlone},
		{"nightly", "TRACE", "/session/login", false, "the method is not allowed"},
		{"nightly", "GET", "/Session/Login", false, session},
		{"nightly", "POST", "/Session/logout", false, session},
		{"nightly", "POST", "/session/user/password/update", false, protected},
		{"nightly", "GET", "/run/../config", false, "dot segment"},
		{"nightly", "GET", "/run/..%2fconfig", false, "dot segment"},
		{"nightly", "GET", "/run//x", false, "empty segment"},
		{"nightly", "GET", "/run/a;b", false, "a semicolon"},
		{"nightly", "TRACE", "/run/order", false, "the method is not allowed"},
		{"nightly", "CONNECT", "/run/order", false, "the method is not allowed"},
		{"nightly", "GET", "run/jobs/status", false, "does not begin with a slash"},
		{"nightly", "GET", "", false, "does not begin with a slash"},
		{"admin", "GET", "/authentication/tokens", true, line("allow * /*")},
		{"admin", "POST", "/session/user/password/update", true, line("allow * /*")},
		{"admin", "POST", "/Session/user/password/update", false, session},
		{"admin", "POST", "/session/logout.json", false, session},
		{"narrow", "GET", "/run/job/ctmprod:00001/output", true, line("allow GET /run/job/*/output")},
		{"narrow", "GET", "/run/job/a/b/output", false, none},
		{"narrow", "POST", "/authentication/token", true, line("allow POST /authentication/token")},
		{"narrow", "GET", "/authentication/tokens", false, none},
		{"open", "GET", "/authentication/tokens", false, protected},
		{"open", "DELETE", "/moon", true, line("allow * /*")},
	} {
		t.Run(c.client+" "+c.method+" "+c.path, func(t *testing.T) {
			code, out := explainHere("--client", c.client, "--config", config, c.method, c.path)
			want, verdict := 1, "no: "
			if c.yes {
				want, verdict = 0, "yes: "
			}
			if code != want || !strings.HasPrefix(out, verdict) || !strings.Contains(out, c.why) || strings.Count(out, "\n") != 1 {
				t.Errorf("exit %d, %q; want %d, %s%s", code, out, want, verdict, c.why)
			}
		})
	}
}

func TestExplainReadsEachKindOfConfig(t *testing.T) {
	h := newHome(t)
	folder := t.TempDir()
	caddyfile := write(t, filepath.Join(folder, "Caddyfile"), explained)
	code, adapted := h.run(t, nil, "adapt", "--config", caddyfile)
	if i := strings.Index(adapted, `{"`); code != 0 || i < 0 {
		t.Fatalf("adapting: exit %d, %s", code, adapted)
	} else {
		adapted = adapted[i:]
	}
	var compact json.RawMessage
	if err := json.NewDecoder(strings.NewReader(adapted)).Decode(&compact); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"a Caddyfile":                    {"--config", caddyfile},
		"a Caddyfile by its adapter":     {"--config", write(t, filepath.Join(folder, "gateway.conf"), explained), "--adapter", "caddyfile"},
		"a Caddyfile with an ending":     {"-c", write(t, filepath.Join(folder, "Caddyfile.prod"), explained)},
		"a file that ends in .caddyfile": {"-c", write(t, filepath.Join(folder, "gateway.caddyfile"), explained)},
		"one named as our example":       {"--config", write(t, filepath.Join(folder, "shared.Caddyfile"), explained)},
		"one in lower case":              {"--config", write(t, filepath.Join(folder, "caddyfile"), explained)},
		"JSON":                           {"--config", write(t, filepath.Join(folder, "caddy.json"), string(compact))},
		"JSON of any name":               {"--config", write(t, filepath.Join(folder, "autosave"), string(compact))},
	} {
		t.Run(name, func(t *testing.T) {
			code, out := h.run(t, nil, append(append([]string{"explain", "--client", "nightly"}, args...), "POST", "/run/order")...)
			if code != 0 || out != "yes: by the line `allow POST /run/order /run/event/*`\n" {
				t.Errorf("exit %d, %q", code, out)
			}
		})
	}
}

// The example that we ship says how to ask it, in its first lines.
func TestExplainReadsTheExampleAsItSays(t *testing.T) {
	h := newHome(t)
	const example = "../../docker/shared.Caddyfile"
	for _, row := range []struct {
		client, method, path string
		code                 int
		want                 string
	}{
		{"nightly", "POST", "/run/order", 0, "yes: by the line `allow POST /run/order /run/event/*`\n"},
		{"nightly", "POST", "/run/job/ctmprod:00001/kill", 1, "no: no `allow` of the client matches\n"},
		{"operators", "POST", "/run/job/ctmprod:00001/kill", 0, "yes: by the line `allow operate`\n"},
		{"monitoring", "GET", "/run/job/ctmprod:00001/output", 1, "no: no `allow` of the client matches\n"},
	} {
		code, out := h.run(t, nil, "explain", "--config", example, "--client", row.client, row.method, row.path)
		if code != row.code || !strings.HasSuffix(out, row.want) {
			t.Errorf("%s %s %s: exit %d, %q", row.client, row.method, row.path, code, out)
		}
	}
}

// The sites of the config play no part, but for environments that stand in one.
func TestExplainTakesTheBasePathOfAnEnvironmentInline(t *testing.T) {
	h := newHome(t)
	config := write(t, filepath.Join(t.TempDir(), "Caddyfile"), `{
	controlm {
		client nightly {
			user alice
			allow POST /run/order
		}
	}
}
:8080 {
	controlm https://em.example.com:8443/automation-api {
		api_token {file./nowhere/token}
	}
}
`)
	for _, path := range []string{"/run/order", "/automation-api/run/order"} {
		code, out := h.run(t, nil, "explain", "--client", "nightly", "--config", config, "POST", path)
		if code != 0 || out != "yes: by the line `allow POST /run/order`\n" {
			t.Errorf("%s: exit %d, %q", path, code, out)
		}
	}
}

func TestExplainSaysWhatItMisses(t *testing.T) {
	h := newHome(t)
	config := write(t, filepath.Join(t.TempDir(), "Caddyfile"), explained)
	plain := write(t, filepath.Join(t.TempDir(), "Caddyfile"), ":8080 {\nrespond 204\n}\n")
	nobody := write(t, filepath.Join(t.TempDir(), "Caddyfile"), "{\ncontrolm {\nenvironment prod {\nendpoint https://em.example.com/automation-api\naccount a {\napi_token {file./nowhere}\n}\n}\n}\n}\n")
	mistaken := write(t, filepath.Join(t.TempDir(), "Caddyfile"), "{\ncontrolm {\nclient nightly {\nuser a\nalow read_only\n}\n}\n}\n")
	unproven := write(t, filepath.Join(t.TempDir(), "caddy.json"), `{"apps": {"controlm": {"clients": {"nightly": {"user": ["a"]}}}}}`)
	call := []string{"GET", "/run/jobs/status"}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no client", []string{"--config", config, "GET", "/run/order"}, 2, "expected a client, a method and a path, as in `ctmgate explain --client nightly GET /run/jobs/status`"},
		{"an empty client", []string{"--client", "", "--config", config, "GET", "/run/order"}, 2, "expected a client, a method and a path"},
		{"no path", []string{"--client", "nightly", "--config", config, "GET"}, 2, "expected a client, a method and a path"},
		{"nothing", nil, 2, "expected a client, a method and a path"},
		{"too much", []string{"--client", "nightly", "--config", config, "GET", "/a", "/b"}, 2, "expected a client, a method and a path"},
		{"an unknown flag", []string{"--clients", "nightly", "GET", "/a"}, 2, "unknown flag"},
		{"an unknown client", append([]string{"--client", "nobody", "--config", config}, call...), 2, `there is no client "nobody"; expected one of admin, narrow, nightly, open`},
		{"a client in other case", append([]string{"--client", "Nightly", "--config", config}, call...), 2, `there is no client "Nightly"`},
		{"no config", append([]string{"--client", "nightly"}, call...), 1, "reading the config (name it with --config)"},
		{"a config that is not there", append([]string{"--client", "nightly", "--config", "/nowhere/Caddyfile"}, call...), 1, "/nowhere/Caddyfile"},
		{"a config without the app", append([]string{"--client", "nightly", "--config", plain}, call...), 1, "the config has no global option controlm"},
		{"a config without clients", append([]string{"--client", "nightly", "--config", nobody}, call...), 2, "the config has no client in the global option controlm"},
		{"a config with a mistake", append([]string{"--client", "nightly", "--config", mistaken}, call...), 1, `unknown word "alow"`},
		{"a config in JSON with a mistake", append([]string{"--client", "nightly", "--config", unproven}, call...), 1, "expected an allow"},
		{"an adapter that is none", append([]string{"--client", "nightly", "--config", config, "--adapter", "yml"}, call...), 2, `there is no adapter "yml"`},
		{"what is no JSON", append([]string{"--client", "nightly", "--config", write(t, filepath.Join(t.TempDir(), "gateway.conf"), explained)}, call...), 1, "name its format with --adapter"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out := h.run(t, nil, append([]string{"explain"}, c.args...)...)
			if code != c.code || !strings.Contains(out, c.want) || strings.Contains(out, "yes:") {
				t.Errorf("exit %d, %q; want %d and %q", code, out, c.code, c.want)
			}
		})
	}
}

func TestExplainPassesOnWhatTheAdapterWarnsOf(t *testing.T) {
	h := newHome(t)
	// Caddy warns of a Caddyfile that is not formatted.
	config := write(t, filepath.Join(t.TempDir(), "Caddyfile"), strings.ReplaceAll(explained, "\t", " "))
	code, out := h.run(t, nil, "explain", "--client", "nightly", "--config", config, "GET", "/run/jobs/status")
	if code != 0 || !strings.Contains(out, config+":") || !strings.Contains(out, "not formatted") || !strings.HasSuffix(out, "yes: by the line `allow read_only`\n") {
		t.Errorf("exit %d, %q", code, out)
	}
}

func TestExplainHelps(t *testing.T) {
	h := newHome(t)
	code, out := h.run(t, nil, "explain", "--help")
	for _, want := range []string{"exit code 0", "exit code 1", "no such client", "reads no secret", "ctmgate explain --client nightly GET /run/jobs/status", "--adapter"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit %d; the help does not say %q:\n%s", code, want, out)
		}
	}
}
