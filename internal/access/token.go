// Package access says who calls and what they may. It is pure: it knows
// neither Caddy nor HTTP, and touches no network.
package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/ctmgate/ctmgate/internal/ttlmap"
)

// TokenLifetime is how long a gateway token is honoured (contract.md, 5).
const TokenLifetime = 12 * time.Hour

// A gateway token is tokenPrefix and, in base64 for URLs, what tokenHead
// describes, the client's name, and a MAC over all of it. Nothing is stored
// for it: ten thousand logins leave the memory where it was.
const (
	tokenPrefix  = "ctmgt_"
	tokenVersion = 1
	tokenTag     = 1 + 8 + 8          // after version, seconds since 1970, nonce
	tokenHead    = tokenTag + TagSize // and the tag of the key
	macSize      = sha256.Size
	maxClient    = 128
	maxTokenText = len(tokenPrefix) + (tokenHead+maxClient+macSize)*4/3 + 4
	// endedMost bounds the tokens that are remembered as logged out. Past it
	// the ones that would end first are forgotten, and live until then.
	endedMost = 100_000
	// skew is how far the clocks of gateways that share a key may differ.
	skew = 5 * time.Minute
)

// What a text is that is no living gateway token.
var (
	// ErrForeign: not shaped like a gateway token at all.
	ErrForeign = errors.New("reading the gateway token: it is none")
	// ErrEnded: too old, logged out, or made by a gateway with another key.
	ErrEnded = errors.New("reading the gateway token: it is invalid or expired")
)

// Tokens makes and reads gateway tokens: what a client gets that logs in at
// the gateway. A token is worth nothing upstream.
type Tokens struct {
	key   []byte
	ended *ttlmap.Map[struct{}]
}

// NewTokens returns tokens under key, which gateways share that are to honour
// each other's; nil makes a key that is known to this process alone.
func NewTokens(key []byte) *Tokens {
	if key == nil {
		key = make([]byte, 32)
		_, _ = rand.Read(key) // never fails: crypto/rand.Read ends the process instead
	}
	return &Tokens{key: key, ended: ttlmap.New[struct{}](endedMost)}
}

// Issue makes a token for client, which logged in with key. Both are empty where clients have no names.
func (t *Tokens) Issue(client string, key *Key) string {
	if len(client) > maxClient {
		client = client[:maxClient]
	}
	raw := make([]byte, tokenHead, tokenHead+len(client)+macSize)
	raw[0] = tokenVersion
	binary.BigEndian.PutUint64(raw[1:], uint64(max(time.Now().Unix(), 0))) //nolint:gosec // not negative
	_, _ = rand.Read(raw[9:tokenTag])
	if key != nil {
		tag := key.Tag()
		copy(raw[tokenTag:], tag[:])
	}
	raw = append(raw, client...)
	raw = append(raw, t.mac(raw)...)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(raw)
}

// Check returns the client of a living token, and the tag of the key it logged in with, or ErrForeign or ErrEnded.
func (t *Tokens) Check(token string) (client string, tag [TagSize]byte, err error) {
	body, _, err := t.read(token)
	if err != nil {
		return "", tag, err
	}
	return string(body[tokenHead : len(body)-macSize]), [TagSize]byte(body[tokenTag:tokenHead]), nil
}

// End logs token out. A text that is no living token is ignored.
func (t *Tokens) End(token string) {
	if body, left, err := t.read(token); err == nil {
		t.ended.Set(endedKey(body), struct{}{}, left)
	}
}

// endedKey is the MAC of a token, which is short. Not the text, since one token can be written in several ways: the
// decoder skips line breaks, and a logout whose form body ends in one must not leave the token alive.
func endedKey(body []byte) string { return string(body[len(body)-macSize:]) }

// read returns what a living token consists of, MAC included, and how long it has left.
func (t *Tokens) read(token string) (body []byte, left time.Duration, err error) {
	text, ok := strings.CutPrefix(token, tokenPrefix)
	if !ok {
		return nil, 0, ErrForeign
	}
	if len(token) > maxTokenText {
		return nil, 0, ErrEnded
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < tokenHead+macSize || raw[0] != tokenVersion {
		return nil, 0, ErrEnded
	}
	signed := raw[:len(raw)-macSize]
	if !hmac.Equal(t.mac(signed), raw[len(signed):]) {
		return nil, 0, ErrEnded
	}
	age := time.Since(time.Unix(int64(binary.BigEndian.Uint64(raw[1:])), 0)) //nolint:gosec // under our own MAC
	if age >= TokenLifetime || age < -skew {
		return nil, 0, ErrEnded
	}
	if _, _, ended := t.ended.Get(endedKey(raw)); ended {
		return nil, 0, ErrEnded
	}
	return raw, TokenLifetime - age, nil
}

func (t *Tokens) mac(signed []byte) []byte {
	m := hmac.New(sha256.New, t.key)
	m.Write([]byte("ctmgate gateway token\x00"))
	m.Write(signed)
	return m.Sum(nil)
}
