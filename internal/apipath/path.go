// Package apipath is the one reader of request paths. What it reads of a request is what every later step uses: the
// gateway's own answers, the rules, the log and what is sent. A path that Control-M could read in another way than the
// gateway is refused here.
package apipath

import (
	"errors"
	"net/url"
	"strings"
)

var (
	// ErrMethod says that no request with this method is ever forwarded: TRACE would show the credential to the client,
	// CONNECT would open a tunnel.
	ErrMethod = errors.New("reading the request: the method is not allowed")

	// ErrOutside says that the path does not lie under the base path of the endpoint.
	ErrOutside = errors.New("reading the path: it is not under the base path of the API")
)

// MalformedError says that a path could be read in more than one way, or that no URL may look so.
type MalformedError struct {
	// Reason says what was found, such as "empty segment". It holds nothing of the path itself.
	Reason string
}

func (e *MalformedError) Error() string { return "reading the path: " + e.Reason }

// Path is what one request asks for, below the base path of the API. The zero value is no valid Path.
type Path struct {
	method   string
	below    string   // escaped, as sent
	segments []string // decoded
	kind     kind

	ambiguous bool // see Plain
}

// Read reads what a request asks for.
//
// The method is taken as on the wire. original is the target of the request line, in origin-form or with any scheme
// and authority in front; "" stands for the same as escaped. escaped is the path that will be sent, which an earlier
// handler may have rewritten: URL.EscapedPath. base is the base path of the endpoint, without a slash at its end: ""
// or, say, "/automation-api".
//
// Both original and escaped must be well-formed, since a handler that decodes and encodes again hides what came in.
// Only escaped decides where the request goes, and it must begin with base byte for byte. The error is ErrMethod,
// ErrOutside or a *MalformedError.
//
// Well-formed means: nothing but the bytes that RFC 3986 allows in a path, without a raw ";"; valid escapes; and
// after decoding, as many times as there is something to decode, valid UTF-8 without control characters and
// backslashes, with no segment that is empty or begins with "..", or that is a dot. Segments are looked for at every
// slash, encoded ones too, so two slashes in a row are malformed however they are written, and so is an encoded slash
// at the beginning or the end of a segment. One raw slash at the end of the path is fine. An encoded ";" is a
// character like others, but what stands before it is looked at as a segment of its own.
func Read(method, original, escaped, base string) (Path, error) {
	if strings.EqualFold(method, "TRACE") || strings.EqualFold(method, "CONNECT") {
		return Path{}, ErrMethod
	}
	if original != "" {
		path, ok := pathOfTarget(original)
		if !ok {
			return Path{}, ErrOutside
		}
		if path != escaped {
			if err := judge(path); err != nil {
				return Path{}, err
			}
		}
	}
	if escaped == "*" {
		return Path{}, ErrOutside
	}
	if err := judge(escaped); err != nil {
		return Path{}, err
	}
	below, ok := strings.CutPrefix(escaped, strings.TrimSuffix(base, "/"))
	if !ok || below != "" && below[0] != '/' {
		return Path{}, ErrOutside
	}
	p := Path{method: method, below: below}
	p.segments = decodedSegments(below)
	p.kind = classify(below)
	// Without these, a well-formed path can be read in one way only.
	p.ambiguous = (strings.Contains(below, "%") || strings.Contains(below, "/.")) && isAmbiguous(p.segments)
	return p, nil
}

// pathOfTarget cuts the path out of the target of a request line. It is not ok for "*" and for targets that have no
// path that an HTTP server is asked for.
func pathOfTarget(target string) (path string, ok bool) {
	if target[0] != '/' {
		scheme, rest, found := strings.Cut(target, "://")
		if !found || strings.ContainsAny(scheme, "/?#") {
			return "", false
		}
		if target = strings.TrimLeftFunc(rest, isAuthority); target == "" || target[0] != '/' {
			return "/", true
		}
	}
	path, _, _ = strings.Cut(target, "?")
	return path, true
}

func isAuthority(r rune) bool { return r != '/' && r != '?' && r != '#' }

// decodedSegments splits at raw slashes and decodes. below is well-formed.
func decodedSegments(below string) []string {
	below = trimSlashes(below)
	if below == "" {
		return nil
	}
	segments := make([]string, 0, strings.Count(below, "/")+1)
	for segment := range strings.SplitSeq(below, "/") {
		if decoded, err := url.PathUnescape(segment); err == nil {
			segment = decoded
		}
		segments = append(segments, segment)
	}
	return segments
}

// trimSlashes cuts off the slash that every path begins with and the one that it may end with.
func trimSlashes(path string) string {
	return strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/")
}

// Method returns the method as sent.
func (p Path) Method() string { return p.method }

// Judged returns the method that rules look at: GET for HEAD, which asks for the same with less of an answer.
func (p Path) Judged() string {
	if p.method == "HEAD" {
		return "GET"
	}
	return p.method
}

// Segments returns the decoded segments below the base path, without one for a slash at the end. It is shared: do not
// change it.
func (p Path) Segments() []string { return p.segments }

// Below returns what follows the base path, escaped as it is sent: "", or with a slash in front.
func (p Path) Below() string { return p.below }

// IsLogin tells whether the path is the one of the login, whatever the method.
func (p Path) IsLogin() bool { return p.is("session", "login") }

// IsLogout tells whether the path is the one of the logout, whatever the method.
func (p Path) IsLogout() bool { return p.is("session", "logout") }

// IsPasswordUpdate tells whether the path is session/user/password/update, written as in the manual: the only one
// under /session that may go to Control-M, if the operator allows credential changes. A disguised logout must not,
// since it would end the session that all share.
func (p Path) IsPasswordUpdate() bool { return p.is("session", "user", "password", "update") }

func (p Path) is(segments ...string) bool {
	if len(p.segments) != len(segments) {
		return false
	}
	for i, s := range segments {
		if p.segments[i] != s {
			return false
		}
	}
	return true
}
