package relay

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

const ownBase = "http://localhost:8080/prod/automation-api"

var upstreamBases = []string{
	"https://em:8443/automation-api", "https://em2/automation-api/", "https://ctm.example.com", "https://ctm.example.com/deep/automation-api",
	"http://[::1]:80/automation-api",
}

func rewriterOf(t testing.TB, bases ...string) *Rewriter {
	t.Helper()
	rw, err := NewRewriter(bases)
	if err != nil {
		t.Fatal(err)
	}
	return rw
}

func rewriteAll(t testing.TB, rw *Rewriter, src io.Reader, own string) string {
	t.Helper()
	body := rw.Body(io.NopCloser(src), own)
	got, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	body.Close()
	return string(got)
}

func TestBodyRewritesTheBaseAtTheBeginningOfAString(t *testing.T) {
	rw := rewriterOf(t, upstreamBases...)
	for _, c := range []struct{ name, body, want string }{
		{"a URL", `{"statusURI": "https://em:8443/automation-api/run/status/1"}`, `{"statusURI": "` + ownBase + `/run/status/1"}`},
		{"the base alone", `["https://em:8443/automation-api"]`, `["` + ownBase + `"]`},
		{"a query", `["https://em:8443/automation-api?a=1"]`, `["` + ownBase + `?a=1"]`},
		{"a fragment", `["https://em:8443/automation-api#a"]`, `["` + ownBase + `#a"]`},
		{"a longer word", `["https://em:8443/automation-apiX"]`, ``},
		{"a longer port", `["https://em:84431/automation-api"]`, ``},
		{"another path", `["https://em:8443/ControlM/#Neighborhood"]`, ``},
		{"another case in the path", `["https://em:8443/Automation-API"]`, ``},
		{"another case in scheme and host", `["HttpS://EM:8443/automation-api/x"]`, `["` + ownBase + `/x"]`},
		{"another port", `["https://em/automation-api/x"]`, ``},
		{"another scheme", `["http://em:8443/automation-api/x"]`, ``},
		{"userinfo", `["https://ctm.example.com@evil/x","https://ctm.example.com:1@evil/x"]`, ``},
		{"the default port written out", `["https://em2:443/automation-api/x"]`, `["` + ownBase + `/x"]`},
		{"the default port left out", `["http://[::1]/automation-api/x"]`, `["` + ownBase + `/x"]`},
		{"a base without a path", `["https://ctm.example.com/x","https://ctm.example.com"]`, `["` + ownBase + `/x","` + ownBase + `"]`},
		{"the longest base", `["https://ctm.example.com/deep/automation-api/x"]`, `["` + ownBase + `/x"]`},
		{"the shorter base", `["https://ctm.example.com/deep/automation-apix"]`, `["` + ownBase + `/deep/automation-apix"]`},
		{"prose", `{"m":"see https://em:8443/automation-api/x or \"https://em:8443/automation-api/x\""}`, ``},
		{"a backslash before the closing quote", `["\\","https://em:8443/automation-api/x"]`, `["\\","` + ownBase + `/x"]`},
		{"backslashes before a quote", `["\\\"https://em:8443/automation-api/x"]`, ``},
		{"escaped slashes", `["https:\/\/em:8443\/automation-api\/run"]`, `["` + strings.ReplaceAll(ownBase, "/", `\/`) + `\/run"]`},
		{"mixed slashes", `["https:/\/em:8443\/automation-api/run"]`, `["` + ownBase + `/run"]`},
		{"slashes as \\u002f", `["https:\u002f\u002fem:8443/automation-api"]`, ``},
		{"a name of a member", `{"https://em:8443/automation-api/x":1}`, `{"` + ownBase + `/x":1}`},
		{"many", `["https://em:8443/automation-api","https://em:8443/automation-api","http"]`, `["` + ownBase + `","` + ownBase + `","http"]`},
		{"cut off in the base", `["https://em:8443/automation-a`, ``},
		{"cut off behind the base", `["https://em:8443/automation-api`, ``},
		{"cut off in the path", `["https://em:8443/automation-api/x\`, `["` + ownBase + `/x\`},
		{"nothing", ``, ``},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := c.want
			if want == "" {
				want = c.body
			}
			if got := rewriteAll(t, rw, strings.NewReader(c.body), ownBase); got != want {
				t.Errorf("%s\nbecame %s\nwant   %s", c.body, got, want)
			}
			if got := rewriteAll(t, rw, iotest.OneByteReader(strings.NewReader(c.body)), ownBase); got != want {
				t.Errorf("%s\nbyte by byte became %s\nwant   %s", c.body, got, want)
			}
		})
	}
}

