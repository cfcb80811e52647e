package access

import (
	"encoding/hex"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestANewKeyHasTheFormThatSecretScannersFind(t *testing.T) {
	form := regexp.MustCompile(`^ctmgate_[0-9A-Za-z]{49}$`)
	seen := map[string]bool{}
	for range 1000 {
		key := NewKey()
		if !form.MatchString(key) || !LooksLikeKey(key) || seen[key] {
			t.Fatalf("%q", key)
		}
		seen[key] = true
	}
}

func TestTheChecksumTellsAKeyFromItsLookalikes(t *testing.T) {
	key := NewKey()
	for i := len(keyPrefix); i < len(key); i++ {
		other := byte('x')
		if key[i] == other {
			other = 'y'
		}
		if changed := key[:i] + string(other) + key[i+1:]; LooksLikeKey(changed) {
			t.Errorf("digit %d changed, and still it looks like a key", i)
		}
	}
	for _, text := range []string{"", keyPrefix, key[1:], key[:len(key)-1], key + "0", strings.ToUpper(key), " " + key} {
		if LooksLikeKey(text) {
			t.Errorf("%q looks like a key", text)
		}
	}
}

func TestTheChecksumIsTheOneThatTheDocumentationTells(t *testing.T) {
	// Worked out by other means: CRC-32 of 43 zeros is 0x7849568f, or 2018072207.
	digits := strings.Repeat("0", keyDigits)
	if got := checksum(digits); got != "2czCLJ" || !LooksLikeKey(keyPrefix+digits+got) {
		t.Errorf("%s", got)
	}
}

func TestAKeyHashIsExactlySixtyFourHexDigits(t *testing.T) {
	want := HashKey("canary")
	text := hex.EncodeToString(want[:])
	for _, written := range []string{text, strings.ToUpper(text)} {
		if got, err := ParseKeyHash(written); got != want || err != nil {
			t.Errorf("%s: %x, %v", written, got, err)
		}
	}
	empty := HashKey("")
	for name, written := range map[string]string{
		"nothing": "", "cut": text[:63], "longer": text + "0", "another character": text[:63] + "g", "the key itself": NewKey(),
		"a sign": "-" + text[:63], "space": " " + text[:63], "of nothing": hex.EncodeToString(empty[:]),
		"a key as long as a hash": keyPrefix + strings.Repeat("c", 56),
	} {
		got, err := ParseKeyHash(written)
		if err == nil || got != [32]byte{} || !strings.Contains(err.Error(), "64 hexadecimal digits") {
			t.Errorf("%s: %x, %v", name, got, err)
		}
		if err != nil && len(written) > 8 && strings.Contains(err.Error(), written[:8]) {
			t.Errorf("%s: the error shows it: %v", name, err)
		}
	}
}

func TestAKeyIsUsableThroughItsLastDay(t *testing.T) {
	ends, err := ParseKeyEnd("2027-06-30")
	if err != nil {
		t.Fatal(err)
	}
	key := Key{Ends: ends}
	for at, want := range map[string]bool{
		"2026-01-01T00:00:00Z": true, "2027-06-30T23:59:59.999Z": true, "2027-07-01T00:00:00Z": false, "2027-07-01T00:30:00+02:00": true,
		"2027-06-30T23:00:00-05:00": false, "2099-01-01T00:00:00Z": false,
	} {
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if key.usable(now) != want || key.Ended(now) == want || !(&Key{}).usable(now) {
			t.Errorf("%s: usable is %v", at, !want)
		}
	}
	for _, text := range []string{"", "2027-6-30", "2027-02-30", "30.06.2027", "2027-06-30T00:00:00Z", "never"} {
		if _, err := ParseKeyEnd(text); err == nil || !strings.Contains(err.Error(), "2027-06-30") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
