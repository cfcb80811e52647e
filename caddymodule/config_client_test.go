package caddymodule_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// keyHash is what a config holds of a gateway key.
func keyHash(key string) string {
	hash := sha256.Sum256([]byte(key))
	return hex.EncodeToString(hash[:])
}

const goodEnvironment = "environment prod {\n" + goodEndpoint + "\n" + goodAccount + "\n}\n" // seven lines

// TestEachMistakeInAClientIsNamedWithItsLine has the client's block begin at
// line 10, so that its own lines begin at 11.
func TestEachMistakeInAClientIsNamedWithItsLine(t *testing.T) {
	key, allow := "key_sha256 "+keyHash(canaryKey)+"\n", "allow read_only\n"
	const expectedKey = "expected `key_sha256 HASH [NAME] [expires 2027-06-30]`"
	for _, m := range []mistake{
		{"no proof", allow, 13, []string{`"nightly"`, "it cannot prove itself: expected key_sha256, user or certificate_subject"}},
		{"no allow", key, 13, []string{`"nightly"`, "`allow read_only`", "`allow * /*`"}},
		{"a deny alone", key + "deny * /config/*\n", 14, []string{"`allow read_only`", "`allow * /*`"}},
		{"nothing at all", "", 12, []string{"it cannot prove itself"}},
		{"an unknown word", "rule read_only", 11, []string{`client: unknown word "rule"; expected one of account, allow, allow_credential_changes, annotate, annotate_override, certificate_subject, deny, key_sha256, max_body, max_concurrent, rate, user`}},
		{"a key without hash", "key_sha256", 11, []string{"key_sha256: " + expectedKey}},
		{"a key of three words", "key_sha256 a b c", 11, []string{expectedKey}},
		{"the key itself in place of its hash", "key_sha256 " + canaryKey, 11, []string{"expected the SHA-256 of the key as 64 hexadecimal digits, got 22 characters"}},
		{"a key of 64 characters in place of its hash", "key_sha256 " + canaryKey + strings.Repeat("x", 42), 11, []string{"64 hexadecimal digits, got another character"}},
		{"the hash of nothing", "key_sha256 " + keyHash(""), 11, []string{"got the one of an empty text"}},
		{"a key with a block", "key_sha256 " + keyHash(canaryKey) + " {\nx\n}", 11, []string{"key_sha256: takes no block"}},
		{"a user with an empty block", "user nightly@example.com {\n}", 11, []string{"user: takes no block"}},
		{"a rate with an empty block", "rate 20/s {\n}", 11, []string{"rate: takes no block"}},
		{"an allow with an empty block", "allow read_only {\n}", 11, []string{"allow: takes no block"}},
		{"an end that is no day", strings.TrimSuffix(key, "\n") + " expires tomorrow", 11, []string{"expected its last day as in 2027-06-30", expectedKey}},
		{"an end that no month has", strings.TrimSuffix(key, "\n") + " 2026-key expires 2027-02-30", 11, []string{"expected its last day"}},
		{"an end without a day", strings.TrimSuffix(key, "\n") + " 2026-key expires", 11, []string{expectedKey}},
		{"an end without a day for a key without name", strings.TrimSuffix(key, "\n") + " expires", 11, []string{"key_sha256: a key cannot be named expires; expected its last day after that", expectedKey}},
		{"an end whose day is empty", strings.TrimSuffix(key, "\n") + ` expires ""`, 11, []string{"key_sha256: there is no day after expires; " + expectedKey}},
		{"an end that is stated twice", strings.TrimSuffix(key, "\n") + " expires expires 2027-06-30", 11, []string{"a key cannot be named expires"}},
		{"an end in capitals", strings.TrimSuffix(key, "\n") + " EXPIRES", 11, []string{"a key cannot be named EXPIRES"}},
		{"an end in place of the hash", "key_sha256 expires 2027-06-30", 11, []string{expectedKey}},
		{"the same key twice", key + key + allow, 15, []string{`client "nightly": a key is also one of client "nightly": expected each key once`}},
		{"a user of nothing", "user", 11, []string{"user: no argument; expected one or more, as in `user nightly@example.com`"}},
		{"an empty user", "user \"\"\n" + allow, 14, []string{"an empty user"}},
		{"the same user twice", "user a a\n" + allow, 14, []string{`user "a" is also one of client "nightly"`}},
		{"a subject of nothing", "certificate_subject", 11, []string{"certificate_subject: no argument"}},
		{"an empty subject", "certificate_subject \"\"\n" + allow, 14, []string{"an empty certificate_subject"}},
		{"an account of nothing", "account", 11, []string{"account: no argument; expected one or more, as in `account prod/batch`"}},
		{"an account without its environment", key + allow + "account batch\n", 16, []string{`client nightly: account "batch": expected environment/account, as in prod/batch`}},
		{"an account with an empty name", key + allow + "account prod/\n", 16, []string{`account "prod/": expected environment/account`}},
		{"an account of an unknown environment", key + allow + "account test/batch\n", 16, []string{"account test/batch: there is no environment test", "expected one of: prod"}},
		{"an unknown account", key + allow + "account prod/reports\n", 16, []string{"account prod/reports: there is no such account in environment prod; expected one of batch"}},
		{"two accounts of one environment", key + allow + "account prod/batch\naccount prod/batch\n", 17, []string{"account prod/batch: there are two for environment prod; expected one"}},
		{"an allow of nothing", "allow", 11, []string{"allow: ", "expected methods and paths as in GET,POST /run/*, or for allow one of read_only, monitor, order, operate, deploy"}},
		{"an unknown set", "allow readonly", 11, []string{"for allow one of read_only, monitor, order, operate, deploy", `got "readonly"`}},
		{"a set with a path", "allow read_only /run/*", 11, []string{"read_only stands alone"}},
		{"an allow without a path", "allow GET", 11, []string{"expected a path after GET, as in GET /run/*"}},
		{"a method in lower case", "allow get /run/*", 11, []string{"GET,POST,PUT,DELETE,PATCH,OPTIONS", `got "get"`}},
		{"a method twice", "allow GET,GET /run/*", 11, []string{"GET stands there twice"}},
		{"HEAD", "allow HEAD /run/*", 11, []string{"HEAD is judged as GET: write GET"}},
		{"TRACE", "allow TRACE /run/*", 11, []string{"TRACE is never forwarded: leave it out"}},
		{"an empty method", "allow GET, /run/*", 11, []string{`got "GET,"`}},
		{"a path without a slash", "allow GET run/jobs", 11, []string{`expected a path that begins with a slash, as /run/*; got "run/jobs"`}},
		{"a path that ends in a slash", "allow GET /run/", 11, []string{`the path "/run/" ends in a slash: write /run/* for what lies below, /run for itself`}},
		{"a path with a star inside a segment", "allow GET /run/job*", 11, []string{"a * inside a segment"}},
		{"a path with dot segments", "allow GET /run/../config", 11, []string{"something that no request may have: dot segment"}},
		{"a path with a query", "allow GET /run?a=b", 11, []string{"something that no request may have"}},
		{"an allow with a block", "allow read_only {\nx\n}", 11, []string{"allow: takes no block"}},
		{"a deny of nothing", "deny", 11, []string{"deny: ", "expected methods and paths"}},
		{"a deny with a set", "deny operate", 11, []string{"deny: ", "denying operate would deny reading"}},
		{"a deny of an unknown set", "deny everything", 11, []string{"deny: ", `got "everything"`}},
		{"allow_credential_changes with an argument", "allow_credential_changes on", 11, []string{`allow_credential_changes: takes no argument, found "on"`}},
		{"allow_credential_changes twice", "allow_credential_changes\nallow_credential_changes", 12, []string{"allow_credential_changes is stated twice"}},
	} {
		t.Run(m.name, func(t *testing.T) {
			m.check(t, "{\ncontrolm {\n"+goodEnvironment+"client nightly {\n"+m.lines+"\n}\n}\n}\n:8080 {\ncontrolm prod\n}\n")
		})
	}
}

