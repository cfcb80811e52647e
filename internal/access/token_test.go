package access

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestATokenNamesItsClientForTwelveHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := NewTokens(nil)
		token := tokens.Issue("nightly", nil)
		<-time.After(TokenLifetime - time.Second)
		if client, _, err := tokens.Check(token); client != "nightly" || err != nil {
			t.Errorf("in its last second: %q, %v", client, err)
		}
		<-time.After(time.Second)
		if client, _, err := tokens.Check(token); client != "" || !errors.Is(err, ErrEnded) {
			t.Errorf("after it: %q, %v", client, err)
		}
	})
}

func TestATokenIsHonouredByEveryGatewayThatSharesTheKey(t *testing.T) {
	key := []byte("a key of thirty-two bytes or more")
	token := NewTokens(key).Issue("nightly", nil)
	if client, _, err := NewTokens(key).Check(token); client != "nightly" || err != nil {
		t.Errorf("another gateway: %q, %v", client, err)
	}
	for name, tokens := range map[string]*Tokens{"another key": NewTokens([]byte("other")), "a key of its own": NewTokens(nil)} {
		if client, _, err := tokens.Check(token); client != "" || !errors.Is(err, ErrEnded) {
			t.Errorf("%s: %q, %v", name, client, err)
		}
	}
}

func TestATokenFromTheFutureIsHonouredOnlyWithinTheSkewOfClocks(t *testing.T) {
	tokens := NewTokens([]byte("key"))
	var near, far string
	synctest.Test(t, func(*testing.T) {
		<-time.After(skew)
		near = tokens.Issue("x", nil)
		<-time.After(time.Second)
		far = tokens.Issue("x", nil)
	})
	// Every bubble begins at the same time, so the clock is back now.
	synctest.Test(t, func(t *testing.T) {
		if _, _, err := tokens.Check(near); err != nil {
			t.Errorf("from %v ahead: %v", skew, err)
		}
		if _, _, err := tokens.Check(far); !errors.Is(err, ErrEnded) {
			t.Errorf("from further ahead: %v", err)
		}
	})
}

func TestALoggedOutTokenIsEndedHoweverItIsWritten(t *testing.T) {
	tokens := NewTokens(nil)
	first, second, third := tokens.Issue("a", nil), tokens.Issue("a", nil), tokens.Issue("a", nil)
	tokens.End(first)
	tokens.End(second + "\r\n") // as in a form body made by a shell
	tokens.End("no token at all")
	for _, token := range []string{first, first + "\n", second, tokenPrefix + "\n" + second[len(tokenPrefix):]} {
		if _, _, err := tokens.Check(token); !errors.Is(err, ErrEnded) {
			t.Errorf("%q after its logout: %v", token, err)
		}
	}
	if _, _, err := tokens.Check(third); err != nil {
		t.Errorf("another token of the client: %v", err)
	}
}

func TestATokenThatWasTamperedWithIsEnded(t *testing.T) {
	tokens := NewTokens(nil)
	token := tokens.Issue("nightly", nil)
	raw, err := base64.RawURLEncoding.DecodeString(token[len(tokenPrefix):])
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for _, bit := range []byte{1, 0x80} {
			raw[i] ^= bit
			if _, _, err := tokens.Check(tokenPrefix + base64.RawURLEncoding.EncodeToString(raw)); !errors.Is(err, ErrEnded) {
				t.Errorf("byte %d changed: %v", i, err)
			}
			raw[i] ^= bit
		}
	}
	for name, text := range map[string]string{
		"cut": token[:len(token)-1], "longer": token + "A", "padded": token + "=", "no body": tokenPrefix, "other alphabet": tokenPrefix + "+/",
		"far too long": tokenPrefix + strings.Repeat("A", 1<<16),
	} {
		if _, _, err := tokens.Check(text); !errors.Is(err, ErrEnded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsNotShapedLikeATokenIsForeign(t *testing.T) {
	tokens := NewTokens(nil)
	for _, text := range []string{"", "ctmgt", "CTMGT_x", " ctmgt_x", NewKey(), strings.Repeat("0123456789ABCDEF", 8)} {
		if _, _, err := tokens.Check(text); !errors.Is(err, ErrForeign) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestEveryTokenIsUnlikeAllOthersAndShowsNoKey(t *testing.T) {
	key := []byte("canary-key-canary-key-canary-key")
	tokens := NewTokens(key)
	seen := map[string]bool{}
	for range 1000 {
		token := tokens.Issue("nightly", nil)
		raw, _ := base64.RawURLEncoding.DecodeString(token[len(tokenPrefix):])
		if seen[token] || strings.Contains(string(raw), "canary") {
			t.Fatalf("%q", token)
		}
		seen[token] = true
	}
}

func TestTheLongestNameOfAClientComesBackWhole(t *testing.T) {
	tokens := NewTokens(nil)
	for _, name := range []string{"", "ä", strings.Repeat("n", maxClient)} {
		if client, _, err := tokens.Check(tokens.Issue(name, nil)); client != name || err != nil {
			t.Errorf("%q: %q, %v", name, client, err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	tokens := NewTokens([]byte("key"))
	issued := tokens.Issue("nightly", nil)
	for _, seed := range []string{issued, issued + "\n", issued[:60], tokenPrefix, "", "x", tokenPrefix + strings.Repeat("A", 200), NewKey()} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		client, _, err := tokens.Check(text)
		switch {
		case err == nil:
			// None but Issue can have made it, and it is written as Issue writes, but for line breaks.
			unbroken := strings.NewReplacer("\r", "", "\n", "").Replace(text)
			raw, _ := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, tokenPrefix))
			if client != "nightly" || tokenPrefix+base64.RawURLEncoding.EncodeToString(raw) != unbroken {
				t.Fatalf("%q was taken for a token of %q", text, client)
			}
		case client != "" || !errors.Is(err, ErrForeign) && !errors.Is(err, ErrEnded):
			t.Fatalf("%q: %q, %v", text, client, err)
		case errors.Is(err, ErrForeign) == strings.HasPrefix(text, tokenPrefix):
			t.Fatalf("%q: %v", text, err)
		}
	})
}
