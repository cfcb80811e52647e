package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// canary is every secret of these tests. It must be seen nowhere.
const canary = "c4n4ry-5ecret"

// read parses flags as the command line does, and reads settings from them
// and from env.
func read(t *testing.T, env map[string]string, flags ...string) (settings, error) {
	t.Helper()
	cmd := &cobra.Command{Use: "sidecar"}
	addSettings(cmd)
	if err := cmd.ParseFlags(flags); err != nil {
		t.Fatal(err)
	}
	return readSettings(cmd, func(name string) string { return env[name] })
}

// isolate gives the test a folder for sockets, and returns a folder for files.
func isolate(t *testing.T) string {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", shortFolder(t))
	return t.TempDir()
}

// shortFolder is t.TempDir with a path that leaves room for a socket's name.
func shortFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "cli") //nolint:usetesting // its path is too long, with the test's name in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const endpoint = "https://em.example.com:8443/automation-api"

// Parts of the expected JSON. FOLDER and SOCKETS are replaced.
const (
	wantLog = `"logging":{"logs":{"default":{"level":"INFO","encoder":{"format":"filter","fields":{
		"request>headers>X-Api-Key":{"filter":"delete"},
		"request>uri":{"filter":"query","actions":[{"type":"delete","parameter":"token"}]}}}}}}`
	wantSocket = `"admin":{"listen":"unix/SOCKETS/ctmgate-127.0.0.1-8080.sock|0600","config":{"persist":false}}`
	wantHealth = `{"handle":[{"handler":"controlm_health"}]}`
	wantNoTLS  = `"tls":{"disable_storage_clean":true}`
)

