package caddymodule_test

import (
	"strings"
	"testing"
)

const namedSite = "\n:8080 {\n\tcontrolm prod\n}\n"

func inlineSite(lines ...string) string {
	return ":8080 {\n\tcontrolm https://em.example.com:8443/automation-api {\n\t\t" + strings.Join(lines, "\n\t\t") + "\n\t}\n}\n"
}

func environmentWith(lines ...string) string {
	return "{\n\tcontrolm {\n\t\tenvironment prod {\n\t\t\tendpoint https://em.example.com:8443/automation-api\n\t\t\t" +
		strings.Join(lines, "\n\t\t\t") + "\n\t\t}\n\t}\n}\n"
}

// What an operator can get wrong beyond the text of the Caddyfile itself.
func TestEachMistakeThatLoadingFindsSaysWhatWasExpected(t *testing.T) {
	const (
		token    = "api_token {file./run/secrets/ctm_api_token}"
		accounts = "account batch {\napi_token {file./run/secrets/ctm_api_token}\n}\naccount reports {\napi_token {file./run/secrets/ctm_api_token}\n}"
	)
	t.Setenv("CTMGATE_TEST_EMPTY", "")
	t.Setenv("CTMGATE_TEST_USER", "emuser")
	t.Setenv("CTMGATE_TEST_LINES", canaryToken+"\n"+canaryToken)
	for _, c := range []struct {
		name      string
		caddyfile string
		want      []string
	}{
		{"several accounts with neither a default nor a choice", environmentWith(accounts) + namedSite,
			[]string{"environment prod has several accounts; expected `default_account` there or `account` here, one of batch, reports"}},
		{"a choice of an unknown account", environmentWith(accounts) + "\n:8080 {\ncontrolm prod {\naccount nightly\n}\n}\n",
			[]string{"account nightly: there is no such account in environment prod; expected one of batch, reports"}},
		{"an unknown environment", environmentWith(accounts) + "\n:8080 {\ncontrolm test\n}\n",
			[]string{"environment test: there is no such environment; expected one of prod"}},
		{"an environment where none is declared", ":8080 {\ncontrolm prod\n}\n",
			[]string{"environment prod: there is no such environment; there is none in the global option controlm"}},
		{"an endpoint without scheme and path in place of a name", environmentWith(accounts) + "\n:8080 {\ncontrolm em.example.com:8443\n}\n",
			[]string{"environment em.example.com:8443: there is no such environment; expected one of prod; an endpoint would begin with https://"}},
		{"two inline environments of one host", inlineSite(token) + strings.Replace(inlineSite(token, "login_timeout 5s"), "8080", "8081", 1),
			[]string{"environment em.example.com: there are two of this name; give this one another with `name`, state both alike"}},
		{"two inline environments of one host in other case", inlineSite(token) + strings.NewReplacer("8080", "8081", "em.", "EM.").Replace(inlineSite(token)),
			[]string{"environment em.example.com: there are two of this name; give this one another with `name`, state both alike"}},
		{"two inline environments with different accounts", inlineSite(token) + strings.Replace(inlineSite("api_token {env.CTMGATE_TEST_USER}"), "8080", "8081", 1),
			[]string{"environment em.example.com: there are two of this name"}},
		{"an inline environment that is a declared one too", strings.Replace(environmentWith("account default {\n"+token+"\n}"), "prod", "em.example.com", 1) + inlineSite(token),
			[]string{"environment em.example.com: there are two of this name"}},
		{"an inline environment named like a declared one", environmentWith("account a {\n"+token+"\n}") + inlineSite(token, "name prod"),
			[]string{"environment prod: there are two of this name"}},
		{"the name of an inline environment used elsewhere", inlineSite(token, "name prod") + "\n:8081 {\ncontrolm prod\n}\n",
			[]string{"environment prod: there is no such environment"}},
		{"an unset variable", inlineSite("api_token {env.CTMGATE_TEST_UNSET}"),
			[]string{"api_token: ", "environment variable CTMGATE_TEST_UNSET is unset or empty"}},
		{"an empty variable", inlineSite("username {env.CTMGATE_TEST_EMPTY}", "password {file./run/secrets/ctm_password}"),
			[]string{"username: ", "environment variable CTMGATE_TEST_EMPTY is unset or empty"}},
		{"an empty variable for a password", inlineSite("username {env.CTMGATE_TEST_USER}", "password {env.CTMGATE_TEST_EMPTY}"),
			[]string{"password: ", "environment variable CTMGATE_TEST_EMPTY is unset or empty"}},
		{"a missing file", inlineSite("username {env.CTMGATE_TEST_USER}", "password {file./run/secrets/missing}"),
			[]string{"password: ", "missing: no such file"}},
		{"an empty file", inlineSite("api_token {file./run/secrets/empty}"),
			[]string{"api_token: ", "empty: the file is empty"}},
		{"a folder in place of a file", inlineSite("api_token {file./run/secrets/}"),
			[]string{"api_token: ", "is a folder, expected a file"}},
		{"a file of two lines for a token", inlineSite("api_token {file./run/secrets/two_lines}"),
			[]string{"api_token: ", "two_lines: it holds a line break or another control character; expected one line of text"}},
		{"a variable of two lines for a token", inlineSite("api_token {env.CTMGATE_TEST_LINES}"),
			[]string{"api_token: ", "environment variable CTMGATE_TEST_LINES: it holds a line break", "expected one line of text"}},
		{"two lines as a token", inlineSite("api_token `one\ntwo`"),
			[]string{"api_token: ", "the config itself: it holds a line break", "expected one line of text"}},
		{"a token that no header carries", inlineSite("api_token {file./run/secrets/not_ascii}"),
			[]string{"api_token: ", "not_ascii: it holds other characters than printable ASCII; expected what a header can carry"}},
		{"a file of two lines for a password", inlineSite("username {env.CTMGATE_TEST_USER}", "password {file./run/secrets/two_lines}"),
			[]string{"password: ", "two_lines: it holds a line break or another control character; expected one line of text"}},
		{"a password that is not UTF-8", inlineSite("username {env.CTMGATE_TEST_USER}", "password {file./run/secrets/latin1}"),
			[]string{"password: ", "latin1: it is not UTF-8; expected one line of text in UTF-8"}},
		{"a missing tls_ca_file", inlineSite(token, "tls_ca_file /run/secrets/missing.pem"),
			[]string{"tls_ca_file: ", "missing.pem: no such file"}},
		{"a tls_ca_file without a certificate", inlineSite(token, "tls_ca_file /run/secrets/no-ca.pem"),
			[]string{"tls_ca_file: ", "no-ca.pem holds no certificate; expected PEM, beginning with -----BEGIN CERTIFICATE-----"}},
		{"a tls_ca_file with a request for a certificate", inlineSite(token, "tls_ca_file /run/secrets/request.pem"),
			[]string{"tls_ca_file: ", "request.pem holds no certificate"}},
		{"a tls_ca_file with a broken certificate", inlineSite(token, "tls_ca_file /run/secrets/em-ca.pem /run/secrets/broken-ca.pem"),
			[]string{"tls_ca_file: ", "broken-ca.pem"}},
		{"a missing client certificate", inlineSite(token, "tls_client_certificate /run/secrets/missing.pem /run/secrets/client-key.pem"),
			[]string{"tls_client_certificate: ", "missing.pem: no such file"}},
		{"a missing key of a client certificate", inlineSite(token, "tls_client_certificate /run/secrets/client.pem /run/secrets/missing.pem"),
			[]string{"tls_client_certificate: ", "missing.pem: no such file"}},
		{"a missing tls_ca_file of an endpoint without TLS", strings.Replace(inlineSite(token, "tls_ca_file /run/secrets/missing.pem"), "https://em.example.com", "http://localhost", 1),
			[]string{"environment localhost: tls_ca_file: ", "missing.pem: no such file"}},
		{"a missing client certificate of an endpoint without TLS", strings.Replace(inlineSite(token, "tls_client_certificate /run/secrets/client.pem /run/secrets/missing.pem"), "https://em.example.com", "http://localhost", 1),
			[]string{"environment localhost: tls_client_certificate: ", "missing.pem: no such file"}},
		{"a client certificate in place of its key", inlineSite(token, "tls_client_certificate /run/secrets/client.pem /run/secrets/client.pem"),
			[]string{"tls_client_certificate: ", "private key"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, err := adapt(c.caddyfile)
			if err != nil {
				t.Fatal(err)
			}
			_, err = validate(t, withSecretFiles(t, config))
			wantError(t, err, c.want...)
		})
	}
}

