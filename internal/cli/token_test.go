package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func serveHTTP(t *testing.T, handler http.Handler) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

// later is a day on which no token of these tests has ended.
func later() string { return time.Now().UTC().AddDate(1, 0, 0).Format(time.DateOnly) }

// seedDefinition is that of the vendor's page (SEED2 in controlm-api.md), but
// for its date, which has passed.
func seedDefinition() string {
	return "{ \n  \"tokenName\": \"emuser1-token\", \n  \"expirationDate\": \"" + later() + "\", \n  \"roles\": [\"Admin\",\"User\"]\n}\n"
}

func TestEveryRowOfTheAuthenticationServiceWorksAsTyped(t *testing.T) {
	for name, test := range map[string]struct {
		env    func(*testing.T, *office) []string
		logins int
	}{
		"with a session":    {func(t *testing.T, o *office) []string { return o.passwordFile(t) }, 6},
		"with an API token": {func(t *testing.T, o *office) []string { return o.apiToken(t) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h, o := newHome(t), newOffice(t)
			env := test.env(t, o)
			folder := t.TempDir()
			definition := write(t, filepath.Join(folder, "tokenDefinition.json"), seedDefinition())
			out := filepath.Join(folder, "value")

			// authentication token::create
			h.typed(t, env, "", "token", "create", "-f", definition, "--out", out).want(t, 0, "emuser1-token is created", out)
			value := strings.TrimSuffix(contentOf(t, out), "\n")
			if modeOf(t, out) != 0o600 || len(value) < 32 {
				t.Errorf("got %v, %d characters", modeOf(t, out), len(value))
			}
			if status, body := o.ask(t, value, http.MethodGet, "/config/servers", ""); status != 200 {
				t.Errorf("the new token: got %d %s", status, body)
			}
			// authentication tokens::get
			got := h.typed(t, env, "", "token", "list")
			got.want(t, 0, "NAME", "emuser1-token", "Admin,User", later(), oldName)
			if strings.Contains(got.out, value) {
				t.Error("the list shows the value")
			}
			// authentication token::get
			h.typed(t, env, "", "token", "get", "emuser1-token").want(t, 0, "expires  "+later(), "roles    Admin,User")
			// authentication token::update, from what get has given
			got = h.typed(t, env, "", "token", "get", "emuser1-token", "--definition")
			got.want(t, 0)
			changed := strings.Replace(got.out, "    \"Admin\",\n", "", 1)
			h.typed(t, env, changed, "token", "update", "-f", "-").want(t, 0, "emuser1-token is updated", "its value is as before")
			if _, body := o.ask(t, value, http.MethodGet, "/authentication/token/emuser1-token", ""); strings.Contains(body, "Admin") {
				t.Errorf("it was not updated: %s", body)
			}
			// authentication token::delete
			h.typed(t, env, "", "token", "delete", "emuser1-token").want(t, 0, "emuser1-token is deleted")
			if status, _ := o.ask(t, value, http.MethodGet, "/config/servers", ""); status != 401 {
				t.Errorf("the deleted token: got %d", status)
			}
			o.settled(t, test.logins)
		})
	}
}

func TestNamesOfOldStillWork(t *testing.T) {
	h, o := newHome(t), newOffice(t)
	env := o.passwordFile(t)
	h.typed(t, env, "", "token", "get", oldName).want(t, 0, "name     "+oldName)
	h.typed(t, env, `{"tokenName":"`+oldName+`","roles":["Admin"]}`, "token", "update", "-f", "-").want(t, 0, "is updated")
	h.typed(t, env, `{"tokenName":"`+oldName+`x","roles":["Admin"]}`, "token", "create", "-f", "-", "--out", "-").want(t, 2, "letters, digits, _ and -")
	h.typed(t, env, "", "token", "delete", oldName).want(t, 0, "is deleted")
	h.typed(t, env, "", "token", "delete", oldName).want(t, 1, "no API token of this name (status 404)", `the API says: "Token not found"`)
	o.settled(t, 4)
}