func TestConfigIsExactlyWhatFlagsAndEnvironmentSay(t *testing.T) {
	folder := isolate(t)
	for _, name := range []string{"ca.pem", "cert.pem", "key.pem"} {
		write(t, filepath.Join(folder, name), "PEM")
	}
	tests := map[string]struct {
		env   map[string]string
		flags []string
		want  string
	}{
		"a user and a password from the environment alone": {
			env: map[string]string{"CTM_ENDPOINT": endpoint, "CTM_USERNAME": "batch", "CTM_PASSWORD": canary},
			want: `{` + wantSocket + `,` + wantLog + `,"apps":{"http":{"grace_period":25000000000,"servers":{"sidecar":{
				"listen":["127.0.0.1:8080"],
				"routes":[` + wantHealth + `,{"handle":[{"handler":"controlm",
					"inline":{"endpoint":["https://em.example.com:8443/automation-api"],"username":"{env.CTM_USERNAME}","password":"{env.CTM_PASSWORD}"},
					"admit":["loopback"]}]}],
				"automatic_https":{"disable":true},"protocols":["h1"]}}},` + wantNoTLS + `}}`,
		},
		"several endpoints, a token file, trust, hosts, a status address, and no admin API": {
			flags: []string{
				"--endpoint", "https://em1.example.com/x,https://em2.example.com/x", "--endpoint", "https://em3.example.com/x",
				"--api-token-file", filepath.Join(folder, "token"), "--ca-file", filepath.Join(folder, "ca.pem"),
				"--host", "gw.example.com", "--host", "other.example.com", "--listen", ":9090", "--status-listen", "127.0.0.1:9100",
				"--admin", "off", "--insecure-skip-verify",
			},
			want: `{"admin":{"disabled":true,"config":{"persist":false}},` + wantLog + `,"apps":{"http":{"grace_period":25000000000,"servers":{"sidecar":{
				"listen":[":9090"],
				"routes":[` + wantHealth + `,{"handle":[{"handler":"controlm",
					"inline":{"endpoint":["https://em1.example.com/x","https://em2.example.com/x","https://em3.example.com/x"],
						"tls_ca_file":["FOLDER/ca.pem"],"tls_insecure_skip_verify":true,"api_token":"{file.FOLDER/token}"},
					"admit":["loopback","gw.example.com","other.example.com"]}]}],
				"automatic_https":{"disable":true},"protocols":["h1"]},
			"status":{"listen":["127.0.0.1:9100"],
				"routes":[` + wantHealth + `,{"match":[{"path":["/metrics"]}],"handle":[{"handler":"metrics"}]},{"handle":[{"handler":"static_response","status_code":404}]}],
				"automatic_https":{"disable":true},"protocols":["h1"]}}},` + wantNoTLS + `}}`,
		},
		"https with a certificate of Caddy's own CA": {
			env:   map[string]string{"CTM_ENDPOINT": endpoint, "CTM_USER": "batch", "CTM_PASSWORD_FILE": filepath.Join(folder, "password")},
			flags: []string{"--tls", "internal", "--host", "gw.example.com", "--admin", "127.0.0.1:2019"},
			want: `{"admin":{"listen":"127.0.0.1:2019","config":{"persist":false}},` + wantLog + `,"apps":{"http":{"grace_period":25000000000,"servers":{"sidecar":{
				"listen":["127.0.0.1:8080"],
				"routes":[` + wantHealth + `,{"handle":[{"handler":"controlm",
					"inline":{"endpoint":["https://em.example.com:8443/automation-api"],"username":"{env.CTM_USER}","password":"{file.FOLDER/password}"},
					"admit":["loopback","gw.example.com"]}]}],
				"tls_connection_policies":[{"fallback_sni":"localhost"}],
				"automatic_https":{"disable":true},"protocols":["h1","h2"]}}},
				"pki":{"certificate_authorities":{"local":{"install_trust":false}}},
				"tls":{"certificates":{"automate":["127.0.0.1","::1","gw.example.com","localhost"]},
					"automation":{"policies":[{"issuers":[{"module":"internal"}]}]}}}}`,
		},
		"https with a certificate from files, where a flag beats the environment": {
			env: map[string]string{
				"CTM_ENDPOINT": "https://other.example.com", "CTM_USERNAME": "other", "CTM_PASSWORD": canary,
				"CTM_INSECURE_SKIP_VERIFY": "yes", "CTMGATE_LISTEN": ":1", "CTMGATE_ADMIT": "loopback", "CADDY_ADMIN": "off", "CTM_CA_FILE": "/nowhere",
			},
			flags: []string{
				"--endpoint", endpoint, "--username", "batch", "--password-file", filepath.Join(folder, "password"),
				"--tls", filepath.Join(folder, "cert.pem") + "," + filepath.Join(folder, "key.pem"),
				"--insecure-skip-verify=false", "--listen", "[::1]:8443", "--admit", "anyone", "--admin", "unix//run/a.sock",
				"--ca-file", filepath.Join(folder, "ca.pem"),
			},
			want: `{"admin":{"listen":"unix//run/a.sock|0600","config":{"persist":false}},` + wantLog + `,"apps":{"http":{"grace_period":25000000000,"servers":{"sidecar":{
				"listen":["[::1]:8443"],
				"routes":[` + wantHealth + `,{"handle":[{"handler":"controlm",
					"inline":{"endpoint":["https://em.example.com:8443/automation-api"],"tls_ca_file":["FOLDER/ca.pem"],
						"username":"batch","password":"{file.FOLDER/password}"},
					"admit":["anyone"]}]}],
				"tls_connection_policies":[{"certificate_selection":{"any_tag":["sidecar"]}}],
				"automatic_https":{"disable":true},"protocols":["h1","h2"]}}},
				"tls":{"disable_storage_clean":true,"certificates":{"load_files":[{"certificate":"FOLDER/cert.pem","key":"FOLDER/key.pem","tags":["sidecar"]}]}}}}`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := read(t, test.env, test.flags...)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(s.config())
			if err != nil {
				t.Fatal(err)
			}
			want := strings.NewReplacer("FOLDER", folder, "SOCKETS", os.Getenv("XDG_RUNTIME_DIR")).Replace(test.want)
			if !sameJSON(t, string(got), want) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if strings.Contains(string(got), canary) {
				t.Error("a secret stands in the config")
			}
		})
	}
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var left, right any
	if err := errors.Join(json.Unmarshal([]byte(a), &left), json.Unmarshal([]byte(b), &right)); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(left, right)
}

