package access

import (
	"encoding/base64"
	"net/url"
	"strings"

	"github.com/ctmgate/ctmgate/internal/apipath"
)

// IsOwn tells whether s is one of the gateway's own keys or tokens, by its form: for what must not be passed on. A name
// that only begins like one is none.
func IsOwn(s string) bool {
	if text, ok := strings.CutPrefix(s, tokenPrefix); ok {
		raw, err := base64.RawURLEncoding.DecodeString(text)
		return err == nil && len(raw) >= tokenHead+macSize && raw[0] == tokenVersion
	}
	return LooksLikeKey(s)
}

// ownPrefix is what keys and tokens begin with.
const ownPrefix = "ctmg"

// ownLeast is how many characters after its prefix make a text a secret for logs: fewer than there are in one, since a
// part of a secret is not to be shown either, and more than in a name that somebody gave to a job.
const ownLeast = 24

// mostLayers bounds how often a text is decoded, as the reader of paths does.
const mostLayers = 4

// Shows tells whether there is something in text, percent-encoded or not, that looks like one of the gateway's own keys
// or tokens, or a part of one: for what logs must not show.
func Shows(text string) bool {
	for range mostLayers {
		if shows(text) {
			return true
		}
		plain, err := url.PathUnescape(text)
		if err != nil || plain == text {
			return false
		}
		text = plain
	}
	return shows(text)
}

func shows(text string) bool {
	for {
		at := strings.Index(text, ownPrefix)
		if at < 0 {
			return false
		}
		text = text[at:]
		for _, prefix := range [...]string{keyPrefix, tokenPrefix} {
			if rest, ok := strings.CutPrefix(text, prefix); ok && len(rest)-len(strings.TrimLeftFunc(rest, isOwnDigit)) >= ownLeast {
				return true
			}
		}
		text = text[len(ownPrefix):]
	}
}

func isOwnDigit(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_'
}

// RedactPath returns a path without the segments that Shows is about.
func RedactPath(path string) string {
	if !Shows(path) {
		return path
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if Shows(segment) {
			segments[i] = apipath.Redacted
		}
	}
	if path = strings.Join(segments, "/"); Shows(path) { // across an encoded slash
		return apipath.Redacted
	}
	return path
}
