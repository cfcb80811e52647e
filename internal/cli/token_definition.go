package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ctmgate/ctmgate/caddymodule"
)

// maxDefinition bounds what is read as the definition of a token.
const maxDefinition = 1 << 20

// newTokenName is what the API takes as the name of a new token, since release
// 9.0.22.110; older tokens keep theirs (controlm-api.md, section 1).
var newTokenName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// tokenDefinition is the definition of an API token as the API takes it. What
// is not looked at here is passed on as it stands.
type tokenDefinition struct {
	name string
	json []byte
}

// readTokenDefinition reads it from a file, or from standard input with "-".
func readTokenDefinition(path string, stdin io.Reader) ([]byte, error) {
	from := stdin
	switch path {
	case "":
		return nil, usagef("expected the definition of the token with -f FILE, or -f - for standard input")
	case "-":
		path = "standard input"
	default:
		f, err := os.Open(path)
		if err != nil {
			return nil, usagef("reading the definition: %w", err)
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, maxDefinition+1))
	if err != nil {
		return nil, usagef("reading the definition: %w", err)
	}
	if len(text) > maxDefinition {
		return nil, usagef("the definition in %s is larger than 1 MiB", path)
	}
	return text, nil
}

// parseTokenDefinition checks what the API would refuse. now is for the date.
func parseTokenDefinition(text []byte, fresh bool, now time.Time) (tokenDefinition, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // as editors on Windows leave it
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil || members == nil {
		return tokenDefinition{}, usagef(`the definition is no JSON object%s; expected one as in {"tokenName": "ci", "roles": ["User"]}`, whereInJSON(text, err))
	}
	d := tokenDefinition{json: text}
	var kind string
	for _, check := range []error{
		stringMember(members, "tokenName", &d.name),
		stringMember(members, "tokenType", &kind),
		checkTokenName(d.name, fresh),
		checkExpiration(members, now),
		checkRoles(members, kind),
	} {
		if check != nil {
			return tokenDefinition{}, check
		}
	}
	return d, nil
}

// whereInJSON says in which line the first mistake is.
func whereInJSON(text []byte, err error) string {
	at, ok := errors.AsType[*json.SyntaxError](err)
	if !ok {
		return ""
	}
	line := 1 + bytes.Count(text[:min(int(at.Offset), len(text))], []byte("\n"))
	return fmt.Sprintf(" (line %d: %v)", line, at)
}

func stringMember(members map[string]json.RawMessage, name string, into *string) error {
	if raw, ok := members[name]; ok && json.Unmarshal(raw, into) != nil {
		return usagef("%s in the definition is no text", name)
	}
	return nil
}

func checkTokenName(name string, fresh bool) error {
	switch {
	case name == "":
		return usagef("the definition has no tokenName")
	case fresh && !newTokenName.MatchString(name):
		return usagef("tokenName %q: a new token's name has letters, digits, _ and - only (since release 9.0.22.110)", name)
	}
	return nil
}

// checkExpiration: the last day of a token is one of UTC.
func checkExpiration(members map[string]json.RawMessage, now time.Time) error {
	raw, ok := members["expirationDate"]
	if !ok || string(raw) == "null" {
		return nil
	}
	var text string
	_ = json.Unmarshal(raw, &text) // what is no text is no date
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return usagef("expirationDate in the definition is %s; expected a day as in %q, or none for a token that does not end",
			raw, now.UTC().AddDate(1, 0, 0).Format(time.DateOnly))
	}
	if today := now.UTC().Truncate(24 * time.Hour); day.Before(today) {
		return usagef("expirationDate in the definition is %s, which has passed: today is %s in UTC", text, today.Format(time.DateOnly))
	}
	return nil
}

// checkRoles: at least one, but for tokens that are not a user's.
func checkRoles(members map[string]json.RawMessage, kind string) error {
	var roles []string
	raw, ok := members["roles"]
	if ok && (json.Unmarshal(raw, &roles) != nil || slices.Contains(roles, "")) {
		return usagef(`roles in the definition is no list of names; expected one as in ["Admin", "User"]`)
	}
	if len(roles) == 0 && (kind == "" || strings.EqualFold(kind, "user")) {
		return usagef(`the definition has no roles; expected at least one, as in "roles": ["User"], that the user holds`)
	}
	return nil
}

// parseAnnotations reads headers as "Name: text". Which ones Control-M reads
// is not publicly documented (controlm-api.md, section 4).
func parseAnnotations(texts []string) (http.Header, error) {
	header := make(http.Header)
	for i, one := range texts {
		name, text, found := strings.Cut(one, ":")
		name, text = strings.TrimSpace(name), strings.TrimSpace(text)
		switch {
		case !found || !caddymodule.IsHeaderName(name) || text == "":
			return nil, usagef(`--annotate number %d: expected a header, as in --annotate "Annotation-Subject: rotation of June"`, i+1)
		case !caddymodule.MayAnnotate(name) || strings.EqualFold(name, "User-Agent"):
			return nil, usagef("--annotate %s: this header is not for annotations", name)
		case header.Get(name) != "":
			return nil, usagef("--annotate %s: it is stated twice", name)
		}
		header.Set(name, caddymodule.AnnotationText(text))
	}
	return header, nil
}
