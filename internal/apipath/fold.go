package apipath

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Fold returns the character that stands for all that differ from r in case at most, for any reader: to Go "ſ" is an
// "s" and the Kelvin sign a "k", and to Java, which Control-M is written in, "ı" and "İ" are an "i" too.
func Fold(r rune) rune {
	switch {
	case r < utf8.RuneSelf:
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	case r == 'İ':
		return 'i'
	}
	return unicode.ToLower(unicode.ToUpper(r))
}

func fold(s string) string { return strings.Map(Fold, s) }

// equalFold tells whether text is word, which is in lower case, for a reader that does not mind case.
func equalFold(text, word string) bool {
	for _, r := range text {
		want, size := utf8.DecodeRuneInString(word)
		if size == 0 || Fold(r) != want {
			return false
		}
		word = word[size:]
	}
	return word == ""
}
