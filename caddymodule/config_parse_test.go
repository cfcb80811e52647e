package caddymodule_test

import (
	"fmt"
	"strings"
	"testing"
)

// mistake is one thing that an operator may write, and what the error says.
type mistake struct {
	name  string
	lines string
	line  int // of the Caddyfile, where the error was found
	want  []string
}

func (m mistake) check(t *testing.T, caddyfile string) {
	t.Helper()
	_, err := adapt(caddyfile)
	wantError(t, err, append(m.want, fmt.Sprintf("at Caddyfile:%d", m.line))...)
}

const goodEndpoint = "endpoint https://em.example.com:8443/automation-api"

const goodAccount = `account batch {
username {env.CTM_USERNAME}
password {file./run/secrets/ctm_password}
}`

// TestEachMistakeInAnEnvironmentIsNamedWithItsLine has the mistake begin at
// line 4, in an environment that begins at line 3.
func TestEachMistakeInAnEnvironmentIsNamedWithItsLine(t *testing.T) {
	for _, m := range []mistake{
		{"no endpoint", goodAccount, 3, []string{"environment prod", "endpoint is missing", "https://em.example.com"}},
		{"an endpoint without argument", "endpoint", 4, []string{"endpoint: no argument", "expected one or more"}},
		{"an endpoint with a block", goodEndpoint + " {\nx\n}", 4, []string{"endpoint: takes no block"}},
		{"an endpoint with an empty block", goodEndpoint + " {\n}", 4, []string{"endpoint: takes no block"}},
		{"a login_timeout with an empty block", "login_timeout 15s {\n}", 4, []string{"login_timeout: takes no block"}},
		{"an idle_timeout with an empty block", "idle_timeout off {\n}", 4, []string{"idle_timeout: takes no block"}},
		{"a client certificate with an empty block", "tls_client_certificate cert.pem key.pem {\n}", 4, []string{"tls_client_certificate: takes no block"}},
		{"two endpoint lines", goodEndpoint + "\n" + goodEndpoint, 5, []string{"endpoint is stated twice", "expected it once"}},
		{"an endpoint that is no URL", "endpoint https://em.example.com:port/", 4, []string{"endpoint: it is no URL", "expected a URL such as"}},
		{"an endpoint without scheme", "endpoint em.example.com/automation-api", 4, []string{`no absolute http or https URL`, "expected a URL"}},
		{"an endpoint with host and port alone", "endpoint em.example.com:8443", 4, []string{`no absolute http or https URL`}},
		{"an endpoint of another scheme", "endpoint ftp://em.example.com", 4, []string{`"ftp://em.example.com" is no absolute http or https URL`}},
		{"an endpoint without host", "endpoint https:///automation-api", 4, []string{"names no host"}},
		{"an endpoint whose host is a star", "endpoint https://*/x", 4, []string{"endpoint: its host is no host name; expected a URL"}},
		{"an endpoint whose host has a comma", "endpoint https://em1,em2/x", 4, []string{"endpoint: its host is no host name"}},
		{"a public_url whose host is a star", "public_url https://*.example.com", 4, []string{"public_url: its host is no host name"}},
		{"an endpoint with a user", "endpoint https://emuser:" + canaryKey + "@em.example.com/", 4, []string{"it holds a user name or password"}},
		{"an endpoint with a user and no scheme", "endpoint emuser:" + canaryKey + "@em.example.com", 4, []string{"endpoint: it is no absolute http or https URL; expected a URL"}},
		{"an endpoint with a user and one slash", "endpoint https:/emuser:" + canaryKey + "@em.example.com", 4, []string{"endpoint: it names no host"}},
		{"an endpoint with a user and an escaped @", "endpoint emuser:" + canaryKey + "%40em.example.com", 4, []string{"endpoint: it is no absolute http or https URL"}},
		{"an endpoint with a user and nothing behind", "endpoint emuser:" + canaryKey, 4, []string{"endpoint: it is no absolute http or https URL"}},
		{"a public_url with a user and no scheme", "public_url emuser:" + canaryKey + "@em.example.com", 4, []string{"public_url: it is no absolute http or https URL; expected a URL"}},
		{"an endpoint with a query", "endpoint https://em.example.com/?a=b", 4, []string{"it has a query"}},
		{"an endpoint with an empty query", "endpoint https://em.example.com/?", 4, []string{"it has a query"}},
		{"an endpoint with a fragment", "endpoint https://em.example.com/#a", 4, []string{"it has a fragment"}},
		{"an endpoint with an escaped path", "endpoint https://em.example.com/a%2Fb", 4, []string{"its path is not plain"}},
		{"an endpoint with dot segments", "endpoint https://em.example.com/a/../b", 4, []string{"its path has dot segments"}},
		{"endpoints with two base paths", "endpoint https://em1.example.com/automation-api https://em2.example.com/other\n" + goodAccount, 4,
			[]string{"share one base path", `expected "/automation-api"`}},
		{"the same endpoint twice", "endpoint https://em.example.com/x https://em.example.com/x\n" + goodAccount, 4,
			[]string{"endpoint https://em.example.com/x: it is stated twice, before as https://em.example.com/x; expected each endpoint once"}},
		{"the same endpoint with the port of its scheme", "endpoint https://em.example.com/x https://other.example.com/x https://em.example.com:443/x\n" + goodAccount, 4,
			[]string{"endpoint https://em.example.com:443/x: it is stated twice, before as https://em.example.com/x"}},
		{"the same endpoint in other case", "endpoint https://em.example.com/x https://EM.example.com/x\n" + goodAccount, 4, []string{"it is stated twice"}},
		{"the same endpoint with a slash at its end", "endpoint https://em.example.com/x https://em.example.com/x/\n" + goodAccount, 4, []string{"it is stated twice"}},
		{"the same endpoint with a dot behind its host", "endpoint https://em.example.com/x https://em.example.com./x\n" + goodAccount, 4, []string{"it is stated twice"}},
		{"a port above all", "endpoint https://em.example.com:65536/x", 4, []string{"endpoint: its port is no number from 1 to 65535; expected a URL"}},
		{"a port of zero", "endpoint https://em.example.com:0/x", 4, []string{"its port is no number from 1 to 65535"}},
		{"a port of nothing", "endpoint https://em.example.com:/x", 4, []string{"its port is no number from 1 to 65535"}},
		{"a port in another spelling", "endpoint https://em.example.com:0443/x", 4, []string{"its port is no number from 1 to 65535"}},
		{"a public_url with a port above all", "public_url https://em.example.com:99999", 4, []string{"public_url: its port is no number from 1 to 65535"}},
		{"plain http", "endpoint http://em.example.com/automation-api\n" + goodAccount, 4,
			[]string{"plain http would send passwords in the clear", "expected https, or allow_plain_http"}},
		{"plain http to a name that begins like loopback", "endpoint http://127.0.0.1.example.com/\n" + goodAccount, 4, []string{"plain http"}},
		{"plain http of the second endpoint", "endpoint https://em1.example.com http://em2.example.com\n" + goodAccount, 4, []string{"endpoint http://em2.example.com: plain http"}},
		{"an endpoint without scheme that shows which", "endpoint em.example.com:8443/automation-api", 4, []string{`"em.example.com:8443/automation-api" is no absolute http or https URL`}},
		{"no account", goodEndpoint, 3, []string{"there is no account", "expected one with username and password, or with api_token"}},
		{"tls_ca_file without argument", "tls_ca_file", 4, []string{"tls_ca_file: no argument", "expected one or more"}},
		{"tls_server_name without argument", "tls_server_name", 4, []string{"tls_server_name: 0 arguments; expected one, as in `tls_server_name em.example.com`"}},
		{"two tls_server_names", "tls_server_name a\ntls_server_name b", 5, []string{"tls_server_name is stated twice"}},
		{"braces in tls_server_name", goodEndpoint + "\ntls_server_name {env.NAME}\n" + goodAccount, 5, []string{"tls_server_name: placeholders are not read here", "expected a host name"}},
		{"a URL in tls_server_name", goodEndpoint + "\ntls_server_name https://x\n" + goodAccount, 5, []string{`tls_server_name: "https://x" is no host name; expected one such as em.example.com`}},
		{"a blank in tls_server_name", goodEndpoint + "\ntls_server_name \"a b\"\n" + goodAccount, 5, []string{`tls_server_name: "a b" is no host name`}},
		{"a port in tls_server_name", goodEndpoint + "\ntls_server_name em.example.com:8443\n" + goodAccount, 5, []string{`tls_server_name: "em.example.com:8443" is no host name`}},
		{"a client certificate without key", "tls_client_certificate cert.pem", 4, []string{"1 arguments; expected two", "cert.pem key.pem"}},
		{"tls_insecure_skip_verify with an argument", "tls_insecure_skip_verify on", 4, []string{`tls_insecure_skip_verify: takes no argument, found "on"`}},
		{"allow_plain_http with a block", "allow_plain_http {\nx\n}", 4, []string{"allow_plain_http: takes no block"}},
		{"a login_timeout of zero", "login_timeout 0s", 4, []string{`login_timeout: "0s" is not a duration above zero; expected one such as 15s`}},
		{"a negative session_lifetime", "session_lifetime -30m", 4, []string{`session_lifetime: "-30m" is not a duration above zero`}},
		{"a renew_before without unit", "renew_before 5", 4, []string{`renew_before: "5" is not a duration above zero; expected one such as 5m`}},
		{"a garbled idle_timeout", "idle_timeout never", 4, []string{`idle_timeout: "never" is not a duration above zero`, "or off"}},
		{"an idle_timeout of zero", "idle_timeout 0", 4, []string{"idle_timeout", "or off"}},
		{"two durations", "login_timeout 1s 2s", 4, []string{"login_timeout: 2 arguments; expected one"}},
		{"renew_before as long as the lifetime", goodEndpoint + "\nrenew_before 30m\n" + goodAccount, 5, []string{"renew_before is 30m0s; expected less than session_lifetime, which is 30m0s"}},
		{"a lifetime not above renew_before", goodEndpoint + "\nsession_lifetime 4m\nrenew_before 5m\n" + goodAccount, 6, []string{"renew_before is 5m0s; expected less than session_lifetime, which is 4m0s"}},
		{"a public_url that is no URL", "public_url controlm.example.com", 4, []string{"public_url:", "no absolute http or https URL"}},
		{"transport of another kind", "transport fastcgi {\n}", 4, []string{"expected `transport http {…}`"}},
		{"transport without kind", "transport", 4, []string{"expected `transport http {…}`"}},
		{"transport with a name", "transport http fast {\ndial_timeout 2s\n}", 4, []string{"transport: 2 arguments; expected one, as in `transport http {…}`"}},
		{"transport with a word in its line", "transport http dial_timeout 2s", 4, []string{"transport: 3 arguments; expected one"}},
		{"a surplus argument inside transport", "transport http {\ndial_timeout 2s 3s\n}", 5, []string{"3s"}},
		{"proxy_protocol inside transport", "transport http {\nproxy_protocol v1\n}", 5, []string{"proxy_protocol cannot be used here", "leave it out"}},
		{"an unknown word inside transport", "transport http {\nresponse_timeout 5m\n}", 5, []string{"response_timeout"}},
		{"tls inside transport", "transport http {\ntls\n}", 5, []string{"TLS is not said here", "expected tls_ca_file"}},
		{"tls_insecure_skip_verify inside transport", "transport http {\ntls_insecure_skip_verify\n}", 5, []string{"TLS is not said here"}},
		{"tls_server_name inside transport", "transport http {\ntls_server_name a\n}", 5, []string{"TLS is not said here"}},
		{"TLS amid the words of transport", "transport http {\ndial_timeout 2s\ntls_trust_pool file {\npem_file a.pem\n}\nversions 1.1\n}", 6, []string{"TLS is not said here"}},
		{"a negative dial_timeout inside transport", "transport http {\nversions 1.1\ndial_timeout -1s\n}", 6, []string{`transport http: dial_timeout: "-1s" is not a duration above zero`}},
		{"a negative keepalive inside transport", "transport http {\nkeepalive -30s\n}", 5, []string{`keepalive: "-30s" is not a duration above zero`}},
		{"a keepalive_interval of zero inside transport", "transport http {\nkeepalive_interval 0\n}", 5, []string{`keepalive_interval: "0" is not a duration above zero`}},
		{"a response_header_timeout of zero inside transport", "transport http {\nresponse_header_timeout 0s\n}", 5, []string{`response_header_timeout: "0s" is not a duration above zero`}},
		{"a garbled read_timeout inside transport", "transport http {\nread_timeout long\n}", 5, []string{"long"}},
		{"compression inside transport without a word", "transport http {\ncompression\n}", 5, []string{"compression: expected on or off"}},
		{"compression inside transport that is neither", "transport http {\ncompression gzip\n}", 5, []string{"compression: expected on or off"}},
		{"a word inside transport twice", "transport http {\ndial_timeout 2s\nversions 1.1\ndial_timeout 3s\n}", 7, []string{"transport http: dial_timeout is stated twice; expected it once"}},
		{"versions inside transport twice", "transport http {\nversions 1.1\nversions 2\n}", 6, []string{"transport http: versions is stated twice; expected it once"}},
		{"tls_trust_pool inside transport", "transport http {\ntls_trust_pool file a.pem\n}", 5, []string{"TLS is not said here"}},
		{"an account without name", "account {\n}", 4, []string{"account: 0 names; expected one, as in `account batch {`"}},
		{"an account with two names", "account batch reports {\n}", 4, []string{"account: 2 names; expected one"}},
		{"two accounts of one name", goodAccount + "\n" + goodAccount, 8, []string{"account batch: there are two of this name"}},
		{"an account with both kinds of secret", "account batch {\nusername a\npassword b\napi_token c\n}", 8, []string{"account batch: it has both kinds of secret; expected username and password, or api_token alone"}},
		{"an account with username and API token", "account batch {\nusername a\napi_token c\n}", 7, []string{"it has both kinds of secret"}},
		{"an account without a secret", "account batch {\n}", 5, []string{"account batch: it has no secret; expected username and password, or api_token"}},
		{"an account without a password", "account batch {\nusername a\n}", 6, []string{"account batch: password is missing beside username; expected username and password, or api_token alone"}},
		{"an account without a username", "account batch {\npassword a\n}", 6, []string{"account batch: username is missing beside password; expected username and password, or api_token alone"}},
		{"a password of two words", "account batch {\npassword " + canaryKey + " " + canaryToken + "\n}", 5, []string{"password: 2 arguments; expected one", "{file./run/secrets/ctm_password}"}},
		{"an empty password", "account batch {\npassword \"\"\n}", 5, []string{"password: it is empty; expected text, as in"}},
		{"a password with a block", "account batch {\npassword " + canaryKey + " {\nx\n}\n}", 5, []string{"password: takes no block"}},
		{"tls_insecure_skip_verify with an empty block", "tls_insecure_skip_verify {\n}", 4, []string{"tls_insecure_skip_verify: takes no block"}},
		{"a word of another place", "seal_key x", 4, []string{`unknown word "seal_key"; expected one of account`}},
		{"a default_account that is none", goodEndpoint + "\n" + goodAccount + "\ndefault_account reports", 9, []string{"default_account reports: there is no such account; expected one of batch"}},
		{"an account whose name has a slash", goodEndpoint + "\n" + strings.Replace(goodAccount, "batch", "a/b", 1), 5, []string{`account name "a/b": expected letters, digits`}},
	} {
		t.Run(m.name, func(t *testing.T) {
			m.check(t, "{\ncontrolm {\nenvironment prod {\n"+m.lines+"\n}\n}\n}\n:8080 {\ncontrolm prod\n}\n")
		})
	}
}