// The rules of the Caddyfile hold for JSON, which is written by programs.
func TestEachMistakeInJSONSaysWhatWasExpected(t *testing.T) {
	const (
		endpoint = `"endpoint": ["https://em.example.com:8443/automation-api"]`
		account  = `"accounts": {"batch": {"api_token": "{file./run/secrets/ctm_api_token}"}}`
		inline   = `"inline": {` + endpoint + `, "api_token": "{file./run/secrets/ctm_api_token}"}`
		good     = `{"environments": {"prod": {` + endpoint + `, ` + account + `}}}`
		use      = `"environment": "prod"`
	)
	environment := func(members string) string { return `{"environments": {"prod": {` + members + `}}}` }
	for _, c := range []struct {
		name, app, handler string
		want               []string // none: it loads
	}{
		{"nothing wrong", good, use, nil},
		{"nothing wrong inline", `{}`, inline, nil},
		{"idle_timeout off and durations as text", environment(endpoint + `, "idle_timeout": "off", "login_timeout": "5s", ` + account), use, nil},
		{"a transport in JSON", environment(endpoint + `, "transport": {"protocol": "http", "dial_timeout": "2s"}, ` + account), use, nil},
		{"an unknown field of the app", `{"client": {}}`, inline, []string{`unknown field "client"`}},
		{"an unknown field of an environment", environment(endpoint + `, "enpoint": [], ` + account), use, []string{`unknown field "enpoint"`}},
		{"an unknown field of an account", environment(endpoint + `, "accounts": {"batch": {"pasword": "` + canaryKey + `"}}`), use, []string{`unknown field "pasword"`}},
		{"an unknown field of the handler", good, use + `, "rewrite_url": true`, []string{`unknown field "rewrite_url"`}},
		{"rewrite_urls as text", good, use + `, "rewrite_urls": "on"`, []string{"cannot unmarshal string", "rewrite_urls"}},
		{"rewrite_urls off", good, use + `, "rewrite_urls": false`, nil},
		{"an unknown field of an inline environment", `{}`, strings.Replace(inline, `"api_token"`, `"token"`, 1), []string{`unknown field "token"`}},
		{"a password that is no text", environment(endpoint + `, "accounts": {"batch": {"username": "a", "password": ["` + canaryKey + `"]}}`), use, []string{"cannot unmarshal array"}},
		{"an environment of nothing", `{"environments": {"prod": null}}`, use, []string{"environment prod: endpoint is missing"}},
		{"an environment without endpoint", environment(account), use, []string{"environment prod: endpoint is missing; expected a URL such as"}},
		{"an endpoint that is no URL", environment(`"endpoint": ["em.example.com"], ` + account), use, []string{"is no absolute http or https URL"}},
		{"an endpoint with a password", environment(`"endpoint": ["https://a:` + canaryKey + `@em.example.com"], ` + account), use, []string{"it holds a user name or password"}},
		{"an endpoint with a password and no scheme", environment(`"endpoint": ["a:` + canaryKey + `@em.example.com"], ` + account), use, []string{"endpoint: it is no absolute http or https URL"}},
		{"a public_url with a password and no scheme", environment(endpoint + `, "public_url": ["a:` + canaryKey + `@em.example.com"], ` + account), use, []string{"public_url: it is no absolute http or https URL"}},
		{"the same endpoint in another spelling", environment(`"endpoint": ["https://em.example.com/x", "https://em.example.com:443/x/"], ` + account), use, []string{"it is stated twice, before as https://em.example.com/x"}},
		{"endpoints that differ in the port", environment(`"endpoint": ["https://em.example.com/x", "https://em.example.com:8443/x"], ` + account), use, nil},
		{"a port that cannot be", environment(`"endpoint": ["https://em.example.com:99999/x"], ` + account), use, []string{"endpoint: its port is no number from 1 to 65535"}},
		{"an endpoint with plain http", environment(`"endpoint": ["http://em.example.com"], ` + account), use, []string{"expected https, or allow_plain_http"}},
		{"a public_url that is no URL", environment(endpoint + `, "public_url": ["/"], ` + account), use, []string{"public_url:"}},
		{"an environment with a bad name", `{"environments": {"a/b": {` + endpoint + `, ` + account + `}}}`, inline, []string{`environment name "a/b": expected letters`}},
		{"no account", environment(endpoint), use, []string{"environment prod: there is no account"}},
		{"an account of nothing", environment(endpoint + `, "accounts": {"batch": null}`), use, []string{"account batch: it has no secret; expected username and password, or api_token"}},
		{"an account with both kinds of secret", environment(endpoint + `, "accounts": {"batch": {"username": "a", "password": "b", "api_token": "c"}}`), use, []string{"account batch: it has both kinds of secret"}},
		{"a default_account that is none", environment(endpoint + `, "default_account": "x", ` + account), use, []string{"default_account x: there is no such account; expected one of batch"}},
		{"a negative login_timeout", environment(endpoint + `, "login_timeout": -1, ` + account), use, []string{"login_timeout: expected a duration above zero"}},
		{"a negative session_lifetime", environment(endpoint + `, "session_lifetime": "-30m", ` + account), use, []string{"session_lifetime: expected a duration above zero"}},
		{"a negative renew_before", environment(endpoint + `, "renew_before": -1, ` + account), use, []string{"renew_before: expected a duration above zero"}},
		{"a negative idle_timeout", environment(endpoint + `, "idle_timeout": -1, ` + account), use, []string{`idle_timeout: expected a duration above zero, or "off"`}},
		{"an idle_timeout of zero", environment(endpoint + `, "idle_timeout": 0, ` + account), use, []string{`idle_timeout: expected a duration above zero, or "off"`}},
		{"an idle_timeout of null", environment(endpoint + `, "idle_timeout": null, ` + account), use, []string{`idle_timeout: expected a duration above zero, or "off"`}},
		{"other durations of zero", environment(endpoint + `, "login_timeout": 0, "session_lifetime": "0s", "renew_before": 0, ` + account), use, nil},
		{"a garbled idle_timeout", environment(endpoint + `, "idle_timeout": "never", ` + account), use, []string{"reading idle_timeout", `or "off"`}},
		{"renew_before above the lifetime", environment(endpoint + `, "renew_before": "31m", ` + account), use, []string{"renew_before is 31m0s; expected less than session_lifetime"}},
		{"a placeholder in tls_server_name", environment(endpoint + `, "tls_server_name": "{env.X}", ` + account), use, []string{"tls_server_name: placeholders are not read here"}},
		{"half a client certificate", environment(endpoint + `, "tls_client_certificate": {"certificate": "a.pem"}, ` + account), use, []string{"tls_client_certificate: expected the paths of a certificate and of its key"}},
		{"a negative dial_fallback_delay, which is off", environment(endpoint + `, "transport": {"protocol": "http", "dial_fallback_delay": -1}, ` + account), use, nil},
		{"TLS inside transport", environment(endpoint + `, "transport": {"protocol": "http", "tls": {}}, ` + account), use, []string{"TLS is not said here; expected tls_ca_file"}},
		{"TLS in capitals inside transport", environment(endpoint + `, "transport": {"protocol": "http", "TLS": {"insecure_skip_verify": true}}, ` + account), use, []string{"TLS is not said here"}},
		{"proxy_protocol in capitals inside transport", environment(endpoint + `, "transport": {"protocol": "http", "Proxy_Protocol": "v2"}, ` + account), use, []string{"proxy_protocol cannot be used here"}},
		{"another transport in capitals", environment(endpoint + `, "transport": {"protocol": "http", "Protocol": "fastcgi"}, ` + account), use, []string{"unknown field", "Protocol"}},
		{"proxy_protocol inside transport", environment(endpoint + `, "transport": {"protocol": "http", "proxy_protocol": "v2"}, ` + account), use, []string{"proxy_protocol cannot be used here", "leave it out"}},
		{"durations of zero inside transport", environment(endpoint + `, "transport": {"protocol": "http", "dial_timeout": 0, "keep_alive": {"idle_timeout": 0}}, ` + account), use, nil},
		{"another transport", environment(endpoint + `, "transport": {"protocol": "fastcgi"}, ` + account), use, []string{"expected transport http"}},
		{"an unknown field of transport", environment(endpoint + `, "transport": {"protocol": "http", "dial": 1}, ` + account), use, []string{`unknown field "dial"`}},
		{"no environment in the handler", good, `"account": "batch"`, []string{"no environment; expected the name of one, or its endpoint"}},
		{"two environments in the handler", good, use + `, ` + inline, []string{"environment and inline are both given; expected one of them"}},
		{"an inline environment with accounts", `{}`, `"inline": {` + endpoint + `, ` + account + `}`, []string{"an inline environment has one account"}},
		{"an inline environment of nothing", `{}`, `"inline": {}`, []string{"inline: endpoint is missing; expected a URL such as https://"}},
		{"an inline environment with a host beyond ASCII", `{}`, strings.Replace(inline, "em.example.com", "b\u00fccher.example", 1), []string{"environment name", "the name is what `name` says, else the endpoint's host"}},
		{"an inline environment with a host beyond ASCII and a name", `{}`, strings.Replace(strings.Replace(inline, "em.example.com", "b\u00fccher.example", 1), "{", `{"name": "prod", `, 1), nil},
		{"an inline environment without endpoint", `{}`, `"inline": {"api_token": "a"}`, []string{"inline: endpoint is missing; expected a URL such as https://"}},
		{"an inline environment with a name and without endpoint", `{}`, `"inline": {"name": "prod", "api_token": "a"}`, []string{"environment prod: endpoint is missing"}},
		{"an endpoint in place of the name of an environment", good, `"environment": "https://em.example.com/automation-api"`,
			[]string{`environment: "https://em.example.com/automation-api" is no name of one; expected one of the app controlm, or inline with its endpoint`}},
		{"an endpoint with a password in place of the name of an environment", good, `"environment": "a:hunter2@em.example.com"`, []string{"environment: it is no name of one"}},
		{"an account without a username", environment(endpoint + `, "accounts": {"batch": {"password": "b"}}`), use, []string{"account batch: username is missing beside password; expected username and password, or api_token alone"}},
		{"an unknown way of admission", good, use + `, "admit": ["everyone"]`, []string{"admit everyone: expected `clients`, `loopback`"}},
		{"two ways of admission", good, use + `, "admit": ["loopback", "clients"]`, []string{`"clients" is no host name here`}},
		{"a host name that is none", good, use + `, "admit": ["loopback", "*.example.com"]`, []string{`"*.example.com" is no host name`}},
		{"hosts of every kind", good, use + `, "admit": ["loopback", "EM.example.com", "em_1", "em.example.com:8443", "xn--bcher-kva.example.", "192.0.2.1", "::1", "[2001:db8::1]", "[2001:db8::1]:443"]`, nil},
		{"endpoints of every kind", environment(`"endpoint": ["https://em_1/x", "https://192.0.2.1/x", "https://[2001:db8::1]:8443/x", "https://b\u00fccher.example/x", "https://[fe80::1%25eth0]/x"], "tls_server_name": "192.0.2.1", ` + account), use, nil},
		{"a negative replay_buffer", good, use + `, "replay_buffer": -1`, []string{"replay_buffer: expected a size from 0 to 64MiB"}},
		{"a huge replay_buffer", good, use + `, "replay_buffer": 67108865`, []string{"replay_buffer: expected a size from 0 to 64MiB"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := `{"apps": {"controlm": ` + c.app + `, "http": {"servers": {"s": {"listen": ["127.0.0.1:8080"], "routes": [
				{"handle": [{"handler": "controlm", ` + c.handler + `}]}]}}}}}`
			_, err := validate(t, withSecretFiles(t, config))
			if len(c.want) > 0 {
				wantError(t, err, c.want...)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestANegativeDurationInsideTransportIsAnErrorInJSONToo(t *testing.T) {
	for member, transport := range map[string]string{
		"dial_timeout":              `"dial_timeout": "-1s"`,
		"response_header_timeout":   `"response_header_timeout": "-2m"`,
		"expect_continue_timeout":   `"expect_continue_timeout": -1`,
		"read_timeout":              `"read_timeout": -1`,
		"write_timeout":             `"write_timeout": -1`,
		"keep_alive.idle_timeout":   `"keep_alive": {"idle_timeout": "-30s"}`,
		"keep_alive.probe_interval": `"keep_alive": {"probe_interval": -1}`,
	} {
		t.Run(member, func(t *testing.T) {
			_, err := validate(t, `{"apps": {"controlm": {"environments": {"prod": {"endpoint": ["https://em.example.com/automation-api"],
			"transport": {"protocol": "http", `+transport+`}, "accounts": {"batch": {"api_token": "a"}}}}}}}`)
			wantError(t, err, "environment prod: transport http: "+member+": expected a duration above zero")
		})
	}
}