func TestEachVariableStandsInForItsFlag(t *testing.T) {
	folder := isolate(t)
	ca := write(t, filepath.Join(folder, "ca.pem"), "PEM")
	base := func() map[string]string {
		return map[string]string{"CTM_ENDPOINT": endpoint, "CTM_USERNAME": "batch", "CTM_PASSWORD": canary}
	}
	tests := map[string]struct {
		set  map[string]string
		look func(settings) any
		want any
	}{
		"CTM_ENDPOINT takes several":          {map[string]string{"CTM_ENDPOINT": "https://a/x, https://b/x\nhttps://c/x"}, func(s settings) any { return s.endpoints }, []string{"https://a/x", "https://b/x", "https://c/x"}},
		"CTM_ENDPOINT with a slash more":      {map[string]string{"CTM_ENDPOINT": "https://a/x,https://b/x/"}, func(s settings) any { return s.endpoints }, []string{"https://a/x", "https://b/x/"}},
		"CTM_PASSWORD_FILE":                   {map[string]string{"CTM_PASSWORD": "", "CTM_PASSWORD_FILE": "/run/p"}, func(s settings) any { return s.password }, "{file./run/p}"},
		"CTM_API_TOKEN":                       {map[string]string{"CTM_USERNAME": "", "CTM_PASSWORD": "", "CTM_API_TOKEN": canary}, func(s settings) any { return s.apiToken }, "{env.CTM_API_TOKEN}"},
		"CTM_API_TOKEN_FILE":                  {map[string]string{"CTM_USERNAME": "", "CTM_PASSWORD": "", "CTM_API_TOKEN_FILE": "/run/t"}, func(s settings) any { return s.apiToken }, "{file./run/t}"},
		"CTM_CA_FILE":                         {map[string]string{"CTM_CA_FILE": ca}, func(s settings) any { return s.caFiles }, []string{ca}},
		"CTM_INSECURE_SKIP_VERIFY=1":          {map[string]string{"CTM_INSECURE_SKIP_VERIFY": "1"}, func(s settings) any { return s.insecureSkipVerify }, true},
		"CTM_INSECURE_SKIP_VERIFY=TRUE":       {map[string]string{"CTM_INSECURE_SKIP_VERIFY": "TRUE"}, func(s settings) any { return s.insecureSkipVerify }, true},
		"CTM_INSECURE_SKIP_VERIFY=no":         {map[string]string{"CTM_INSECURE_SKIP_VERIFY": "no"}, func(s settings) any { return s.insecureSkipVerify }, false},
		"CTMGATE_LISTEN with a socket":        {map[string]string{"CTMGATE_LISTEN": "unix//run/x.sock|0660"}, func(s settings) any { return s.listen.String() }, "unix//run/x.sock|0660"},
		"CTMGATE_ADMIT=anyone":                {map[string]string{"CTMGATE_ADMIT": "anyone"}, func(s settings) any { return s.admit }, []string{"anyone"}},
		"CTMGATE_ADMIT with hosts":            {map[string]string{"CTMGATE_ADMIT": "loopback gw.example.com"}, func(s settings) any { return s.admit }, []string{"loopback", "gw.example.com"}},
		"CADDY_ADMIN":                         {map[string]string{"CADDY_ADMIN": "127.0.0.1:2020"}, func(s settings) any { return s.admin }, "127.0.0.1:2020"},
		"two variables that name one user":    {map[string]string{"CTM_USER": "batch"}, func(s settings) any { return s.username }, "{env.CTM_USERNAME}"},
		"an endpoint on this machine by http": {map[string]string{"CTM_ENDPOINT": "http://127.0.0.1:8081/x"}, func(s settings) any { return s.endpoints }, []string{"http://127.0.0.1:8081/x"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			env := base()
			for k, v := range test.set {
				env[k] = v
			}
			s, err := read(t, env)
			if err != nil {
				t.Fatal(err)
			}
			if got := test.look(s); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestSecretFlagBeatsASecretOfAnotherKindInTheEnvironment(t *testing.T) {
	isolate(t)
	s, err := read(t, map[string]string{"CTM_ENDPOINT": endpoint, "CTM_USERNAME": "batch", "CTM_PASSWORD": canary},
		"--api-token-file", "/run/t")
	if err != nil {
		t.Fatal(err)
	}
	if s.apiToken != "{file./run/t}" || s.username != "" || s.password != "" {
		t.Errorf("got token %q beside user %q with password %q", s.apiToken, s.username, s.password)
	}
}

func TestUsageErrorsSayWhatToSet(t *testing.T) {
	folder := isolate(t)
	with := func(more ...string) map[string]string {
		env := map[string]string{"CTM_ENDPOINT": endpoint, "CTM_USERNAME": "batch", "CTM_PASSWORD": canary}
		for i := 0; i < len(more); i += 2 {
			env[more[i]] = more[i+1]
		}
		return env
	}
	tests := map[string]struct {
		env   map[string]string
		flags []string
		want  []string
	}{
		"no endpoint":                     {with("CTM_ENDPOINT", ""), nil, []string{"CTM_ENDPOINT", "--endpoint", "https://em.example.com:8443/automation-api"}},
		"an endpoint that is no URL":      {with("CTM_ENDPOINT", "em.example.com"), nil, []string{"https://"}},
		"an endpoint with a password":     {with("CTM_ENDPOINT", "https://u:"+canary+"@em.example.com/x"), nil, []string{"user name or password"}},
		"an endpoint with a query":        {with("CTM_ENDPOINT", "https://em.example.com/x?token="+canary), nil, []string{"it has a query"}},
		"an endpoint with an empty one":   {with("CTM_ENDPOINT", "https://em.example.com/x?"), nil, []string{"it has a query"}},
		"an endpoint with a fragment":     {with(), []string{"--endpoint", "https://em.example.com/x#" + canary}, []string{"it has a fragment"}},
		"an endpoint without a host":      {with("CTM_ENDPOINT", "https://:8443/x"), nil, []string{"names no host"}},
		"an endpoint with a dot segment":  {with("CTM_ENDPOINT", "https://em.example.com/x/../y"), nil, []string{"dot segments"}},
		"an endpoint with a parameter":    {with("CTM_ENDPOINT", "https://em.example.com/x;y"), nil, []string{"not plain"}},
		"an endpoint with a placeholder":  {with("CTM_ENDPOINT", "https://{env.X}/x"), nil, []string{"it is no URL"}},
		"endpoints with two base paths":   {with("CTM_ENDPOINT", "https://a/x/,https://b/y"), nil, []string{"https://b/y", "one base path", `"/x"`}},
		"endpoints, one without a path":   {with(), []string{"--endpoint", "https://a/x", "--endpoint", "https://b"}, []string{"https://b:", "one base path"}},
		"an endpoint that stands twice":   {with("CTM_ENDPOINT", "https://a/x,https://b/x,https://a/x"), nil, []string{"https://a/x: it is stated twice"}},
		"an endpoint by plain http":       {with("CTM_ENDPOINT", "http://em.example.com/x"), nil, []string{"in the clear", "https"}},
		"no secret":                       {with("CTM_PASSWORD", ""), nil, []string{"CTM_USERNAME", "CTM_PASSWORD_FILE", "CTM_API_TOKEN_FILE", "ctmgate sidecar --endpoint"}},
		"password and its file":           {with("CTM_PASSWORD_FILE", "/run/p"), nil, []string{"CTM_PASSWORD and CTM_PASSWORD_FILE"}},
		"password and token":              {with("CTM_API_TOKEN", canary), nil, []string{"CTM_PASSWORD and CTM_API_TOKEN"}},
		"two files by flag":               {with(), []string{"--password-file", "a", "--api-token-file", "b"}, []string{"--password-file and --api-token-file"}},
		"a user beside a token":           {with("CTM_PASSWORD", "", "CTM_API_TOKEN", canary), nil, []string{"CTM_USERNAME and CTM_API_TOKEN"}},
		"a user by flag beside a token":   {with("CTM_USERNAME", "", "CTM_PASSWORD", "", "CTM_API_TOKEN", canary), []string{"--username", "x"}, []string{"--username and CTM_API_TOKEN"}},
		"a password without a user":       {with("CTM_USERNAME", ""), nil, []string{"CTM_PASSWORD", "CTM_USERNAME", "--username"}},
		"two users":                       {with("CTM_USER", "other"), nil, []string{"CTM_USERNAME and CTM_USER"}},
		"braces in the path of a secret":  {with("CTM_PASSWORD", "", "CTM_PASSWORD_FILE", "/run/{x}"), nil, []string{"CTM_PASSWORD_FILE", "braces"}},
		"a CA file that is not there":     {with("CTM_CA_FILE", filepath.Join(folder, "none")), nil, []string{"CTM_CA_FILE", "no such file"}},
		"maybe skipping verification":     {with("CTM_INSECURE_SKIP_VERIFY", "maybe"), nil, []string{"CTM_INSECURE_SKIP_VERIFY", "1, true or yes"}},
		"an unknown admission":            {with("CTMGATE_ADMIT", "friends"), nil, []string{"CTMGATE_ADMIT", "loopback or anyone"}},
		"hosts beside anyone":             {with(), []string{"--admit", "anyone", "--host", "x"}, []string{"anyone", "--host"}},
		"a host that is none":             {with(), []string{"--host", "a/b"}, []string{"--host"}},
		"hosts with a comma":              {with(), []string{"--host", "a,b"}, []string{"--host", `"a,b" is no host name`}},
		"a variable with a comma":         {with("CTMGATE_ADMIT", "loopback a,b"), nil, []string{"CTMGATE_ADMIT", `"a,b" is no host name`}},
		"an address without port":         {with("CTMGATE_LISTEN", "127.0.0.1"), nil, []string{"CTMGATE_LISTEN", "no port"}},
		"several ports":                   {with(), []string{"--listen", ":80-90"}, []string{"--listen", "several ports"}},
		"a socket by relative path":       {with(), []string{"--listen", "unix/x.sock"}, []string{"--listen", "absolute"}},
		"another network":                 {with(), []string{"--listen", "udp/:80"}, []string{"--listen", "neither TCP nor"}},
		"a placeholder as address":        {with(), []string{"--listen", "{env.X}"}, []string{"--listen", "braces"}},
		"one address for two servers":     {with(), []string{"--status-listen", "127.0.0.1:8080"}, []string{"--status-listen", "--listen"}},
		"a status address within another": {with("CTMGATE_LISTEN", ":8080"), []string{"--status-listen", "127.0.0.1:8080"}, []string{"CTMGATE_LISTEN and --status-listen are the same"}},
		"the admin API at the address":    {with("CADDY_ADMIN", "localhost:8080"), nil, []string{"--listen and CADDY_ADMIN are the same"}},
		"the admin API at the status":     {with(), []string{"--status-listen", ":9100", "--admin", "0.0.0.0:9100"}, []string{"--status-listen and --admin are the same"}},
		"one socket for two servers":      {with(), []string{"--listen", "unix//run/a.sock|0666", "--admin", "unix//run//a.sock"}, []string{"--listen and --admin are the same"}},
		"an admin address that is none":   {with("CADDY_ADMIN", "a b"), nil, []string{"CADDY_ADMIN", "spaces"}},
		"half a certificate":              {with(), []string{"--tls", "cert.pem"}, []string{"--tls", "internal, or CERT,KEY"}},
		"a certificate that is not there": {with(), []string{"--tls", filepath.Join(folder, "c") + "," + filepath.Join(folder, "k")},
			[]string{"--tls", "no such file"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := read(t, test.env, test.flags...)
			var usage usageError
			if !errors.As(err, &usage) {
				t.Fatalf("got %v, want a usage error", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), canary) {
				t.Error("a secret stands in the error")
			}
		})
	}
}

func TestFlagErrorsRepeatNoValue(t *testing.T) {
	for _, args := range [][]string{
		{"--password=" + canary}, {"--password", canary}, {"--api-token=" + canary}, {"-p" + canary}, {"-" + canary},
	} {
		cmd := &cobra.Command{Use: "sidecar"}
		addSettings(cmd)
		err := flagError(cmd.ParseFlags(args))
		var usage usageError
		if !errors.As(err, &usage) || strings.Contains(err.Error(), canary) {
			t.Errorf("%q: got %v", args, err)
		}
	}
}