func TestTheJSONOfTokensIsStable(t *testing.T) {
	h, o := newHome(t), newOffice(t)
	env := o.apiToken(t)
	got := h.typed(t, env, "", "token", "list", "--json")
	got.want(t, 0)
	var list struct{ Tokens []map[string]any }
	if err := json.Unmarshal([]byte(got.out), &list); err != nil || len(list.Tokens) != 2 || list.Tokens[0]["tokenName"] != "ci" {
		t.Errorf("got %s, %v", got.out, err)
	}
	got = h.typed(t, env, "", "token", "get", "ci", "--json")
	got.want(t, 0)
	var one map[string]any
	if err := json.Unmarshal([]byte(got.out), &one); err != nil || one["tokenType"] != "user" || one["user"] != "batch" {
		t.Errorf("got %s, %v", got.out, err)
	}
	h.typed(t, env, "", "token", "list", "--json", "--for-agent").want(t, 0, `"tokens": []`)
	h.typed(t, env, "", "token", "list", "--type", "agent").want(t, 0, "the user has no API token")
	h.typed(t, env, "", "token", "get", "ci", "--type", "agent").want(t, 1, "no API token of this name")
	h.typed(t, env, `{"tokenName":"a1","tokenType":"agent","serverHost":"h1"}`, "token", "create", "-f", "-", "--out", "-").want(t, 0)
	h.typed(t, env, "", "token", "get", "a1", "--for-agent").want(t, 0, "type         agent", "server host  h1")
	h.typed(t, env, "", "token", "delete", "a1", "--for-agent").want(t, 0, "is deleted")
}

func TestNoAnswerMakesTheCommandsShowAValueOrSteerATerminal(t *testing.T) {
	value, hostile := canary+"-value", "a\\u001b[31mb\u202e\u009b\U000e0001"
	one := `{"tokenName":"` + hostile + `","tokenValue":"` + value + `","user":"` + hostile + `","roles":["` + hostile + `"],"expirationDate":"2001-01-01","more":"` + value + `"}`
	s, env := newScripted(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/tokens") {
			fmt.Fprintf(w, `{"tokens":[%s]}`, one)
			return
		}
		fmt.Fprint(w, one)
	})
	h := newHome(t)
	for _, args := range [][]string{{"list"}, {"get", "x"}, {"list", "--json"}, {"get", "x", "--json"}, {"get", "x", "--definition"}} {
		got := h.typed(t, env, "", append([]string{"token"}, args...)...) // looks for the canary
		got.want(t, 0)
		if strings.ContainsAny(got.out, "\x1b\u202e\u009b\U000e0001") || args[len(args)-1][0] != '-' && !strings.Contains(got.out, "2001-01-01 (ended)") {
			t.Errorf("%q prints %q", args, got.out)
		}
	}
	// An update that brings a value nobody has asked for.
	h.typed(t, env, `{"tokenName":"x","roles":["r"]}`, "token", "update", "-f", "-").want(t, 0, "not kept for want of --out")
	out := filepath.Join(t.TempDir(), "value")
	h.typed(t, env, `{"tokenName":"x","roles":["r"]}`, "token", "update", "-f", "-", "--out", out).want(t, 0, "its value is in "+out)
	if contentOf(t, out) != value+"\n" {
		t.Errorf("got %q", contentOf(t, out))
	}
	s.settled(t)
}

func TestEveryErrorOfTheVendorIsExplainedWithoutASecret(t *testing.T) {
	h := newHome(t)
	definition := `{"tokenName":"x","roles":["r"],"tokenValue":"` + canary + `-sent"}`
	for status, words := range map[int]string{
		400: "mistake", 401: "credential", 403: "right", 404: "", 405: "operation", 406: "change", 409: "conflicts", 500: "failed", 503: "switched off",
	} {
		for what, args := range map[string][]string{
			"list": {"list"}, "get": {"get", "x"}, "create": {"create", "-f", "-", "--out", filepath.Join(t.TempDir(), "value")},
			"update": {"update", "-f", "-"}, "delete": {"delete", "x"},
		} {
			if status != 403 && status != 500 && what != "update" { // the one that declares them all
				continue
			}
			message := "no such luck"
			if what == "create" || what == "get" {
				message = "cannot use " + canary + "-sent or " + canary + "-session"
			}
			s, env := newScripted(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				fmt.Fprintf(w, `{"errors":[{"message":%q}]}`, message)
			})
			got := h.typed(t, env, definition, append([]string{"token"}, args...)...)
			got.want(t, 1, fmt.Sprintf("(status %d)", status), words)
			if shown := strings.Count(got.errout, "no such luck"); shown > 1 || shown == 1 != (what != "create" && what != "get") {
				t.Errorf("%d, %s: its words are shown %d times", status, what, shown)
			}
			if unknown := strings.Contains(got.errout, "is not known"); unknown != (status >= 500 && what != "list" && what != "get") {
				t.Errorf("%d, %s: it says %s", status, what, got.errout)
			}
			if what == "create" && len(entries(t, filepath.Dir(args[len(args)-1]))) > 0 {
				t.Errorf("%d: the file is still there", status)
			}
			s.settled(t)
		}
	}
}

