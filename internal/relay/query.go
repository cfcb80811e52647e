package relay

import (
	"net/url"
	"strings"
)

// StripQuery removes every parameter whose decoded name is "token", in any case: old releases of Control-M take a
// credential there. Parameters are told apart at "&" and at ";", since it is not known at which of them the server
// splits. All else stays byte for byte and in order, also what cannot be decoded; raw itself is returned when nothing
// is to be removed.
//
// Where a removed parameter stood between an "&" and a ";", the "&" is kept: everybody splits there.
func StripQuery(raw string) string { return strip(raw, isToken) }

// StripParams also removes the parameters whose decoded name and value goes tells.
func StripParams(raw string, goes func(name, value string) bool) string {
	return strip(raw, func(param string) bool { return isToken(param) || tells(param, goes) })
}

// HasParam tells whether a query has a parameter that StripParams would remove.
func HasParam(raw string, goes func(name, value string) bool) bool {
	return has(raw, func(param string) bool { return isToken(param) || tells(param, goes) })
}

func tells(param string, goes func(name, value string) bool) bool {
	name, value, _ := strings.Cut(param, "=")
	return goes(decoded(name), decoded(value))
}

// decoded is text itself where it cannot be decoded.
func decoded(text string) string {
	if plain, err := url.QueryUnescape(text); err == nil {
		return plain
	}
	return text
}

func strip(raw string, goes func(param string) bool) string {
	if !has(raw, goes) {
		return raw
	}
	var b strings.Builder
	b.Grow(len(raw))
	wrote := false
	var sep byte // the strongest separator since the parameter that was last written, 0 if there was none
	for rest, more := raw, true; more; {
		var param string
		var end byte
		param, rest, end = cutParam(rest)
		more = end != 0
		if !goes(param) {
			if wrote {
				b.WriteByte(sep)
			}
			b.WriteString(param)
			wrote, sep = true, end
		} else if sep != '&' {
			sep = end
		}
	}
	return b.String()
}

// HasToken tells whether a query has a parameter that StripQuery would remove.
func HasToken(raw string) bool { return has(raw, isToken) }

func has(raw string, goes func(param string) bool) bool {
	if raw == "" {
		return false
	}
	for rest, more := raw, true; more; {
		var param string
		var end byte
		param, rest, end = cutParam(rest)
		if goes(param) {
			return true
		}
		more = end != 0
	}
	return false
}

// cutParam splits raw after its first parameter. sep is the separator there, 0 at the end.
func cutParam(raw string) (param, rest string, sep byte) {
	i := strings.IndexAny(raw, "&;")
	if i < 0 {
		return raw, "", 0
	}
	return raw[:i], raw[i+1:], raw[i]
}

// isToken tells whether the decoded name of a parameter is "token". An escape that cannot be decoded is no part of
// such a name.
func isToken(param string) bool {
	var name [len("token") + 4]byte // room for letters outside ASCII that fold to one of ours
	n := 0
	for i := 0; i < len(param) && param[i] != '='; i++ {
		c := param[i]
		if c == '%' {
			if i+2 >= len(param) {
				return false
			}
			hi, ok1 := unhex(param[i+1])
			lo, ok2 := unhex(param[i+2])
			if !ok1 || !ok2 {
				return false
			}
			c = hi<<4 | lo
			i += 2
		}
		if n == len(name) {
			return false
		}
		name[n] = c
		n++
	}
	return strings.EqualFold(string(name[:n]), "token")
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