// TestEachMistakeInTheGlobalOptionIsNamedWithItsLine has the mistake begin at
// line 2.
func TestEachMistakeInTheGlobalOptionIsNamedWithItsLine(t *testing.T) {
	environment := "environment prod {\n" + goodEndpoint + "\n" + goodAccount + "\n}"
	for _, m := range []mistake{
		{"an argument", "controlm prod {\n}", 2, []string{`controlm: takes no argument here, found "prod"; expected a block with environments`}},
		{"the option twice", "controlm {\n" + environment + "\n}\ncontrolm {\n}", 11, []string{"the global option is stated twice", "with all environments in it"}},
		{"an environment without name", "controlm {\nenvironment {\n}\n}", 3, []string{"environment: 0 names; expected one, as in `environment prod {`"}},
		{"an environment with two names", "controlm {\nenvironment prod test {\n}\n}", 3, []string{"environment: 2 names; expected one"}},
		{"an environment whose name has a blank", "controlm {\nenvironment \"prod eu\" {\n}\n}", 3, []string{`environment name "prod eu": expected letters, digits`}},
		{"two environments of one name", "controlm {\n" + environment + "\n" + environment + "\n}", 10, []string{"environment prod: there are two of this name"}},
		{"a word that is none", "controlm {\nshare_session\n}", 3, []string{`unknown word "share_session"; expected one of client, environment, public`}},
	} {
		t.Run(m.name, func(t *testing.T) {
			m.check(t, "{\n"+m.lines+"\n}\n:8080 {\ncontrolm prod\n}\n")
		})
	}
}