func TestMistakesAreFoundBeforeAnythingIsSent(t *testing.T) {
	h, o := newHome(t), newOffice(t)
	folder := t.TempDir()
	value := filepath.Join(folder, "value")
	taken := write(t, filepath.Join(folder, "taken"), "before")
	good, yesterday := `{"tokenName":"x","roles":["User"]}`, time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly)
	create := []string{"create", "-f", "-", "--out", value}
	for name, test := range map[string]struct {
		stdin string
		args  []string
		code  int
		want  string
	}{
		"no --out":                      {good, []string{"create", "-f", "-"}, 2, "expected --out FILE"},
		"no definition":                 {"", []string{"create", "--out", value}, 2, "-f FILE"},
		"a definition that is missing":  {"", []string{"create", "-f", "/nowhere/x", "--out", value}, 2, "/nowhere/x"},
		"no JSON":                       {"{\n\n]", create, 2, "line 3"},
		"a date that has passed":        {`{"tokenName":"x","roles":["User"],"expirationDate":"` + yesterday + `"}`, create, 2, "has passed"},
		"an update without roles":       {`{"tokenName":"x"}`, []string{"update", "-f", "-"}, 2, "no roles"},
		"a file that is taken":          {good, []string{"create", "-f", "-", "--out", taken}, 1, "--force"},
		"a folder that is not there":    {good, []string{"create", "-f", "-", "--out", "/nowhere/x"}, 1, "/nowhere/x"},
		"a folder as file":              {good, []string{"create", "-f", "-", "--out", folder, "--force"}, 1, "no ordinary file"},
		"force for standard output":     {good, []string{"create", "-f", "-", "--out", "-", "--force"}, 2, "--force"},
		"an annotation as a credential": {good, append(create, "--annotate", "X-Api-Key: x"), 2, "not for annotations"},
		"get without a name":            {"", []string{"get"}, 2, "the name of one token"},
		"get of a name that is a path":  {"", []string{"get", ".."}, 2, "the name of one token"},
		"delete of two":                 {"", []string{"delete", "a", "b"}, 2, "the name of one token"},
		"two forms":                     {"", []string{"get", "a", "--json", "--definition"}, 2, "one of them"},
		"an account that is not there":  {"", []string{"list", "--account", "prod/x"}, 2, "no account"},
		"no command":                    {"", nil, 2, "list, get, create, update, delete"},
		"an unknown command":            {"", []string{"show"}, 2, "list, get, create, update, delete"},
	} {
		h.typed(t, o.passwordFile(t), test.stdin, append([]string{"token"}, test.args...)...).want(t, test.code, test.want)
		if left := entries(t, folder); len(left) != 1 || contentOf(t, taken) != "before" || t.Failed() {
			t.Fatalf("%s: it left %q", name, left)
		}
	}
	if got := o.Stats(); got.Logins+got.RefusedLogins+got.FailedLogins+got.Calls != 0 {
		t.Errorf("something was sent: %+v", got)
	}
}

