package relay

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestStripQueryRemovesTokensAndNothingElse(t *testing.T) {
	for raw, want := range map[string]string{
		"":                              "",
		"token=x":                       "",
		"token":                         "",
		"a=1&token=x":                   "a=1",
		"token=x&a=1":                   "a=1",
		"a=1&TOKEN=x&b=2":               "a=1&b=2",
		"a=1&to%6ben=x&b=2":             "a=1&b=2",
		"a=1&%54%4F%4B%45%4E&b=2":       "a=1&b=2",
		"a=1;token=x&b=2":               "a=1&b=2",
		"a=1&token=x;b=2":               "a=1&b=2",
		"a=1;token=x;b=2":               "a=1;b=2",
		"a=1;token=x&token=y;b=2":       "a=1&b=2",
		"&&token=1&&":                   "&&&",
		"a=token=1&tokens=2&ttoken=3":   "a=token=1&tokens=2&ttoken=3",
		"a=1&token%=x&tok%zzen=y&%74":   "a=1&token%=x&tok%zzen=y&%74",
		"jobname=a%2A&limit=5&a=1;c=%z": "jobname=a%2A&limit=5&a=1;c=%z",
		"+token=1&token+=2&token%00=3":  "+token=1&token+=2&token%00=3",
		"a%26token=1&b%3Btoken=2":       "a%26token=1&b%3Btoken=2",
		"to\u212aen=x&a":                "a",
	} {
		if got := StripQuery(raw); got != want {
			t.Errorf("StripQuery(%q) = %q, want %q", raw, got, want)
		}
		if HasToken(raw) != (raw != want) {
			t.Errorf("HasToken(%q) = %v", raw, HasToken(raw))
		}
	}
}

func TestStripParamsRemovesWhatItIsTold(t *testing.T) {
	own := func(name, value string) bool { return IsCredential(name) || strings.HasPrefix(value, "own_") }
	for raw, want := range map[string]string{
		"":                                "",
		"a=1&token=x&b=2":                 "a=1&b=2",
		"x-api-key=1&X_Api_Key=2&a":       "a",
		"a=1&x%2Dapi%2dkey=2;b=%zz":       "a=1&b=%zz",
		"Authorization=Bearer+x&a=1":      "a=1",
		"cookie=k&proxy-authorization=k":  "",
		"a=1&session=own_1&b=%6fwn_2":     "a=1",
		"own_1=a&a=Own_1&b=1own_1&c=+own": "own_1=a&a=Own_1&b=1own_1&c=+own",
		"a=%own_1&x-api-keys=1&xapikey=2": "a=%own_1&x-api-keys=1&xapikey=2",
		"jobname=a%2A&limit=5&a=1;c=%z":   "jobname=a%2A&limit=5&a=1;c=%z",
	} {
		if got := StripParams(raw, own); got != want {
			t.Errorf("StripParams(%q) = %q, want %q", raw, got, want)
		}
		if HasParam(raw, own) != (raw != want) {
			t.Errorf("HasParam(%q) = %v", raw, HasParam(raw, own))
		}
	}
	raw := "limit=5&jobname=a%2A&%74okens=1&status=Ended"
	if n := testing.AllocsPerRun(100, func() { _ = StripParams(raw, own) }); n > 2 { // for what is escaped
		t.Errorf("%v allocations", n)
	}
}

func TestStripQueryDoesNotAllocateWithoutAToken(t *testing.T) {
	raw := "limit=5&jobname=a%2A&%74okens=1&status=Ended%20OK"
	if n := testing.AllocsPerRun(100, func() { _ = StripQuery(raw) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// nameIsToken is written unlike the code it judges.
func nameIsToken(param string) bool {
	name, _, _ := strings.Cut(param, "=")
	decoded, err := url.PathUnescape(name) // PathUnescape: a plus is not a letter of the name
	return err == nil && strings.EqualFold(decoded, "token")
}

func pieces(raw, at string) []string {
	return strings.FieldsFunc(raw, func(r rune) bool { return strings.ContainsRune(at, r) })
}

func FuzzStripQuery(f *testing.F) {
	for _, seed := range []string{"", "a=1&token=x", "a;token=1&b", "to%6Ben", "&&;token&;", "%", "token%3", "a=1;c=3&%zz"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got := StripQuery(raw)
		for _, at := range []string{"&", ";", "&;"} {
			if left := pieces(got, at); slices.ContainsFunc(left, nameIsToken) {
				t.Fatalf("%q became %q, split at %q a token is left", raw, got, at)
			}
		}
		want := slices.DeleteFunc(pieces(raw, "&;"), nameIsToken)
		if left := pieces(got, "&;"); !slices.Equal(left, want) {
			t.Fatalf("%q became %q: %q, want %q", raw, got, left, want)
		}
		if !HasToken(raw) && got != raw {
			t.Fatalf("%q became %q without a token", raw, got)
		}
		if HasToken(got) {
			t.Fatalf("%q became %q, which has a token", raw, got)
		}
		if StripQuery(got) != got {
			t.Fatalf("%q is not stable", got)
		}
	})
}