func TestBodyRemovesTokensFromTheQueryOfAnUpstreamURL(t *testing.T) {
	rw := rewriterOf(t, upstreamBases...)
	for query, want := range map[string]string{
		`?token=x`:                               ``,
		`?token`:                                 ``,
		`?token=x&b=1`:                           `?b=1`,
		`?a=1&token=x`:                           `?a=1`,
		`?a=1&token=x&b=2`:                       `?a=1&b=2`,
		`?a=1&TOKEN=x&tOkEn=y&b=2#token=z`:       `?a=1&b=2#token=z`,
		`?token=x#frag`:                          `#frag`,
		`?tokenName=x&mytoken=y&token.=1&=token`: `?tokenName=x&mytoken=y&token.=1&=token`,
		`?a=1\u0026token\u003dx\u0026b\u003d2`:   `?a=1\u0026b\u003d2`,
		`?token\u003Dx\u0026b=2`:                 `?b=2`,
		`\u003ftoken=x\u0023f`:                   `\u0023f`,
		`?%74oken=x&%54%4f%4B%45%4e=y&b=1`:       `?b=1`,
		`?\u0074oken=x&t\u006f\u212aen=y&b=1`:    `?b=1`,
		`?\u0025\u0037\u0034oken=x`:              ``,
		`?\token=x&tok\uzen=y`:                   `?\token=x&tok\uzen=y`,
		`?a=1;token=x;b=2`:                       `?a=1;b=2`,
		`?a=1;token=x&b=2`:                       `?a=1&b=2`,
		`?token=\"x\\&b=1`:                       `?b=1`,
		`?a=?token=x`:                            `?a=?token=x`,
		`?`:                                      `?`,
		`?&&`:                                    `?&&`,
		`?token=1&`:                              `?`,
		`/#?token=x`:                             `/#?token=x`,
	} {
		const base = "https://em:8443/automation-api/run"
		body := `{"a":"` + base + query + `","token":"token=x"}`
		for _, own := range []string{ownBase, ""} {
			whole := `{"a":"` + base + want + `","token":"token=x"}`
			if own != "" {
				whole = strings.Replace(whole, "https://em:8443/automation-api", own, 1)
			}
			if got := rewriteAll(t, rw, strings.NewReader(body), own); got != whole {
				t.Errorf("%s\nbecame %s\nwant   %s", body, got, whole)
			}
			if got := rewriteAll(t, rw, iotest.OneByteReader(strings.NewReader(body)), own); got != whole {
				t.Errorf("%s\nbyte by byte became %s\nwant   %s", body, got, whole)
			}
		}
	}
}

func TestLocationRewritesTheBaseAndRemovesTokens(t *testing.T) {
	rw := rewriterOf(t, upstreamBases...)
	for value, want := range map[string]string{
		"https://em:8443/automation-api":                        ownBase,
		"https://em:8443/automation-api/swagger-ui.html":        ownBase + "/swagger-ui.html",
		"HTTPS://EM2:443/automation-api/?token=x&b=1#f":         ownBase + "/?b=1#f",
		"https://em:8443/automation-api?token=x":                ownBase,
		"https://ctm.example.com/deep/automation-api/x?token=1": ownBase + "/x",
		"https://em:8443/automation-api#?token=x":               ownBase + "#?token=x",
		"https://em:8443/automation-apiX?token=x":               "https://em:8443/automation-apiX?token=x",
		`https:\/\/em:8443/automation-api`:                      `https:\/\/em:8443/automation-api`,
		"/automation-api/x?token=x":                             "/automation-api/x?token=x",
		"":                                                      "",
	} {
		if got := rw.Location(value, ownBase); got != want {
			t.Errorf("%s became %s, want %s", value, got, want)
		}
	}
	if got := rw.Location("HTTPS://em2/automation-api/x?token=1", ""); got != "HTTPS://em2/automation-api/x" {
		t.Errorf("without an own base it became %s", got)
	}
}