func TestADefinitionIsCheckedAsTheAPIWould(t *testing.T) {
	// Still the day before in New York, and the day after in Auckland.
	now := time.Date(2026, 11, 22, 0, 30, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		text  string
		fresh bool
		want  string
	}{
		"JSON that is no object":   {`["x"]`, true, "no JSON object"},
		"two objects":              {`{}{}`, true, "no JSON object"},
		"null":                     {"null", true, "no JSON object"},
		"no name":                  {`{"tokenname":"x","roles":["User"]}`, true, "no tokenName"},
		"a name that is a number":  {`{"tokenName":7,"roles":["User"]}`, true, "tokenName in the definition is no text"},
		"a name against the rule":  {`{"tokenName":"a b","roles":["User"]}`, true, "letters, digits, _ and -"},
		"no roles":                 {`{"tokenName":"x"}`, true, "no roles"},
		"roles of nothing":         {`{"tokenName":"x","roles":[]}`, true, "no roles"},
		"no roles for a type User": {`{"tokenName":"x","tokenType":"User"}`, true, "no roles"},
		"roles that are no list":   {`{"tokenName":"x","roles":"User"}`, true, "no list of names"},
		"a role without a name":    {`{"tokenName":"x","roles":[""]}`, true, "no list of names"},
		"a date of another form":   {`{"tokenName":"x","roles":["User"],"expirationDate":"2.12.2030"}`, true, "expected a day as in"},
		"a day that there is not":  {`{"tokenName":"x","roles":["User"],"expirationDate":"2030-02-30"}`, true, "expected a day as in"},
		"an empty date":            {`{"tokenName":"x","roles":["User"],"expirationDate":""}`, true, "or none"},
		"a date with a time":       {`{"tokenName":"x","roles":["User"],"expirationDate":"2030-01-01T00:00:00Z"}`, true, "expected a day as in"},
		"an update without a name": {`{"roles":["User"]}`, false, "no tokenName"},
		"the day before":           {`{"tokenName":"x","roles":["User"],"expirationDate":"2026-11-21"}`, true, "today is 2026-11-22 in UTC"},
	} {
		for _, zone := range []int{-5, 0, 13} {
			_, err := parseTokenDefinition([]byte(test.text), test.fresh, now.In(time.FixedZone("", zone*3600)))
			if _, usage := errors.AsType[usageError](err); !usage || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	}
	for _, text := range []string{
		`{"tokenName":"A-z_0","roles":["User"],"expirationDate":"2026-11-22"}`,
		"\xef\xbb\xbf" + `{"tokenName":"x","roles":["User"]}`,
		`{"tokenName":"x","tokenType":"agent"}`,
		`{"tokenName":"x","tokenType":"USER","roles":["a","b"],"expirationDate":null}`,
	} {
		d, err := parseTokenDefinition([]byte(text), true, now)
		if err != nil || !strings.HasSuffix(text, string(d.json)) {
			t.Errorf("%s: got %s, %v", text, d.json, err)
		}
	}
}

func TestAnAnnotationIsAHeaderAndNoOther(t *testing.T) {
	for _, test := range []struct {
		want  string
		texts []string
	}{
		{"--annotate number 1", []string{"Annotation-Subject:"}},
		{"--annotate number 2", []string{"A: x", "why"}},
		{"--annotate number 1", []string{": why"}},
		{"--annotate number 1", []string{"A B: why"}},
		{"not for annotations", []string{"content-length: 7"}},
		{"not for annotations", []string{"authorization: x"}},
		{"not for annotations", []string{"Cookie: x"}},
		{"twice", []string{"A: x", "a: y"}},
	} {
		if got, err := parseAnnotations(test.texts); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %v, %v", test.texts, got, err)
		}
	}
}

