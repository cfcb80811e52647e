package apipath

import "strings"

// secretWords are the segments behind which the API has secrets in its paths: the pass phrase of an SSH key, and the
// value of a system setting (controlm-api.md, section 6).
var secretWords = [...]string{"sshkey", "systemsettings"}

// mostShown bounds what a log shows of a target.
const mostShown = 2048

// Redacted stands in the place of what a log does not show.
const Redacted = "REDACTED"

// Redact returns the target of a request as a log may show it: without query and authority, and without what follows a
// segment behind which there are secrets, however that is spelt. Any text will do, also a target that Read refuses.
func Redact(target string) string {
	path := pathOf(target)
	if at := secretAt(path); at >= 0 {
		path = path[:at] + Redacted
	}
	return shorten(path)
}

// ShowsSecret tells whether the target has a secret in its path.
func ShowsSecret(target string) bool { return secretAt(pathOf(target)) >= 0 }

// secretAt returns where the segment begins behind which there are secrets, -1 if there is none.
func secretAt(path string) int {
	at := 0
	for segment := range strings.SplitSeq(path, "/") {
		end := at + len(segment)
		if namesSecret(segment) {
			if end == len(path) && isSecretWord(segment) {
				return -1 // nothing follows
			}
			return at
		}
		at = end + 1
	}
	return -1
}

// pathOf cuts the query off, and what stands before the path.
func pathOf(target string) string {
	path, _, _ := strings.Cut(target, "?")
	if scheme, rest, ok := strings.Cut(path, "://"); ok && !strings.Contains(scheme, "/") {
		if at := strings.IndexAny(rest, "/\\"); at >= 0 {
			return rest[at:]
		}
		return ""
	}
	return path
}

func shorten(path string) string {
	if len(path) > mostShown {
		return path[:mostShown] + "…"
	}
	return path
}

// namesSecret tells whether a segment has one of the words in it, in any reading.
func namesSecret(segment string) bool {
	if len(segment) < len(secretWords[0]) {
		return false
	}
	for layer := 0; ; layer++ {
		folded := fold(segment)
		for _, word := range secretWords {
			if begins(folded, word) {
				return true
			}
		}
		if layer == mostLayers || !hasEscape(segment) {
			return false
		}
		segment = unescape(segment)
	}
}

// begins tells whether word stands at the beginning of text, or behind what a
// server might take for the beginning of a segment.
func begins(text, word string) bool {
	for from := 0; ; {
		at := strings.Index(text[from:], word)
		if at < 0 {
			return false
		}
		if at += from; at == 0 || !ofAName(text[at-1]) {
			return true
		}
		from = at + 1
	}
}

func ofAName(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'
}

func isSecretWord(segment string) bool {
	for _, word := range secretWords {
		if segment == word {
			return true
		}
	}
	return false
}
