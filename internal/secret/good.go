package secret

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Why a text is no good secret.
var (
	errEmpty   = errors.New("the file is empty")
	errUTF8    = errors.New("it is not UTF-8; expected one line of text in UTF-8")
	errControl = errors.New("it holds a line break or another control character; expected one line of text")
	errHeader  = errors.New("it holds other characters than printable ASCII; expected what a header can carry")
)

// Trim cuts off what belongs to a file or a variable and not to the secret in
// it: line breaks at the end, and at the beginning the byte order mark that
// PowerShell writes.
func Trim(text string) string { return strings.TrimRight(strings.TrimPrefix(text, "\ufeff"), "\r\n") }

// check says why a text is no good secret: it could not be sent as it is, so
// it comes from a file that is being edited, or from another one.
func check(text string, header bool) error {
	switch {
	case !utf8.ValidString(text):
		return errUTF8
	case strings.ContainsFunc(text, unicode.IsControl):
		return errControl
	case header && strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII }):
		return errHeader
	}
	return nil
}