func TestTokenCommandsChooseAmongAccountsOfAConfig(t *testing.T) {
	h, o := newHome(t), newOffice(t)
	config := write(t, filepath.Join(t.TempDir(), "Caddyfile"), `{
	controlm {
		environment prod {
			endpoint https://127.0.0.1:1/automation-api `+o.url+`
			tls_ca_file `+o.ca+`
			account batch {
				username batch
				password {env.BATCH}
			}
			account ci {
				api_token {env.CI}
			}
			account wrong {
				username batch
				password {env.WRONG}
			}
			default_account batch
		}
	}
}
`)
	env := []string{"BATCH=" + canary, "CI=" + canary + "-token", "WRONG=" + canary + "-wrong"}
	list := []string{"token", "list", "--config", config}
	h.typed(t, env, "", list...).want(t, 2, "prod/batch, prod/ci, prod/wrong")
	// The first endpoint takes no connection, so the second is asked.
	h.typed(t, env, "", append(list, "--account", "prod/batch")...).want(t, 0, oldName)
	h.typed(t, env, "", append(list, "--account", "prod/ci")...).want(t, 0, oldName)
	h.typed(t, env, "", append(list, "--account", "prod/wrong")...).want(t, 1,
		"refused the username or password", "is not tried again", "environment variable WRONG")
	if got := o.Stats(); got.Logins != 1 || got.RefusedLogins != 1 || got.LiveSessions != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestARefusedPasswordIsTriedAtNoOtherEndpoint(t *testing.T) {
	h, first, second := newHome(t), newOffice(t), newOffice(t)
	both := write(t, filepath.Join(t.TempDir(), "ca.pem"), contentOf(t, first.ca)+contentOf(t, second.ca))
	env := []string{"CTM_ENDPOINT=" + first.url + "," + second.url, "CTM_CA_FILE=" + both, "CTM_USERNAME=batch", "CTM_PASSWORD=" + canary + "-wrong"}
	h.typed(t, env, "", "token", "list").want(t, 1, "refused")
	if first.Stats().RefusedLogins != 1 || second.Stats().RefusedLogins != 0 {
		t.Errorf("got %d and %d attempts", first.Stats().RefusedLogins, second.Stats().RefusedLogins)
	}
}

func TestAnnotationsGoWithChangesAlone(t *testing.T) {
	s, env := newScripted(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"tokens":[],"tokenName":"x"}`) })
	h := newHome(t)
	notes := []string{"--annotate", "Annotation-Subject: CI of billing", "--annotate", "annotation-description: 50% für: x"}
	good := `{"tokenName":"x","roles":["User"]}`
	h.typed(t, env, good, append([]string{"token", "update", "-f", "-"}, notes...)...).want(t, 0)
	h.typed(t, env, "", append([]string{"token", "delete", "x"}, notes...)...).want(t, 0)
	for _, header := range s.calls() {
		if header.Get("Annotation-Subject") != "CI of billing" || header.Get("Annotation-Description") != "50%25 f%C3%BCr: x" {
			t.Errorf("got %q", header)
		}
	}
	h.typed(t, env, "", append([]string{"token", "list"}, notes...)...).want(t, 2, "unknown flag")
	if len(s.calls()) != 2 {
		t.Errorf("got %d calls", len(s.calls()))
	}
}

func TestAMemberThatIsNotKnownHereIsPassedOn(t *testing.T) {
	definition := "{\n \"tokenName\" : \"x\",\n\t\"roles\":[\"User\"], \"future\": {\"a\": [1e400, 12345678901234567890]}, \"expirationDate\": null }\n"
	sent := make(chan string, 1)
	_, env := newScripted(t, func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, r.ContentLength)
		_, _ = r.Body.Read(body)
		sent <- string(body)
		fmt.Fprint(w, `{"tokenName":"x"}`)
	})
	newHome(t).typed(t, env, definition, "token", "update", "-f", "-").want(t, 0)
	if got := <-sent; got != definition {
		t.Errorf("got %q", got)
	}
	_, env = newScripted(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, definition) })
	got := newHome(t).typed(t, env, "", "token", "get", "x", "--definition")
	var given, shown any
	if json.Unmarshal([]byte(strings.ReplaceAll(definition, "1e400", "1")), &given) != nil ||
		json.Unmarshal([]byte(strings.ReplaceAll(got.out, "1e400", "1")), &shown) != nil || !reflect.DeepEqual(given, shown) {
		t.Errorf("got %s", got.out)
	}
}

func TestTokenHelpNamesEveryCommand(t *testing.T) {
	h := newHome(t)
	h.typed(t, nil, "", "token", "--help").want(t, 0, "list", "get", "create", "update", "delete", "Examples:")
	for _, command := range []string{"list", "get", "create", "update", "delete"} {
		h.typed(t, nil, "", "token", command, "--help").want(t, 0, "Examples:", "--account")
	}
	if _, err := os.Stat(filepath.Join(h.data, "caddy")); err == nil {
		t.Error("help has left something behind")
	}
}
