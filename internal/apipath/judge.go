package apipath

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Each way to be malformed has one error, so that none is made on the request path.
var (
	errRelative  = &MalformedError{"no slash at the beginning"}
	errByte      = &MalformedError{"a byte that must be percent-encoded in a path"}
	errEscape    = &MalformedError{"a percent sign without two hexadecimal digits"}
	errParameter = &MalformedError{"a semicolon, which must be percent-encoded"}
	errBackslash = &MalformedError{"backslash"}
	errControl   = &MalformedError{"control character"}
	errUTF8      = &MalformedError{"invalid UTF-8"}
	errEmpty     = &MalformedError{"empty segment"}
	errDots      = &MalformedError{"dot segment"}
	errTwoDots   = &MalformedError{"a segment that begins with two dots"}
	errLayers    = &MalformedError{"escapes of escapes"}
	errLong      = &MalformedError{"too many bytes"}
)

// mostLayers bounds how often a path is decoded. Twice is what a careless chain of servers does; nobody encodes four
// times in good faith, and each layer costs a pass over the path.
const mostLayers = 4

// mostBytes bounds what is read in many ways. It is twice what servlet containers take for all headers together.
const mostBytes = 16 << 10

// judge tells whether a path is well-formed, see Read.
func judge(path string) error {
	if path == "" {
		return nil // of an absolute-form target without a path; the same as "/"
	}
	if path[0] != '/' {
		return errRelative
	}
	if len(path) > mostBytes {
		return errLong
	}
	escapes := false
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '%':
			if !isEscape(path, i) {
				return errEscape
			}
			escapes = true
		case !legal[c]:
			return illegal(c)
		}
	}
	text := trimSlashes(path)
	if text == "" {
		if len(path) > 1 {
			return errEmpty
		}
		return nil
	}
	if !escapes {
		return judgeSegments(text)
	}
	for range mostLayers {
		text = unescape(text)
		if err := judgeText(text); err != nil {
			return err
		}
		if !hasEscape(text) {
			return nil
		}
	}
	return errLayers
}

// legal are the bytes of RFC 3986's pchar and "/", without "%", which is judged apart, and ";".
var legal = func() (t [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@/") {
		t[c] = true
	}
	return t
}()

func illegal(c byte) error {
	switch {
	case c == ';':
		return errParameter
	case c == '\\':
		return errBackslash
	case c < 0x20 || c == 0x7f:
		return errControl
	}
	return errByte
}

// judgeText judges what was decoded.
func judgeText(text string) error {
	if !utf8.ValidString(text) {
		return errUTF8
	}
	for _, r := range text {
		if r == '\\' {
			return errBackslash
		}
		if unicode.IsControl(r) {
			return errControl
		}
	}
	return judgeSegments(text)
}

// judgeSegments judges the segments between slashes, each up to a ";": a servlet container cuts off what follows. It
// refuses what only begins with two dots, too, since "...json" is ".." to one that cuts off suffixes; no name in
// Control-M begins so.
func judgeSegments(text string) error {
	for segment := range strings.SplitSeq(text, "/") {
		name, _, _ := strings.Cut(segment, ";")
		name = strings.TrimSpace(name)
		switch {
		case name == "":
			return errEmpty
		case name == "." || name == "..":
			return errDots
		case strings.HasPrefix(name, ".."):
			return errTwoDots
		}
	}
	return nil
}

// unescape decodes what can be decoded, once, and leaves the rest: only the outermost layer must be valid.
func unescape(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && isEscape(s, i) {
			b.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
			i += 2
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func hasEscape(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && isEscape(s, i) {
			return true
		}
	}
	return false
}

func isEscape(s string, i int) bool { return i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) }

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}
