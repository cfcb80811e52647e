package automationapi

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestTokensAreReadWithoutTheirValues(t *testing.T) {
	const one = `{"tokenName":"ci","tokenType":"user","tokenValue":"c4n4ry-v4lue","user":"gateway","roles":["A","B"],
		"expirationDate":"2030-01-02","createdDate":"c","lastUpdatedDate":"u","server":"s","serverHost":"h","serverId":"i","tag":"t","other":{}}`
	want := TokenInfo{"ci", "user", "gateway", []string{"A", "B"}, "2030-01-02", "c", "u", "s", "h", "i", "t", nil}
	_, c := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/tokens") {
			say(200, `{"tokens":[`+one+`,{"tokenName":"bare","roles":null,"tag":null}]}`)(w, r)
			return
		}
		say(200, one)(w, r)
	})
	list, err := c.Tokens(within(t), session, TokenKind{})
	for i := range list {
		list[i].members = nil
	}
	if err != nil || !reflect.DeepEqual(list, []TokenInfo{want, {Name: "bare"}}) {
		t.Errorf("got %+v, %v", list, err)
	}
	got, err := c.Token(within(t), session, "ci", TokenKind{})
	definition := string(got.Definition())
	got.members = nil
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	const wantDefinition = `{"tokenName":"ci","tokenType":"user","roles":["A","B"],"expirationDate":"2030-01-02","server":"s","serverHost":"h","serverId":"i","tag":"t","other":{}}`
	if definition != wantDefinition {
		t.Errorf("got %s", definition)
	}
}

func TestATokenIsReadWhateverTypesItsMembersHave(t *testing.T) {
	for body, want := range map[string]TokenInfo{
		`{"tokenName":"ci","tokenType":null,"roles":null,"expirationDate":null,"tag":null}`: {Name: "ci"},
		`{"tokenName":7,"user":true,"tag":12.50,"serverId":1e400,"createdDate":1767225600000}`: {
			Name: "7", User: "true", Tag: "12.50", ServerID: "1e400", Created: "1767225600000",
		},
		`{"tokenName":"ci","roles":"Admin","server":{"id": 1}}`:                {Name: "ci", Roles: []string{"Admin"}, Server: `{"id":1}`},
		`{"TOKENNAME":"ci","roles":["A",7,null,{"name": "B"}]}`:                {Name: "ci", Roles: []string{"A", "7", `{"name":"B"}`}},
		`{"tokenName":"ci","tokenValue":"long/v4lue","user":"not long/v4lue"}`: {Name: "ci"},
		`{"tokenName":"ci","tokenValue":"i","user":"x","expirationDate":""}`:   {Name: "ci", User: "x"},
	} {
		_, c := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/tokens") {
				say(200, `{"tokens":[`+body+`]}`)(w, r)
				return
			}
			say(200, body)(w, r)
		})
		list, err := c.Tokens(within(t), session, TokenKind{})
		if err != nil || len(list) != 1 {
			t.Fatalf("%s: got %+v, %v", body, list, err)
		}
		one, err := c.Token(within(t), session, "ci", TokenKind{})
		if err != nil || strings.Contains(string(one.Definition()), "v4lue") {
			t.Errorf("%s: got %s, %v", body, one.Definition(), err)
		}
		for _, got := range []TokenInfo{list[0], one} {
			got.members = nil
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %+v", body, got)
			}
		}
	}
	// No list at all is an empty one only where the API says so.
	for body, known := range map[string]bool{`{"tokens":null}`: true, `{"tokens":[]}`: true, `{}`: false, `{"tokens":{}}`: false, `{"tokens":[7]}`: false} {
		_, c := serveTLS(t, say(200, body))
		if list, err := c.Tokens(within(t), session, TokenKind{}); (err == nil) != known || len(list) > 0 {
			t.Errorf("%s: got %+v, %v", body, list, err)
		}
	}
}

func TestADefinitionKeepsWhatIsNotKnownHereAsItStands(t *testing.T) {
	_, c := serveTLS(t, say(200, `{ "future" : {"a": [1e400, 12345678901234567890]}, "tokenName":"ci","user":"u","tag":7,"roles":null, "createdDate":1, "note":"\u001b" }`))
	got, err := c.Token(within(t), session, "ci", TokenKind{})
	if want := `{"future":{"a": [1e400, 12345678901234567890]},"tokenName":"ci","tag":7,"roles":null,"note":"\u001b"}`; err != nil || string(got.Definition()) != want {
		t.Errorf("got %s, %v", got.Definition(), err)
	}
}
