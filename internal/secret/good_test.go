package secret

import (
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

// noSecret are texts that nobody can have meant, and what is said of them.
var noSecret = map[string]string{
	canary + "\n# of batch":             "a line break or another control character; expected one line",
	canary + "\r" + canary:              "a line break or another control character; expected one line",
	"\n" + canary:                       "a line break or another control character; expected one line",
	canary + "\x00" + canary:            "a line break or another control character; expected one line",
	canary + "\t":                       "a line break or another control character; expected one line",
	canary + "\x7f":                     "a line break or another control character; expected one line",
	canary + "\u0085" + canary:          "a line break or another control character; expected one line",
	canary + "\xff":                     "it is not UTF-8; expected one line of text in UTF-8",
	"p\xe4ss" + canary:                  "it is not UTF-8; expected one line of text in UTF-8", // Latin-1
	"\xff\xfep\x00a\x00s\x00s\x00w\x00": "it is not UTF-8; expected one line of text in UTF-8", // UTF-16
}

// noHeader are those that are good for a password only.
var noHeader = map[string]string{
	"tök" + canary:         "other characters than printable ASCII; expected what a header can carry",
	canary + "\u200b":      "other characters than printable ASCII; expected what a header can carry",
	canary + "\u00a0token": "other characters than printable ASCII; expected what a header can carry",
}

// wantNoGood fails the test unless err names the source, says what was
// expected, and holds nothing of the content.
func wantNoGood(t *testing.T, err error, source, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), source) || !strings.Contains(err.Error(), words) {
		t.Errorf("got error %v, want one that names %s and says %q", err, source, words)
		return
	}
	wantHidden(t, "error", err.Error())
}

func TestATextThatCannotBeSentIsNoSecret(t *testing.T) {
	const name = "SECRET_TEST_VARIABLE"
	path := filepath.Join(t.TempDir(), "password")
	// try opens text from everywhere that it may stand.
	try := func(text string, header bool, check func(source string, err error)) {
		t.Helper()
		specs := map[string]Spec{
			path:                {Kind: File, Name: path},
			"the config itself": {Kind: Literal, literal: New(text)},
		}
		write(t, path, text)
		if !strings.Contains(text, "\x00") { // which no variable can hold
			t.Setenv(name, text)
			specs[name] = Spec{Kind: Env, Name: name}
		}
		for source, spec := range specs {
			spec.Header = header
			src, err := spec.Open(nil)
			check(source, err)
			if err == nil {
				if v, _ := src.Current(); v.Reveal() != text {
					t.Errorf("%s: %q became %q", source, text, v.Reveal())
				}
				src.Close()
			}
		}
	}
	for text, words := range noSecret {
		for _, header := range []bool{false, true} {
			try(text, header, func(source string, err error) { wantNoGood(t, err, source, words) })
		}
	}
	good := func(source string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", source, err)
		}
	}
	for text, words := range noHeader {
		try(text, true, func(source string, err error) { wantNoGood(t, err, source, words) })
		try(text, false, good)
	}
	for b := byte(' '); b <= '~'; b++ {
		try("a"+string(rune(b))+"b", true, good)
	}
}

func TestAFileThatTurnsIntoNoSecretKeepsTheLastGoodValue(t *testing.T) {
	for text, words := range noSecret {
		synctest.Test(t, func(t *testing.T) {
			w := watchNew(t, "one")
			write(t, w.path, text)
			w.Recheck()
			w.want(t, "one", 1)
			looks(5)
			w.want(t, "one", 1)
			if events := w.heard(); len(events) != 1 || events[0].Changed {
				t.Errorf("heard %+v, want the trouble once", events)
			} else {
				wantNoGood(t, events[0].Err, w.path, words)
			}
			write(t, w.path, "second")
			looks(2)
			w.want(t, "second", 2)
		})
	}
}

func TestAFileMayBeAGoodPasswordAndNoGoodToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		password := watchNew(t, "one")
		token := &watched{path: password.path}
		src, err := Spec{Kind: File, Name: token.path, Header: true}.Open(token.hear)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		token.Source = src
		write(t, password.path, "zweî")
		looks(3)
		password.want(t, "zweî", 2)
		token.want(t, "one", 1)
		if events := password.heard(); len(events) != 1 || !events[0].Changed {
			t.Errorf("the password heard %+v, want one change", events)
		}
		if events := token.heard(); len(events) != 1 {
			t.Errorf("the token heard %+v, want the trouble once", events)
		} else {
			wantNoGood(t, events[0].Err, token.path, "printable ASCII")
		}
	})
}
