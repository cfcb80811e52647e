package relay

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// mostBase bounds the length of a base URL, so that what a body holds back while it is not clear whether a base URL
// stands there always fits into its buffer, also when every slash is escaped.
const mostBase = 1 << 10

// Rewriter knows the base URLs under which an API prints itself, and puts the gateway's own in their place, so that
// clients that follow a URL come back through the gateway. It does not change once it is made: all requests share one.
type Rewriter struct {
	bases []base // longest first
}

// base is one spelling of a base URL.
type base struct {
	text string // scheme and host in lower case, no slash at the end
	fold int    // how much of text is scheme and host, which are compared without case
}

// NewRewriter makes a Rewriter of all endpoints and public URLs of an environment. Each is known with and without the
// default port of its scheme; a slash at its end does not matter. A base URL may have no path, but then every URL on
// that host counts as one of the API.
func NewRewriter(bases []string) (*Rewriter, error) {
	rw := &Rewriter{}
	for i, raw := range bases {
		spellings, err := readBase(raw)
		if err != nil {
			return nil, fmt.Errorf("reading base URL %d of %d: %w", i+1, len(bases), err)
		}
		rw.bases = append(rw.bases, spellings...)
	}
	slices.SortFunc(rw.bases, func(a, b base) int {
		return cmp.Or(cmp.Compare(len(b.text), len(a.text)), cmp.Compare(a.text, b.text))
	})
	rw.bases = slices.Compact(rw.bases)
	return rw, nil
}

// readBase names no part of raw in its errors: a mistaken one may hold a password.
func readBase(raw string) ([]base, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("an absolute http or https URL is expected")
	case u.User != nil || strings.ContainsAny(raw, "?#"):
		return nil, errors.New("a URL without userinfo, query and fragment is expected")
	case strings.ContainsAny(u.Host, `"\<>`):
		return nil, errors.New("a host name or address is expected")
	}
	port := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	bare := strings.TrimSuffix(strings.TrimSuffix(u.Host, ":"), port)
	hosts := []string{bare}
	if u.Port() == "" || u.Port() == port[1:] {
		hosts = append(hosts, bare+port)
	}
	path := strings.TrimRight(u.EscapedPath(), "/")
	if len(u.Host)+len(path) > mostBase {
		return nil, fmt.Errorf("no more than %d bytes are expected", mostBase)
	}
	var spellings []base
	for _, host := range hosts {
		origin := []byte(u.Scheme + "://" + host)
		for i, c := range origin {
			origin[i] = lower(c)
		}
		spellings = append(spellings, base{text: string(origin) + path, fold: len(origin)})
	}
	return spellings, nil
}

// Location rewrites the value of a header that is as a whole a URL: a base URL at its beginning becomes own, and token
// parameters go from its query. With an empty own the base URL stays. Any other value is returned as it is.
func (rw *Rewriter) Location(value, own string) string {
	for i := range rw.bases {
		b := &rw.bases[i]
		if len(value) < len(b.text) || !b.same(value[:len(b.text)]) {
			continue
		}
		rest := value[len(b.text):]
		if rest != "" && strings.IndexByte("/?#", rest[0]) < 0 {
			continue
		}
		rest = stripRest(rest)
		if own == "" {
			return value[:len(b.text)] + rest
		}
		return own + rest
	}
	return value
}

// stripRest removes token parameters from what follows the base in a URL.
func stripRest(rest string) string {
	before, fragment := rest, ""
	if i := strings.IndexByte(rest, '#'); i >= 0 {
		before, fragment = rest[:i], rest[i:]
	}
	path, query, found := strings.Cut(before, "?")
	if !found || !HasToken(query) {
		return rest
	}
	if query = StripQuery(query); query != "" {
		path += "?"
	}
	return path + query + fragment
}

// same compares s, which is as long as the base.
func (b *base) same(s string) bool {
	for i := range b.fold {
		if lower(s[i]) != b.text[i] {
			return false
		}
	}
	return s[b.fold:] == b.text[b.fold:]
}