// TestEachMistakeBesideClientsIsNamedWithItsLine has the mistake begin at
// line 10, after an environment.
func TestEachMistakeBesideClientsIsNamedWithItsLine(t *testing.T) {
	client := func(name, proof string) string { return "client " + name + " {\n" + proof + "\nallow read_only\n}\n" }
	hash := "key_sha256 " + keyHash(canaryKey)
	for _, m := range []mistake{
		{"a client without name", "client {\n}", 10, []string{"client: 0 names; expected one, as in `client nightly {`"}},
		{"a client with two names", "client a b {\n}", 10, []string{"client: 2 names; expected one"}},
		{"a name with a colon", client("a:b", hash), 13, []string{`client name "a:b": expected a name without a colon`}},
		{"a name with a blank", client(`"a b"`, hash), 13, []string{`client name "a b": expected letters, digits`}},
		{"a name too long for a token", client(strings.Repeat("a", 129), hash), 13, []string{"client name", "expected at most 128 characters"}},
		{"two clients of one name", client("a", hash) + client("a", "user a"), 14, []string{"client a: there are two of this name"}},
		{"a key of two clients", client("a", hash) + client("b", hash), 19, []string{`client "b": a key is also one of client "a": expected each key once`}},
		{"a user of two clients", client("a", "user u") + client("b", "user v u"), 19, []string{`client "b": user "u" is also one of client "a"`}},
		{"a subject of two clients", client("a", "certificate_subject CN=u") + client("b", "certificate_subject CN=u"), 19, []string{`client "b": certificate_subject "CN=u" is also one of client "a"`}},
		{"public without clients", "public GET /ctm-cli.tgz\n", 12, []string{"public: there are no clients that it could be an exception from; expected a client beside it"}},
		{"public of nothing", client("a", hash) + "public\n", 14, []string{"expected methods and paths, as in `public GET /ctm-cli.tgz`"}},
		{"public with a set", client("a", hash) + "public read_only\n", 14, []string{"public: ", "expected methods and paths"}},
		{"public with an empty block", client("a", hash) + "public GET /ctm-cli.tgz {\n}\n", 14, []string{"public: takes no block"}},
		{"public without a path", client("a", hash) + "public GET\n", 14, []string{"expected methods and paths, as in `public GET /ctm-cli.tgz`"}},
		{"public with a set and a path", client("a", hash) + "public read_only /run/*\n", 14, []string{"read_only stands alone"}},
		{"public with a method that is none", client("a", hash) + "public FETCH /ctm-cli.tgz\n", 14, []string{`got "FETCH"`}},
		{"public with a path that is none", client("a", hash) + "public GET ctm-cli.tgz\n", 14, []string{"expected a path that begins with a slash"}},
	} {
		t.Run(m.name, func(t *testing.T) {
			m.check(t, "{\ncontrolm {\n"+goodEnvironment+m.lines+"\n}\n}\n:8080 {\ncontrolm prod\n}\n")
		})
	}
}

