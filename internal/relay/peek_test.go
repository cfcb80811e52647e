package relay

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

const expiredBody = `{"errors":[{"message":"Session token is invalid or expired"}]}`

func answer(status int, body io.Reader) (*http.Response, *source) {
	src := &source{Reader: body}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: src, ContentLength: -1}, src
}

func zipped(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPeekExpiredKnowsTheWordsInEveryLayout(t *testing.T) {
	huge := strings.Repeat("x", 1<<20)
	for _, c := range []struct {
		name, body string
		want       bool
	}{
		{"compact", expiredBody, true},
		{"spaced", " {\r\n\t\"errors\" : [ {\n \"message\" : \"Session token is invalid or expired\" } ] }\n", true},
		{"other letters and a longer text", `{"errors":[{"message":"SESSION Token is invalid or EXPIRED, log in"}]}`, true},
		{"a long text", `{"errors":[{"message":"Session token is invalid or expired` + huge, true},
		{"cut off after the words", `{"errors":[{"message":"Session token is invalid or expired`, true},
		{"escaped letters", `{"err\u006frs":[{"message":"\u0053ession token is invalid or expired"}]}`, true},
		{"other members first", `{"a":{"errors":[1,"}]"]},"b":[[{}],"\"",-1.5e3,null],"errors":[{"id":"7","line":3,"x":[{}],` +
			`"message":"Session token is invalid or expired"}]}`, true},
		{"the words in the second error", `{"errors":[{"message":"no"},{"message":"Session token is invalid or expired"}]}`, false},
		{"the words later in the text", `{"errors":[{"message":"Your Session token is invalid or expired"}]}`, false},
		{"the words in another member", `{"errors":[{"id":"Session token is invalid or expired","message":"no"}]}`, false},
		{"the words outside errors", `{"message":"Session token is invalid or expired"}`, false},
		{"a nested list", `{"x":{"errors":[{"message":"Session token is invalid or expired"}]}}`, false},
		{"cut off in the words", `{"errors":[{"message":"Session token is invalid`, false},
		{"the text ends in the words", `{"errors":[{"message":"Session token is invalid"}]}`, false},
		{"an empty list", `{"errors":[]}`, false},
		{"no list", `{"errors":"Session token is invalid or expired"}`, false},
		{"no text", `{"errors":[{"message":7}]}`, false},
		{"a list on top", `[` + expiredBody + `]`, false},
		{"nothing", ``, false},
		{"text", `Session token is invalid or expired`, false},
		{"a page", "<html>" + expiredBody, false},
		{"a bare name", `{errors:[{"message":"Session token is invalid or expired"}]}`, false},
		{"beyond what is read", `{"pad":"` + huge + `",` + expiredBody[1:], false},
		{"just within what is read", `{"pad":"` + strings.Repeat("x", 16_000) + `",` + expiredBody[1:], true},
		{"an odd escape", `{"errors":[{"message":"\u00zz"}]}`, false},
		{"another letter", `{"errors":[{"message":"\u015eession token is invalid or expired"}]}`, false},
	} {
		for _, form := range []string{"", "gzip"} {
			t.Run(c.name+form, func(t *testing.T) {
				body := c.body
				if form == "gzip" {
					body = zipped(t, body)
				}
				res, src := answer(500, iotest.HalfReader(strings.NewReader(body)))
				if form != "" {
					res.Header.Set("Content-Encoding", form)
				}
				if got := PeekExpired(res); got != c.want {
					t.Errorf("got %v, want %v", got, c.want)
				}
				if all, err := io.ReadAll(res.Body); err != nil || string(all) != body {
					t.Errorf("the body came out as %d bytes of %d, %v", len(all), len(body), err)
				}
				if err := res.Body.Close(); err != nil || !src.closed {
					t.Errorf("close: %v, closed %v", err, src.closed)
				}
				if got := IsExpired(401, strings.NewReader(c.body)); got != c.want {
					t.Errorf("IsExpired: got %v, want %v", got, c.want)
				}
			})
		}
	}
}

func TestPeekLooksOnlyAtItsOwnStatus(t *testing.T) {
	for _, status := range []int{200, 400, 401, 403, 500, 502} {
		for name, f := range map[string]func(*http.Response) bool{"500": PeekExpired, "401": PeekUnauthorized} {
			res, src := answer(status, strings.NewReader(expiredBody))
			want := name == "500" && status == 500 || name == "401" && status == 401
			if got := f(res); got != want || (src.reads > 0) != want {
				t.Errorf("status %d for %s: %v after %d reads", status, name, got, src.reads)
			}
		}
	}
}

func TestPeekReadsNoFurtherThanItNeeds(t *testing.T) {
	for body, want := range map[string]bool{
		`{"errors":[{"message":"Session token is invalid or expired`: true,
		`{"errors":[{"message":"Sorry`:                               false,
		`<`:                                                          false,
	} {
		stream, w := io.Pipe()
		go io.WriteString(w, body) //nolint:errcheck // the rest never comes: to read on would hang
		res, _ := answer(500, stream)
		if got := PeekExpired(res); got != want {
			t.Errorf("%s: got %v", body, got)
		}
	}
	res, src := answer(500, iotest.OneByteReader(strings.NewReader(strings.Repeat(" ", 1<<20))))
	if PeekExpired(res) || src.reads > mostPeeked {
		t.Errorf("%d bytes were read", src.reads)
	}
}

func TestPeekPassesOnHowTheBodyBroke(t *testing.T) {
	broken := errors.New("connection reset")
	res, _ := answer(500, io.MultiReader(strings.NewReader(`{"err`), iotest.ErrReader(broken)))
	if PeekExpired(res) {
		t.Error("half a word was enough")
	}
	if all, err := io.ReadAll(res.Body); string(all) != `{"err` || !errors.Is(err, broken) {
		t.Errorf("got %q, %v", all, err)
	}
}

func FuzzPeekExpired(f *testing.F) {
	for _, seed := range []string{expiredBody, "", "{", `{"errors":[{"message":"\u`, "\x1f\x8b\x08", zipped(f, expiredBody)} {
		f.Add([]byte(seed), 3, true)
	}
	f.Fuzz(func(t *testing.T, body []byte, pad int, gzipped bool) {
		body = append(bytes.Repeat([]byte(" "), max(0, pad)%40_000), body...)
		res, src := answer(500, bytes.NewReader(body))
		if gzipped {
			res.Header.Set("Content-Encoding", "gzip")
		}
		expired := PeekExpired(res)
		if expired && !gzipped && !bytes.Contains(body, []byte("{")) {
			t.Fatal("that was no JSON")
		}
		if len(body)-src.Reader.(*bytes.Reader).Len() > mostPeeked {
			t.Fatal("too much was read")
		}
		if all, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(all, body) {
			t.Fatalf("the body changed: %v", err)
		}
	})
}