// verdict is what a look at the bytes that have come so far says.
type verdict int

const (
	differs verdict = iota
	matches
	unclear // more bytes are needed
)

// match tells whether s, the inside of a JSON string, begins with a base, and how many bytes that takes.
func (rw *Rewriter) match(s []byte) (int, verdict) {
	for i := range rw.bases {
		if n, v := rw.bases[i].match(s); v != differs {
			return n, v // also when a shorter one may match: longest first
		}
	}
	return 0, differs
}

func (b *base) match(s []byte) (int, verdict) {
	n := 0
	if len(s) > len(b.text) && string(s[:len(b.text)]) == b.text {
		n = len(b.text) // nearly always: nobody prints a base in other letters or with escapes
	} else {
		for i := range len(b.text) {
			if n == len(s) {
				return 0, unclear
			}
			c := s[n]
			if c == '\\' && b.text[i] == '/' {
				if n++; n == len(s) {
					return 0, unclear
				}
				c = s[n]
			}
			if i < b.fold {
				c = lower(c)
			}
			if c != b.text[i] {
				return 0, differs
			}
			n++
		}
	}
	switch c, size := character(s[n:], false); {
	case size == 0:
		return 0, unclear
	case c == atEnd || c == '/' || c == '?' || c == '#':
		return n, matches
	}
	return 0, differs
}

// atEnd is the quote that ends a string. An escaped quote is an ordinary character.
const atEnd rune = -1

// character reads one character inside a JSON string and tells what it stands for and how many bytes it takes: 0 when
// that is not clear yet, never so for bytes that are final. A byte that is not ASCII stands for itself; an escape that
// is wrong, or stands for something that nobody looks for, reads as utf8.RuneError.
func character(s []byte, final bool) (c rune, size int) {
	switch {
	case len(s) == 0 && final:
		return atEnd, 0
	case len(s) == 0:
		return 0, 0
	case s[0] == '"':
		return atEnd, 1
	case s[0] != '\\':
		return rune(s[0]), 1
	case len(s) > 1 && (s[1] == '/' || s[1] == '\\' || s[1] == '"'):
		return rune(s[1]), 2
	case len(s) > 1 && s[1] != 'u':
		return utf8.RuneError, 2
	}
	for i := 2; i < min(6, len(s)); i++ {
		digit, ok := unhex(s[i])
		if !ok {
			return utf8.RuneError, 2
		}
		c = c<<4 | rune(digit)
	}
	switch {
	case len(s) >= 6:
		return c, 6
	case final:
		return utf8.RuneError, len(s)
	}
	return 0, 0
}

// Body gives the JSON body src with own in place of every base URL at the beginning of a string, and without the token
// parameters in the queries of those URLs. own is the base URL as the client used the gateway, without a slash at its
// end; with an empty own the base URLs stay. All else is passed on byte for byte, also what is no JSON.
//
// Bytes are passed on as they come; kept back are only the few at the end of what came that may begin a base URL or
// the name of a parameter. They come before the error or the end of src. A base is found with its slashes plain or
// escaped as \/, and own is written as the first slash of what it replaces was; a base with any other escape (\u002f)
// stays. In the query all escapes are understood. A URL later in a string is prose and stays.
//
// Closing closes src, and may happen while a Read is under way.
func (rw *Rewriter) Body(src io.ReadCloser, own string) io.ReadCloser {
	return &rewritten{rw: rw, src: src, own: own}
}

// quoteOwn writes own as it stands inside a JSON string. It comes from the Host header, so it must not be able to end
// the string, whoever has looked at it before.
func quoteOwn(own string, escapeSlash bool) []byte {
	quoted := make([]byte, 0, 2*len(own))
	for i := range len(own) {
		switch c := own[i]; {
		case c == '"' || c == '\\' || c == '/' && escapeSlash:
			quoted = append(quoted, '\\', c)
		case c < 0x20 || c == 0x7f:
			quoted = fmt.Appendf(quoted, `\u%04x`, c)
		default:
			quoted = append(quoted, c)
		}
	}
	return quoted
}
