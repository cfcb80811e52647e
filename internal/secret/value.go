// Package secret keeps passwords, tokens and keys out of sight: a value that
// cannot be printed, and sources that say where a value comes from and notice
// when it changes.
package secret

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
)

// redacted stands wherever a secret would have been printed.
const redacted = "[secret]"

// Value is a string that no printer, encoder or logger can show. The text
// lives in a closure, because a printer that walks unexported fields by
// reflection meets only the address of a function there.
//
// The zero Value is empty.
type Value struct{ reveal func() string }

// New hides text in a Value.
func New(text string) Value {
	if text == "" {
		return Value{}
	}
	return Value{reveal: func() string { return text }}
}

// Reveal returns the text. Call it only where the text leaves for the wire or
// is compared, and keep the result in no variable that outlives that line.
func (v Value) Reveal() string {
	if v.reveal == nil {
		return ""
	}
	return v.reveal()
}

// Empty tells whether there is no text.
func (v Value) Empty() bool { return v.reveal == nil }

// Equal compares two values in time that depends on their lengths only.
func (v Value) Equal(other Value) bool {
	return subtle.ConstantTimeCompare([]byte(v.Reveal()), []byte(other.Reveal())) == 1
}

// Format implements fmt.Formatter, so that no verb shows the text.
func (Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// String implements fmt.Stringer.
func (Value) String() string { return redacted }

// MarshalText implements encoding.TextMarshaler, and with it JSON.
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Value) LogValue() slog.Value { return slog.StringValue(redacted) }

var (
	_ fmt.Formatter  = Value{}
	_ slog.LogValuer = Value{}
)