// TestEachMistakeInASiteIsNamedWithItsLine has the mistake begin at line 2.
func TestEachMistakeInASiteIsNamedWithItsLine(t *testing.T) {
	const inline = "controlm https://em.example.com:8443/automation-api {\n"
	const user = "username {env.CTM_USERNAME}\n"
	for _, m := range []mistake{
		{"no environment", "controlm", 2, []string{"expected the name of an environment, or its endpoint"}},
		{"two environments", "controlm prod test", 2, []string{"controlm: 2 arguments; expected the name of one environment, or endpoints that begin with https://"}},
		{"an endpoint and a name", "controlm https://em.example.com prod", 2, []string{`endpoint: "prod" is no absolute http or https URL`}},
		{"an endpoint without scheme", "controlm em.example.com:8443/automation-api {\n" + user + "}", 2,
			[]string{`controlm: "em.example.com:8443/automation-api" is no name of an environment, and an endpoint begins with https://`, "expected `controlm prod` or `controlm https://em.example.com:8443/automation-api {`"}},
		{"an endpoint without scheme, port and block", "controlm em.example.com/automation-api", 2, []string{"an endpoint begins with https://"}},
		{"an endpoint without scheme and path", "controlm em.example.com:8443 {\n" + user + "}", 3,
			[]string{`controlm em.example.com:8443 (an endpoint would begin with https://): unknown word "username"; expected one of account`}},
		{"an endpoint with a user and without scheme", "controlm emuser:" + canaryKey + "@em.example.com", 2, []string{"controlm: it is no name of an environment, and an endpoint begins with https://"}},
		{"an inline endpoint with a user", "controlm https://emuser:" + canaryKey + "@em.example.com", 2, []string{"it holds a user name or password"}},
		{"an inline environment without account", "controlm https://em.example.com", 2, []string{"environment em.example.com: account default: it has no secret; expected username and password, or api_token"}},
		{"an inline environment with both kinds of secret", inline + user + "password a\napi_token b\n}", 2, []string{"it has both kinds of secret"}},
		{"an inline environment with two base paths", "controlm https://em1.example.com/a https://em2.example.com/b {\napi_token a\n}", 2, []string{"share one base path"}},
		{"a choice of account inline", inline + "account batch\n}", 3, []string{`unknown word "account"`, "expected one of admit,"}},
		{"a default_account inline", inline + "default_account batch\n}", 3, []string{`unknown word "default_account"`}},
		{"an endpoint word inline", inline + goodEndpoint + "\n}", 3, []string{`unknown word "endpoint"`}},
		{"an inline name with a slash", inline + "name a/b\napi_token {env.X}\n}", 3, []string{`environment name "a/b": expected letters, digits`}},
		{"an inline endpoint with a long host", "controlm https://" + strings.Repeat("em.", 40) + "example.com/x {\napi_token {env.X}\n}", 2,
			[]string{"environment name", "expected at most 128 characters", "the name is what `name` says, else the endpoint's host"}},
		{"an inline endpoint with a host beyond ASCII", "controlm https://bücher.example/x {\napi_token {env.X}\n}", 2,
			[]string{`environment name "bücher.example": expected letters, digits`, "the name is what `name` says, else the endpoint's host"}},
		{"a secret beside a named environment", "controlm prod {\npassword " + canaryKey + "\n}", 3, []string{`unknown word "password"; expected one of account, admit, allow_credential_changes, annotate, annotate_override, replay_buffer`}},
		{"two accounts", "controlm prod {\naccount a\naccount b\n}", 4, []string{"account is stated twice; expected it once"}},
		{"an account without name", "controlm prod {\naccount\n}", 3, []string{"account: 0 arguments; expected one, as in `account batch`"}},
		{"admit without argument", "controlm prod {\nadmit\n}", 3, []string{"expected `admit clients`, `admit loopback`, with host names after it where wanted, or `admit anyone`"}},
		{"admit of something else", "controlm prod {\nadmit everyone\n}", 3, []string{"admit everyone: expected `clients`, `loopback`", "or `anyone`"}},
		{"admit clients with more", "controlm prod {\nadmit clients nightly\n}", 3, []string{"admit clients: takes nothing more"}},
		{"admit anyone with more", "controlm prod {\nadmit anyone em.example.com\n}", 3, []string{"admit anyone: takes nothing more"}},
		{"admit loopback with a URL", "controlm prod {\nadmit loopback https://em.example.com\n}", 3, []string{`"https://em.example.com" is no host name; expected one such as em.example.com`}},
		{"admit loopback with commas", "controlm prod {\nadmit loopback em1.example.com, em2.example.com\n}", 3, []string{`admit loopback: "em1.example.com," is no host name; expected one such as em.example.com`}},
		{"admit loopback with a comma and no blank", "controlm prod {\nadmit loopback a,b\n}", 3, []string{`"a,b" is no host name`}},
		{"admit loopback with half a port", "controlm prod {\nadmit loopback em.example.com:\n}", 3, []string{`"em.example.com:" is no host name`}},
		{"admit loopback with a port that is none", "controlm prod {\nadmit loopback em.example.com:https\n}", 3, []string{`"em.example.com:https" is no host name`}},
		{"admit loopback with brackets", "controlm prod {\nadmit loopback [em.example.com]\n}", 3, []string{`"[em.example.com]" is no host name`}},
		{"admit loopback with an empty label", "controlm prod {\nadmit loopback em..example.com\n}", 3, []string{`"em..example.com" is no host name`}},
		{"admit loopback with clients", "controlm prod {\nadmit loopback em.example.com clients\n}", 3, []string{`admit loopback: "clients" is no host name here`, "expected host names such as em.example.com, or `admit clients` alone"}},
		{"admit loopback with anyone", "controlm prod {\nadmit loopback Anyone\n}", 3, []string{`"Anyone" is no host name here`, "or `admit anyone` alone"}},
		{"admit loopback twice", "controlm prod {\nadmit loopback loopback\n}", 3, []string{`"loopback" is no host name here`}},
		{"two admits", "controlm prod {\nadmit loopback\nadmit anyone\n}", 4, []string{"admit is stated twice"}},
		{"a garbled replay_buffer", "controlm prod {\nreplay_buffer much\n}", 3, []string{`replay_buffer: "much" is not a size up to 64MiB; expected one such as 1MiB`}},
		{"a negative replay_buffer", "controlm prod {\nreplay_buffer -1\n}", 3, []string{"is not a size up to 64MiB"}},
		{"a huge replay_buffer", "controlm prod {\nreplay_buffer 2GiB\n}", 3, []string{`"2GiB" is not a size up to 64MiB`}},
		{"allow_credential_changes with an argument", "controlm prod {\nallow_credential_changes off\n}", 3, []string{`takes no argument, found "off"`}},
		{"rewrite_urls without argument", "controlm prod {\nrewrite_urls\n}", 3, []string{"rewrite_urls: 0 arguments; expected one, as in `rewrite_urls off`"}},
		{"rewrite_urls of something else", "controlm prod {\nrewrite_urls no\n}", 3, []string{`rewrite_urls: "no" is neither; expected on or off`}},
		{"two rewrite_urls", "controlm prod {\nrewrite_urls on\nrewrite_urls off\n}", 4, []string{"rewrite_urls is stated twice"}},
		{"a word of a client in a site", "controlm prod {\nallow read_only\n}", 3, []string{`unknown word "allow"; expected one of account, admit, allow_credential_changes, annotate, annotate_override, replay_buffer, rewrite_urls`}},
		{"a file without a folder", inline + user + "password {file.ctm_password}\n}", 4,
			[]string{"password: ", "{file.ctm_password} names a file without a folder", "{file./run/secrets/ctm_password}"}},
		{"a token's file without a folder", inline + "api_token {file.token}\n}", 3, []string{"api_token: ", "{file.token} names a file without a folder"}},
		{"a literal that Caddy has rewritten", inline + user + "password {host}7d\n}", 4,
			[]string{"password: ", "Caddy replaces such placeholders in a site block", "{file./path/to/secret}"}},
		{"a username that Caddy has rewritten", inline + "username em{path}\npassword {env.X}\n}", 3, []string{"username: Caddy replaces such placeholders in a site block"}},
		{"health with an argument", "controlm_health /healthz live", 2, []string{`controlm_health: takes no argument, found "live"`}},
		{"health with a block", "controlm_health {\nx\n}", 2, []string{"controlm_health: takes no block"}},
		{"health with an empty block", "controlm_health {\n}", 2, []string{"controlm_health: takes no block"}},
		{"an account with an empty block", "controlm prod {\naccount batch {\n}\n}", 3, []string{"account: takes no block"}},
		{"admit with an empty block", "controlm prod {\nadmit clients {\n}\n}", 3, []string{"admit: takes no block"}},
		{"annotate with an empty block", "controlm prod {\nannotate Annotation-Subject x {\n}\n}", 3, []string{"annotate: takes no block"}},
	} {
		t.Run(m.name, func(t *testing.T) {
			m.check(t, ":8080 {\n"+m.lines+"\n}\n")
		})
	}
}
