package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math/big"
	"strings"
	"sync/atomic"
	"time"
)

// A gateway key is keyPrefix, 256 random bits in base62, and in base62 the CRC-32 of these digits, so that a scanner
// of secrets can tell a leaked key from a text that merely looks like one. Digits are 0-9, a-z, A-Z, in this order, the
// first is the most significant.
const (
	keyPrefix   = "ctmgate_"
	keyBits     = 256
	keyDigits   = 43 // 62^43 > 2^256
	checkDigits = 6  // 62^6 > 2^32
	base62      = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// ErrKey says that what was shown proves nobody. An unknown key, a wrong one and one that has ended are the same to
// who shows it.
var ErrKey = errors.New("looking up the gateway key: no client has it, or it has ended")

// Key is what the gateway knows of one gateway key of a client.
type Key struct {
	// Hash is the SHA-256 of the key's text. The text itself is known to the client alone.
	Hash [32]byte
	// Name tells the client's keys apart in the audit log while they are rolled. It may be empty.
	Name string
	// Ends is the first instant at which the key is not honoured any more; zero for never.
	Ends time.Time
	// Used, where it is not nil, holds when the key was last shown, in seconds since 1970.
	Used *atomic.Int64
}

// Use notes that the key was shown.
func (k *Key) Use(now time.Time) {
	if k.Used == nil {
		return
	}
	// Seldom a write: calls of one key on two cores share the number.
	if seconds := now.Unix(); k.Used.Load() != seconds {
		k.Used.Store(seconds)
	}
}

// usable tells whether the key is honoured at now.
func (k *Key) usable(now time.Time) bool { return !over(k.Ends, now) }

func over(ends, now time.Time) bool { return !ends.IsZero() && !now.Before(ends) }

// Ended tells whether the key has come to its end, and is not honoured at now.
func (k *Key) Ended(now time.Time) bool { return !k.usable(now) }

// TagSize is the size of a Tag.
const TagSize = 8

// Tag stands for the key in gateway tokens, which end with it.
func (k *Key) Tag() [TagSize]byte {
	sum := sha256.Sum256(k.Hash[:])
	return [TagSize]byte(sum[:TagSize])
}

// HashKey returns what a configuration holds of a key.
func HashKey(key string) [32]byte {
	var space [64]byte // on the stack, and enough for our own keys
	return sha256.Sum256(append(space[:0], key...))
}

// emptyHash is what `sha256sum` says of nothing: the trace of a pipe that went wrong, and a key that everybody knows.
var emptyHash = HashKey("")

// ParseKeyHash reads the SHA-256 of a key as 64 hexadecimal digits of either case. The hash of the empty text is an
// error. What was read is in no error, since it may be the key itself.
func ParseKeyHash(text string) (hash [32]byte, err error) {
	const expected = "expected the SHA-256 of the key as 64 hexadecimal digits"
	if len(text) != hex.EncodedLen(len(hash)) {
		return hash, fmt.Errorf("reading the hash of a key: %s, got %d characters", expected, len(text))
	}
	if _, err := hex.Decode(hash[:], []byte(text)); err != nil {
		return [32]byte{}, errors.New("reading the hash of a key: " + expected + ", got another character")
	}
	if hash == emptyHash {
		return [32]byte{}, errors.New("reading the hash of a key: " + expected + ", got the one of an empty text")
	}
	return hash, nil
}

// ParseKeyEnd reads the last day on which a key is honoured, as in "2027-06-30", and returns when that day is over in
// UTC.
func ParseKeyEnd(day string) (time.Time, error) {
	last, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading the end of a key: expected its last day as in 2027-06-30, got %q", day)
	}
	return last.AddDate(0, 0, 1), nil
}

// NewKey makes a gateway key. It is shown once and stored nowhere: what a configuration holds is its hash.
func NewKey() (key string) {
	random := make([]byte, keyBits/8)
	_, _ = rand.Read(random) // never fails: crypto/rand.Read ends the process instead
	digits := toBase62(new(big.Int).SetBytes(random), keyDigits)
	return keyPrefix + digits + checksum(digits)
}

// LooksLikeKey tells whether s has the form of a key that NewKey made, checksum included: for what searches logs and
// files for leaked keys, and for messages that say which credential was mistaken for which. It proves nothing.
func LooksLikeKey(s string) bool {
	text, ok := strings.CutPrefix(s, keyPrefix)
	if !ok || len(text) != keyDigits+checkDigits {
		return false
	}
	return checksum(text[:keyDigits]) == text[keyDigits:]
}

func checksum(digits string) string {
	return toBase62(new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(digits)))), checkDigits)
}

func toBase62(n *big.Int, digits int) string {
	text := n.Text(len(base62))
	return strings.Repeat(base62[:1], digits-len(text)) + text
}