func TestNewRewriterRefusesWhatIsNoBaseWithoutRepeatingIt(t *testing.T) {
	for _, raw := range []string{
		"", "em:8443", "/automation-api", "ftp://em/canary", "https://", "https://:8443/canary", "https://u:canary@em/x", "https://em/canary?", "https://em/x?canary",
		"https://em/x#canary", "https://em/%zzcanary", `https://e"m/canary`, "https://em/" + strings.Repeat("canary", 200),
	} {
		_, err := NewRewriter([]string{"https://em", raw})
		if err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "base URL 2 of 2") {
			t.Errorf("%q gave %v", raw, err)
		}
	}
}

func TestBodyWritesAnOwnBaseThatCannotEndTheString(t *testing.T) {
	rw := rewriterOf(t, upstreamBases...)
	for _, slash := range []string{"/", `\/`} {
		own := "http://a\",\"b\\\x00\n\x7f/x"
		body := strings.ReplaceAll(`["https://em:8443/automation-api/y"]`, "/", slash)
		var got []string
		if err := json.Unmarshal([]byte(rewriteAll(t, rw, strings.NewReader(body), own)), &got); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, []string{own + "/y"}) {
			t.Errorf("got %q", got)
		}
	}
}

// script is a source whose reads give these pieces one after the other, then err.
type script struct {
	pieces []string
	err    error
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.pieces) == 0 {
		return 0, s.err
	}
	n := copy(p, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; s.pieces[0] == "" {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

func TestBodyHandsOnWhatCameButForWhatMayBeginAMatch(t *testing.T) {
	rw := rewriterOf(t, "https://em/api")
	cause := errors.New("the connection broke")
	src := &script{err: cause, pieces: []string{
		`{"a" : "some text`, ` and more", "b":"HTT`, `P is a protocol", "c" : "https://em/ap`, `i/run?a=1&tok`, `en=secret`, `secret&lim`, `it=5&token`,
		`=x", "d":"x\`, `"http`, `s:"`,
	}}
	body := rw.Body(io.NopCloser(src), "http://gw")
	p := make([]byte, 1000)
	for _, want := range []string{
		`{"a" : "some text`, ` and more", "b":`, `"HTTP is a protocol", "c" : `, `"http://gw/run?a=1`, `&lim`, `it=5`, `", "d":"x\`, `"http`, `s:`, `"`,
	} {
		n, err := body.Read(p)
		if err != nil || string(p[:n]) != want {
			t.Fatalf("got %q, %v, want %q", p[:n], err, want)
		}
	}
	for range 2 {
		if n, err := body.Read(p); n != 0 || !errors.Is(err, cause) {
			t.Fatalf("got %d bytes and %v at the end", n, err)
		}
	}
}

func TestBodyGivesWhatItKeptBackBeforeTheError(t *testing.T) {
	rw := rewriterOf(t, "https://em/api")
	cause := errors.New("the connection broke")
	for text, want := range map[string]string{
		`{"a":"https://em/ap`: `{"a":"https://em/ap`, `{"`: `{"`, `"https://em/api/x?tok`: `"http://gw/x?tok`, `"https://em/api/x?a&`: `"http://gw/x?a&`,
		`"https://em/api/x\u00`: `"http://gw/x\u00`, `"https://em/api/x?token=secr`: `"http://gw/x`,
	} {
		for _, size := range []int{1, 1000} {
			body := rw.Body(io.NopCloser(&script{pieces: []string{text}, err: cause}), "http://gw")
			var got []byte
			var err error
			for p := make([]byte, size); err == nil; {
				var n int
				n, err = body.Read(p)
				got = append(got, p[:n]...)
			}
			if string(got) != want || !errors.Is(err, cause) {
				t.Errorf("%s became %s and %v, want %s", text, got, err, want)
			}
		}
	}
}

// blocked is a source whose reads wait for Close.
type blocked struct {
	entered, closed chan struct{}
}

func (b *blocked) Read([]byte) (int, error) { close(b.entered); <-b.closed; return 0, io.ErrClosedPipe }
func (b *blocked) Close() error             { close(b.closed); return nil }

func TestCloseEndsAReadThatIsUnderWay(t *testing.T) {
	src := &blocked{entered: make(chan struct{}), closed: make(chan struct{})}
	body := rewriterOf(t, upstreamBases...).Body(src, ownBase)
	result := make(chan error)
	go func() {
		_, err := body.Read(make([]byte, 100))
		result <- err
	}()
	<-src.entered
	if err := errors.Join(body.Close(), body.Close()); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the read ended with %v", err)
	}
	if n, err := body.Read(make([]byte, 100)); n != 0 || !errors.Is(err, errBodyClosed) {
		t.Errorf("after closing: %d bytes, %v", n, err)
	}
}

func TestBodiesThatAreClosedWhileBeingReadShareNoBuffer(t *testing.T) {
	rw := rewriterOf(t, upstreamBases...)
	var all sync.WaitGroup
	for i := range 100 {
		text := strings.Repeat(`"`+strings.Repeat(string(rune('a'+i%26)), 50)+`https:",`, 3000)
		body := rw.Body(io.NopCloser(strings.NewReader(text)), ownBase)
		all.Go(func() {
			got, err := io.ReadAll(body)
			if !strings.HasPrefix(text, string(got)) || err != nil && !errors.Is(err, errBodyClosed) {
				t.Errorf("body %d: foreign bytes, or %v", i, err)
			}
		})
		all.Go(func() { body.Close() })
	}
	all.Wait()
}

func TestBodyAllocatesNothingThatGrowsWithIt(t *testing.T) {
	rw := rewriterOf(t, upstreamBases...)
	text := strings.Repeat(`{"statusURI":"https://em:8443/automation-api/run/status/1?token=x&b=2","logURI":"https:\/\/em2\/automation-api\/x"}`, 10_000)
	p := make([]byte, 32<<10)
	n := testing.AllocsPerRun(3, func() {
		body := rw.Body(io.NopCloser(strings.NewReader(text)), ownBase)
		for {
			if _, err := body.Read(p); err != nil {
				break
			}
		}
		body.Close()
	})
	if n > 12 {
		t.Errorf("%v allocations", n)
	}
}

func TestPathologicalBodiesTakeLinearTime(t *testing.T) {
	// What takes more than linear time does not come to an end with this much.
	rw := rewriterOf(t, upstreamBases...)
	for unit, want := range map[string]string{
		`"htt`: `"htt`, `"https:`: `"https:`, `:`: `:`, `\`: `\`, `"`: `"`, `\"https:`: `\"https:`, `token=`: `token=`, `"https://em:8443/automation-ap`: `"https://em:8443/automation-ap`,
		`"https://em:8443/automation-api`: ``, `"https://em:8443/automation-api?token=`: ``, `"https://em:8443/automation-api?a&token=1"`: `"` + ownBase + `?a"`,
	} {
		text := strings.Repeat(unit, 2<<20/len(unit))
		got := rewriteAll(t, rw, strings.NewReader(text), ownBase)
		if want != "" && got != strings.Repeat(want, 2<<20/len(unit)) {
			t.Errorf("many %s did not become many %s", unit, want)
		}
		few := strings.Repeat(unit, 40_000/len(unit)) // more than a buffer
		got = rewriteAll(t, rw, strings.NewReader(few), ownBase)
		if slow := rewriteAll(t, rw, iotest.OneByteReader(strings.NewReader(few)), ownBase); slow != got {
			t.Errorf("many %s byte by byte became something else", unit)
		}
		const inURL = `"https://em:8443/automation-api?`
		got = rewriteAll(t, rw, strings.NewReader(inURL+strings.ReplaceAll(text, `"`, "")), ownBase)
		if !strings.HasPrefix(got, `"`+ownBase) {
			t.Errorf("many %s in a query: the base stayed", unit)
		}
	}
}
