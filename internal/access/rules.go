package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ctmgate/ctmgate/internal/apipath"
)

// methods are what a rule may name, and what "*" allows. A method that is none of them is allowed by no rule.
var methods = []string{"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}

// methodSet has one bit for each of methods, and one for all others.
type methodSet uint8

const (
	otherMethods methodSet = 1 << 7
	anyMethod    methodSet = 1<<8 - 1
)

func methodSetOf(method string) methodSet {
	if i := slices.Index(methods, method); i >= 0 {
		return 1 << i
	}
	return otherMethods
}

// foldedMethodSetOf does not mind case.
func foldedMethodSetOf(method string) methodSet {
	is := methodSetOf(method)
	for i := 0; is == otherMethods && i < len(methods); i++ {
		if strings.EqualFold(methods[i], method) {
			is = 1 << i
		}
	}
	return is
}

// names lists the methods of the set.
func (s methodSet) names() (names []string) {
	for i, method := range methods {
		if s&(1<<i) != 0 {
			names = append(names, method)
		}
	}
	return names
}

// Rules is what a client may call. The zero Rules refuses everything. It never changes.
type Rules struct{ denies, allows []*Rule }

// NewRules returns rules of these lines. Their order does not matter, except for which line the audit log names.
func NewRules(lines ...Rule) Rules {
	var r Rules
	for i := range lines {
		if lines[i].deny {
			r.denies = append(r.denies, &lines[i])
		} else {
			r.allows = append(r.allows, &lines[i])
		}
	}
	return r
}

// HasAllow tells whether there is anything that the rules might allow.
func (r Rules) HasAllow() bool { return len(r.allows) > 0 }

// Decide tells whether a request is allowed, and returns the line that decided as written, or "" when none matched:
// then it is refused.
//
// A deny beats every allow. It does not mind case, and it matches in every reading that a server might have of the
// path: with an encoded slash taken for a slash, also behind several layers of encoding, and with a suffix or a dot at
// the end of a segment cut off. An allow minds case and matches the decoded segments as sent. A named set allows an
// operation if nothing else would be done in any of these readings.
//
// Decide does not know what is protected but for the named sets: see apipath.Path.Protected.
func (r Rules) Decide(p apipath.Path) (allowed bool, line string) {
	if len(r.denies) > 0 {
		if rule := r.denying(p); rule != nil {
			return false, rule.line
		}
	}
	method := methodSetOf(p.Judged())
	effects := apipath.Effect(0) // of the request, once a named set asks
	for _, rule := range r.allows {
		if rule.may != 0 {
			if effects == 0 {
				effects = p.Effects()
			}
			if effects&^rule.may == 0 {
				return true, rule.line
			}
		} else if rule.allows(method, p.Segments()) {
			return true, rule.line
		}
	}
	return false, ""
}

func (r Rules) denying(p apipath.Path) *Rule {
	method := foldedMethodSetOf(p.Judged())
	if rule := r.denyingSegments(method, p.Segments()); rule != nil || p.Plain() {
		return rule
	}
	for segments := range p.Lenient() {
		if rule := r.denyingSegments(method, segments); rule != nil {
			return rule
		}
	}
	return nil
}

func (r Rules) denyingSegments(method methodSet, segments []string) *Rule {
	for _, rule := range r.denies {
		if rule.denies(method, segments) {
			return rule
		}
	}
	return nil
}

// Rule is one allow or deny line.
type Rule struct {
	deny    bool
	line    string
	may     apipath.Effect // of a named set, which has no methods and paths
	methods methodSet
	paths   []pattern
}

// pattern is a path of a rule.
type pattern struct {
	text     string
	segments []string // decoded; "" stands for "*", any one segment
	below    bool     // any depth below these segments, but not at them
}

// ParseRule reads the words of a line after "allow" or "deny":
//
//	allow read_only | monitor | order | operate | deploy
//	allow METHODS PATH...
//	deny  METHODS PATH...
//
// METHODS is "*" or methods in upper case with commas between them, as GET,POST. HEAD is judged as GET and not named.
// A PATH begins with a slash and is relative to the base path of the API. It is written as in a URL, so a slash inside
// a name is %2F. A segment that is "*" matches any one; a "/*" at the end matches any depth below, and not the parent
// itself. Nothing else is a wildcard, and a path matches as a whole.
//
// A deny takes no named set: all of them have the operations that only read, so that denying any would deny reading.
func ParseRule(deny bool, words []string) (Rule, error) {
	verb := "allow"
	if deny {
		verb = "deny"
	}
	rule, err := parseRule(deny, words)
	if err != nil {
		return Rule{}, fmt.Errorf("reading the %s line: %w", verb, err)
	}
	rule.line = verb + " " + strings.Join(words, " ")
	return rule, nil
}

func parseRule(deny bool, words []string) (Rule, error) {
	if len(words) == 0 {
		return Rule{}, fmt.Errorf("expected methods and paths as in GET,POST /run/*, or for allow one of %s", setNames())
	}
	if may := findSet(words[0]); may != 0 {
		switch {
		case deny:
			return Rule{}, fmt.Errorf("expected methods and paths as in POST /run/*: denying %s would deny reading", words[0])
		case len(words) > 1:
			return Rule{}, fmt.Errorf("%s stands alone: write a line of its own for methods and paths", words[0])
		}
		return Rule{may: may}, nil
	}
	rule := Rule{deny: deny}
	var err error
	if rule.methods, err = parseMethods(words[0]); err != nil {
		return Rule{}, err
	}
	if len(words) == 1 {
		return Rule{}, fmt.Errorf("expected a path after %s, as in %s /run/*", words[0], words[0])
	}
	for _, word := range words[1:] {
		path, err := parsePattern(word)
		if err != nil {
			return Rule{}, err
		}
		rule.paths = append(rule.paths, path)
	}
	return rule, nil
}

func parseMethods(word string) (set methodSet, err error) {
	if word == "*" {
		return anyMethod, nil
	}
	for name := range strings.SplitSeq(word, ",") {
		is := methodSetOf(name)
		switch {
		case name == "HEAD":
			return 0, errors.New("HEAD is judged as GET: write GET")
		case name == "TRACE" || name == "CONNECT":
			return 0, fmt.Errorf("%s is never forwarded: leave it out", name)
		case is == otherMethods:
			return 0, fmt.Errorf("expected *, some of %s with commas between them, or for allow one of %s; got %q",
				strings.Join(methods, ","), setNames(), word)
		case set&is != 0:
			return 0, fmt.Errorf("%s stands there twice", name)
		}
		set |= is
	}
	return set, nil
}

// parsePattern reads a path by the reader of requests, so that what no request can have is no rule either.
func parsePattern(text string) (pattern, error) {
	path, err := apipath.Read("GET", "", text, "")
	var malformed *apipath.MalformedError
	switch {
	case text == "" || text[0] != '/':
		return pattern{}, fmt.Errorf("expected a path that begins with a slash, as /run/*; got %q", text)
	case errors.As(err, &malformed):
		return pattern{}, fmt.Errorf("the path %q has something that no request may have: %s", text, malformed.Reason)
	case err != nil:
		return pattern{}, fmt.Errorf("the path %q: %w", text, err)
	case text != "/" && strings.HasSuffix(text, "/"):
		return pattern{}, fmt.Errorf("the path %q ends in a slash: write %s* for what lies below, %s for itself", text, text,
			strings.TrimSuffix(text, "/"))
	}
	p := pattern{text: text, segments: slices.Clone(path.Segments())}
	if len(p.segments) == 0 {
		return p, nil
	}
	for i, raw := range strings.Split(text[1:], "/") {
		switch {
		case raw == "*":
			p.segments[i] = ""
		case strings.Contains(raw, "*"):
			return pattern{}, fmt.Errorf("the path %q has a * inside a segment: it stands alone for any one segment, "+
				"and %%2A is the character", text)
		}
	}
	if last := len(p.segments) - 1; p.segments[last] == "" {
		p.segments, p.below = p.segments[:last], true
	}
	return p, nil
}

// allows minds case and takes the segments as sent. "*" is the methods that are known, since nobody can have meant
// one that nobody knows.
func (r *Rule) allows(method methodSet, segments []string) bool {
	if r.methods&method&^otherMethods == 0 {
		return false
	}
	for i := range r.paths {
		if r.paths[i].allows(segments) {
			return true
		}
	}
	return false
}

func (p *pattern) allows(segments []string) bool {
	if !p.hasDepth(len(segments)) {
		return false
	}
	for i, word := range p.segments {
		if word != "" && word != segments[i] {
			return false
		}
	}
	return true
}

func (r *Rule) denies(method methodSet, segments []string) bool {
	if r.methods&method == 0 {
		return false
	}
	for i := range r.paths {
		if r.paths[i].denies(segments) {
			return true
		}
	}
	return false
}

func (p *pattern) denies(segments []string) bool {
	if !p.hasDepth(len(segments)) {
		return false
	}
	for i, word := range p.segments {
		if word != "" && !resembles(segments[i], word) {
			return false
		}
	}
	return true
}

func (p *pattern) hasDepth(depth int) bool {
	if p.below {
		return depth > len(p.segments)
	}
	return depth == len(p.segments)
}

// resembles tells whether a lenient server might read segment as word: without case and white space, and without what
// follows a dot, a semicolon, or what begins a query or a fragment.
func resembles(segment, word string) bool {
	if segment == word {
		return true
	}
	rest := strings.TrimLeftFunc(segment, unicode.IsSpace)
	for word != "" {
		a, size := utf8.DecodeRuneInString(word)
		b, other := utf8.DecodeRuneInString(rest)
		if other == 0 || apipath.Fold(a) != apipath.Fold(b) {
			return false
		}
		word, rest = word[size:], rest[other:]
	}
	rest = strings.TrimLeftFunc(rest, unicode.IsSpace)
	return rest == "" || strings.IndexByte(".;?#", rest[0]) >= 0
}