// What is wrong between clients and sites is found by loading.
func TestEachMistakeBetweenClientsAndSitesSaysWhatWasExpected(t *testing.T) {
	t.Setenv("CTM_USERNAME", "emuser")
	client := "client nightly {\nkey_sha256 " + keyHash(canaryKey) + "\nallow read_only\n"
	two := "environment prod {\n" + goodEndpoint + "\n" + goodAccount + "\n" + strings.Replace(goodAccount, "batch", "reports", 1) + "\n}\n"
	for _, c := range []struct {
		name, app, site string
		want            string // none: it loads
	}{
		{"admit clients without a client", goodEnvironment, "admit clients", "admit clients: there is no client; expected one in the global option controlm"},
		{"admit clients", goodEnvironment + client + "}", "admit clients", ""},
		{"admit loopback beside clients", goodEnvironment + client + "}", "admit loopback", ""},
		{"credential changes of a site that admits clients", goodEnvironment + client + "}", "admit clients\nallow_credential_changes",
			"allow_credential_changes: where there are clients, it belongs to the client that needs it"},
		{"credential changes of a site that admits clients by default", goodEnvironment + client + "}", "allow_credential_changes",
			"allow_credential_changes: where there are clients, it belongs to the client that needs it"},
		{"credential changes of a site that admits this machine", goodEnvironment + client + "}", "admit loopback\nallow_credential_changes", ""},
		{"credential changes of a client", goodEnvironment + client + "allow_credential_changes\n}", "", ""},
		{"several accounts where no client chooses", two + client + "}", "", "environment prod has several accounts; expected `default_account` there or `account` here, one of batch, reports"},
		{"several accounts where a client chooses elsewhere",
			two + strings.Replace(goodEnvironment, "prod", "test", 1) + client + "account test/batch\n}", "", "environment prod has several accounts"},
		{"several accounts where a client chooses", two + client + "account prod/batch\n}", "", ""},
		{"several accounts where a client chooses and the site does not admit clients", two + client + "account prod/batch\n}", "admit loopback", "environment prod has several accounts"},
		{"an unknown account of a site where a client chooses", two + client + "account prod/batch\n}", "account nightly", "account nightly: there is no such account in environment prod"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, err := adapt("{\ncontrolm {\n" + c.app + "\n}\n}\n:8080 {\ncontrolm prod {\n" + c.site + "\n}\n}\n")
			if err != nil {
				t.Fatal(err)
			}
			_, err = validate(t, withSecretFiles(t, config))
			if c.want != "" {
				wantError(t, err, c.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEachMistakeOfClientsInJSONSaysWhatWasExpected(t *testing.T) {
	hash := keyHash(canaryKey)
	key := `"key_sha256": [{"hash": "` + hash + `"}]`
	const allow = `"allow": ["read_only"]`
	clients := func(members string) string { return `"clients": {"nightly": {` + members + `}}` }
	for _, c := range []struct {
		name, app string
		want      []string // none: it loads
	}{
		{"nothing wrong", clients(`"key_sha256": [{"hash": "`+strings.ToUpper(hash)+`", "name": "2026", "expires": "2027-06-30"}], "user": ["a"],
			"certificate_subject": ["CN=a"], "account": ["prod/batch"], "allow": ["read_only", "GET,POST /run/*"], "deny": ["* /config/*"],
			"allow_credential_changes": true`) + `, "public": ["GET /ctm-cli.tgz /build_time.txt"]`, nil},
		{"no client", `"clients": {}`, nil},
		{"an unknown field of a client", clients(key + `, "alow": []`), []string{`unknown field "alow"`}},
		{"an unknown field of a key", clients(`"key_sha256": [{"hash": "` + hash + `", "key": "` + canaryKey + `"}]`), []string{`unknown field "key"`}},
		{"a client of nothing", `"clients": {"nightly": null}`, []string{`client "nightly": it cannot prove itself`}},
		{"no allow", clients(key), []string{`client "nightly"`, "`allow read_only`", "`allow * /*`"}},
		{"a name with a colon", `"clients": {"a:b": {` + key + `, ` + allow + `}}`, []string{"expected a name without a colon"}},
		{"an empty name", `"clients": {"": {` + key + `, ` + allow + `}}`, []string{`client name "": expected letters, digits`}},
		{"a key in place of its hash", clients(`"key_sha256": [{"hash": "` + canaryKey + `"}], ` + allow), []string{"client nightly: key_sha256: ", "64 hexadecimal digits, got 22 characters"}},
		{"a key without hash", clients(`"key_sha256": [{}], ` + allow), []string{"64 hexadecimal digits, got 0 characters"}},
		{"an end that is no day", clients(`"key_sha256": [{"hash": "` + hash + `", "expires": "30.6.2027"}], ` + allow), []string{"expected its last day as in 2027-06-30"}},
		{"an end in place of the name", clients(`"key_sha256": [{"hash": "` + hash + `", "name": "expires"}], ` + allow), []string{"client nightly: key_sha256: a key cannot be named expires"}},
		{"a key of two clients", `"clients": {"a": {` + key + `, ` + allow + `}, "b": {` + key + `, ` + allow + `}}`, []string{`client "b": a key is also one of client "a"`}},
		{"a user of two clients", `"clients": {"a": {"user": ["u"], ` + allow + `}, "b": {"user": ["u"], ` + allow + `}}`, []string{`user "u" is also one of client "a"`}},
		{"a subject of two clients", `"clients": {"a": {"certificate_subject": ["CN=u"], ` + allow + `}, "b": {"certificate_subject": ["CN=u"], ` + allow + `}}`, []string{`certificate_subject "CN=u" is also one of client "a"`}},
		{"an unknown account", clients(key + `, ` + allow + `, "account": ["prod/reports"]`), []string{"there is no such account in environment prod; expected one of batch"}},
		{"an account without its environment", clients(key + `, ` + allow + `, "account": ["batch"]`), []string{"expected environment/account, as in prod/batch"}},
		{"two accounts of one environment", clients(key + `, ` + allow + `, "account": ["prod/batch", "prod/batch"]`), []string{"there are two for environment prod; expected one"}},
		{"an empty allow", clients(key + `, "allow": [""]`), []string{"client nightly: allow: ", "expected methods and paths"}},
		{"an unknown set", clients(key + `, "allow": ["everything"]`), []string{"client nightly: allow: ", "read_only, monitor, order, operate, deploy"}},
		{"a deny with a set", clients(key + `, ` + allow + `, "deny": ["order"]`), []string{"client nightly: deny: ", "denying order would deny reading"}},
		{"a path that is none", clients(key + `, "allow": ["GET run"]`), []string{"expected a path that begins with a slash"}},
		{"public without clients", `"public": ["GET /ctm-cli.tgz"]`, []string{"public: there are no clients that it could be an exception from"}},
		{"public with a set", clients(key+`, `+allow) + `, "public": ["read_only"]`, []string{`public: "read_only": expected methods and paths`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := `{"apps": {"controlm": {` + c.app + `, "environments": {"prod": {"endpoint": ["https://em.example.com:8443/automation-api"],
				"accounts": {"batch": {"api_token": "{file./run/secrets/ctm_api_token}"}}}}}, "http": {"servers": {"s": {"listen": ["127.0.0.1:8080"],
				"routes": [{"handle": [{"handler": "controlm", "environment": "prod"}]}]}}}}}`
			_, err := validate(t, withSecretFiles(t, config))
			if len(c.want) > 0 {
				wantError(t, err, c.want...)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// A rule may be for a newer API than the gateway knows, so this is no error.
func TestRulesThatCanNeverMatchWarnAtLoad(t *testing.T) {
	t.Setenv("CTM_USERNAME", "emuser")
	for _, c := range []struct{ name, lines, want string }{
		{"a path that the API has not", "allow GET /run/jbos/status", "/run/jbos/status: the API has no such path"},
		{"a path in other case", "allow GET /Config/servers", "/Config/servers: the API has no such path"},
		{"a method that the API has not there", "allow PATCH /config/servers", "/config/servers: the API has no PATCH there"},
		{"an allow that a deny beats", "allow POST /run/order\ndeny POST /run/*", "/run/order: deny POST /run/* beats it"},
		{"a protected operation", "allow POST /authentication/token", "/authentication/token: protected, so refused without allow_credential_changes"},
		{"the login", "allow POST /session/login", "/session/login: the gateway answers it itself"},
		{"a deny of a path that the API has not", "allow * /*\ndeny POST /run/ordre", "/run/ordre: the API has no such path"},
		{"nothing wrong", "allow * /*\ndeny * /CONFIG/*\nallow GET,POST /run/*", ""},
		{"a protected operation that is open", "allow POST /authentication/token\nallow_credential_changes", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, err := adapt("{\ncontrolm {\n" + goodEnvironment + "client nightly {\nuser nightly\n" + c.lines + "\n}\n}\n}\n:8080 {\ncontrolm prod\n}\n")
			if err != nil {
				t.Fatal(err)
			}
			logged, err := validate(t, withSecretFiles(t, config))
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				wantWarning(t, logged, "")
			} else {
				wantWarning(t, logged, "a rule has no effect", c.want, `"client":"nightly"`)
			}
		})
	}
}

// The same for what is open to everybody: there it also warns of what opens
// more than files to read.
func TestPublicLinesThatCannotBeMeantWarnAtLoad(t *testing.T) {
	t.Setenv("CTM_USERNAME", "emuser")
	for _, c := range []struct{ name, lines, message, want string }{
		{"nothing wrong", "public GET /ctm-cli.tgz /build_time.txt", "", ""},
		{"a protected operation", "public GET /authentication/tokens", "a rule has no effect", "/authentication/tokens: protected, so open to nobody without proof"},
		{"the login", "public GET /session/login", "a rule has no effect", "/session/login: the gateway answers it itself"},
		{"a path that the API has not", "public GET /ctm-cli.tar", "a rule has no effect", "/ctm-cli.tar: the API has no such path"},
		{"everything", "public * /*", "a public line opens much to callers without proof", "public * /*: /*: everything below, with every method"},
		{"another method", "public POST /run/order", "a public line opens much to callers without proof", "/run/order: POST"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, err := adapt("{\ncontrolm {\n" + goodEnvironment + "client nightly {\nuser nightly\nallow read_only\n}\n" + c.lines + "\n}\n}\n:8080 {\ncontrolm prod\n}\n")
			if err != nil {
				t.Fatal(err)
			}
			logged, err := validate(t, withSecretFiles(t, config))
			if err != nil {
				t.Fatal(err)
			}
			wantWarning(t, logged, c.message, c.want)
		})
	}
}

// A key that nobody can use any more may be one that was to be renewed.
func TestAKeyThatHasEndedWarnsOnceAtLoad(t *testing.T) {
	t.Setenv("CTM_USERNAME", "emuser")
	for _, c := range []struct{ name, line, want string }{
		{"long ago", "old-key expires 2020-06-30", `"key":"old-key","expires":"2020-06-30"`},
		{"without a name", "expires 2020-06-30", `"key":"","expires":"2020-06-30"`},
		{"not yet", "new-key expires 9999-12-31", ""},
		{"never", "new-key", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, err := adapt("{\ncontrolm {\n" + goodEnvironment + "client nightly {\nkey_sha256 " + keyHash(canaryToken) + " current\nkey_sha256 " +
				keyHash(canaryKey) + " " + c.line + "\nallow read_only\n}\n}\n}\n:8080 {\ncontrolm prod\n}\n:8081 {\ncontrolm prod\n}\n")
			if err != nil {
				t.Fatal(err)
			}
			logged, err := validate(t, withSecretFiles(t, config))
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				wantWarning(t, logged, "")
			} else {
				wantWarning(t, logged, "a key has ended", `"client":"nightly"`, c.want)
			}
		})
	}
}

// wantWarning looks for the one warning about rules and keys in a log; there is
// none where message is empty.
func wantWarning(t *testing.T, logged, message string, want ...string) {
	t.Helper()
	var warnings []string
	for line := range strings.Lines(logged) {
		if strings.Contains(line, "a rule has no effect") || strings.Contains(line, "a public line opens") || strings.Contains(line, "a key has ended") {
			warnings = append(warnings, line)
		}
	}
	if message == "" {
		if len(warnings) > 0 {
			t.Errorf("warned: %s", warnings)
		}
		return
	}
	if len(warnings) != 1 {
		t.Fatalf("warned %q; expected one warning", warnings)
	}
	for _, part := range append(want, `"msg":"`+message, `"level":"warn"`) {
		if !strings.Contains(warnings[0], part) {
			t.Errorf("warned %s; expected a warning that says %s", warnings[0], part)
		}
	}
}

// A hash is no secret, but what somebody wrote in its place may be one.
func TestAKeyInPlaceOfItsHashIsInNoError(t *testing.T) {
	for _, line := range []string{canaryKey, canaryKey + " name", canaryKey + " name expires 2027-06-30", "name " + canaryKey, canaryKey + " a b"} {
		_, err := adapt(fmt.Sprintf("{\ncontrolm {\n%sclient nightly {\nkey_sha256 %s\nallow read_only\n}\n}\n}\n", goodEnvironment, line))
		wantError(t, err, "key_sha256: ") // and sweeps it
	}
}
