package relay

import (
	"encoding/json"
	"errors"
	"io"
	"math/rand"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// The reference: slow and written unlike the code it judges. It takes the strings out of valid JSON by json.Decoder.
type reference struct {
	spellings map[string]*regexp.Regexp
	own       string
}

func newReference(own string, spellings ...string) *reference {
	ref := &reference{own: own, spellings: map[string]*regexp.Regexp{}}
	for _, s := range spellings {
		origin := strings.IndexByte(s[len("https://"):]+"/", '/') + len("https://")
		var expr strings.Builder
		for i, c := range s {
			switch {
			case c == '/':
				expr.WriteString(`(?:\\?/)`)
			case i < origin && 'a' <= c && c <= 'z':
				expr.WriteString("[" + string(c) + string(c-'a'+'A') + "]")
			default:
				expr.WriteString(regexp.QuoteMeta(string(c)))
			}
		}
		ref.spellings[s] = regexp.MustCompile(`^"(` + expr.String() + `)(?:["/?#]|\\/|\\u00(?:2[fF]|3[fF]|23))`)
	}
	return ref
}

// body is false when the text is no JSON.
func (ref *reference) body(text string) (string, bool) {
	dec := json.NewDecoder(strings.NewReader(text))
	var out strings.Builder
	for last := 0; ; {
		token, err := dec.Token()
		if err != nil {
			out.WriteString(text[last:])
			return out.String(), errors.Is(err, io.EOF)
		}
		raw := text[last:dec.InputOffset()]
		last = int(dec.InputOffset())
		if _, ok := token.(string); ok {
			quote := strings.IndexByte(raw, '"')
			raw = raw[:quote] + ref.text(raw[quote:])
		}
		out.WriteString(raw)
	}
}

func (ref *reference) text(literal string) string {
	longest, base := "", ""
	for s, expr := range ref.spellings {
		if m := expr.FindStringSubmatch(literal); m != nil && len(s) > len(longest) {
			longest, base = s, m[1]
		}
	}
	if longest == "" {
		return literal
	}
	rest := literal[1+len(base) : len(literal)-1]
	if ref.own != "" {
		_, after, _ := strings.Cut(base, ":")
		if base = ref.own; after[0] == '\\' {
			base = strings.ReplaceAll(base, "/", `\/`)
		}
	}
	return `"` + base + withoutTokens(rest) + `"`
}

var jsonCharacter = regexp.MustCompile(`(?s)\\u[0-9a-fA-F]{4}|\\.|[^\\]`)

// withoutTokens first takes apart and then puts together what follows a base in a literal.
func withoutTokens(rest string) string {
	type part struct{ raw, decoded string }
	cut := func(parts []part, at string) int {
		return slices.IndexFunc(parts, func(p part) bool { return p.decoded != "" && strings.Contains(at, p.decoded) })
	}
	join := func(parts []part) (raw, decoded string) {
		for _, p := range parts {
			raw, decoded = raw+p.raw, decoded+p.decoded
		}
		return raw, decoded
	}
	var parts []part
	for _, raw := range jsonCharacter.FindAllString(rest, -1) {
		var decoded string
		if err := json.Unmarshal([]byte(`"`+raw+`"`), &decoded); err != nil {
			panic(err)
		}
		parts = append(parts, part{raw, decoded})
	}
	end := cut(parts, "#")
	if end < 0 {
		end = len(parts)
	}
	fragment, _ := join(parts[end:])
	mark := cut(parts[:end], "?")
	if mark < 0 {
		return rest
	}
	out, _ := join(parts[:mark])
	separator := parts[mark]
	wrote := false
	for query := parts[mark+1 : end]; ; {
		next := cut(query, "&;")
		param := query
		if next >= 0 {
			param = query[:next]
		}
		raw, decoded := join(param)
		token := nameIsToken(decoded)
		if !token {
			out += separator.raw + raw
			wrote = true
		}
		if next < 0 {
			return out + fragment
		}
		if !token || wrote && separator.decoded != "&" {
			separator = query[next]
		}
		query = query[next+1:]
	}
}

// chopped gives src in pieces as long as the bytes of cuts say, and reads likewise.
func chopped(t testing.TB, rw *Rewriter, text, own string, cuts []byte) string {
	t.Helper()
	src := &script{err: io.EOF}
	rest := text
	for i := 0; len(rest) > 0; i++ {
		n := len(rest)
		if len(cuts) > 0 {
			n = min(n, 1+int(cuts[i%len(cuts)]))
		}
		src.pieces, rest = append(src.pieces, rest[:n]), rest[n:]
	}
	body := rw.Body(io.NopCloser(src), own)
	var got []byte
	for i := 0; ; i++ {
		size := 512
		if len(cuts) > 0 {
			size = 1 + int(cuts[len(cuts)-1-i%len(cuts)])
		}
		p := make([]byte, size)
		n, err := body.Read(p)
		if got = append(got, p[:n]...); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return string(got)
		}
	}
}

var (
	fuzzBases     = []string{"https://em/api", "https://em:8443/api", "http://k", "https://em/api/deep"}
	fuzzSpellings = []string{
		"https://em/api", "https://em:443/api", "https://em:8443/api", "http://k", "http://k:80", "https://em/api/deep", "https://em:443/api/deep",
	}
)

func checkRewrite(t testing.TB, rw *Rewriter, ref *reference, text string, cuts []byte) {
	t.Helper()
	own := ref.own
	got := rewriteAll(t, rw, strings.NewReader(text), own)
	if one := rewriteAll(t, rw, iotest.OneByteReader(strings.NewReader(text)), own); one != got {
		t.Fatalf("%q\nwhole %q\nbyte by byte %q", text, got, one)
	}
	if cut := chopped(t, rw, text, own, cuts); cut != got {
		t.Fatalf("%q\nwhole %q\nin pieces of %v %q", text, got, cuts, cut)
	}
	if want, valid := ref.body(text); valid && got != want {
		t.Fatalf("%q\nbecame %q\nwant   %q", text, got, want)
	}
	if folded := strings.ToLower(text); !strings.Contains(folded, `"http`) && got != text {
		t.Fatalf("%q without a base became %q", text, got)
	}
}

func FuzzRewrite(f *testing.F) {
	rw := rewriterOf(f, fuzzBases...)
	on, off := newReference("http://gw:1/p", fuzzSpellings...), newReference("", fuzzSpellings...)
	for _, seed := range []string{
		`{"a":"https://em/api/x?token=1&b=2"}`, `["https:\/\/em:8443\/api\/x","HTTP://K:80"]`, `["https://em/api/deep?a=1\u0026%74oken\u003d2;c#d"]`, `"\\\"https://em/api"`,
		`["https://em/api/deeper","http://k#?token=1"]`, `["http://k?\u0074oken"] "http://k?` + "to\u212aen" + `=1&"`, `"https://em/api?token="http://k?a;token=1&b`,
	} {
		f.Add(seed, true, []byte{0, 3, 1})
	}
	f.Fuzz(func(t *testing.T, text string, rewrite bool, cuts []byte) {
		ref := off
		if rewrite {
			ref = on
		}
		checkRewrite(t, rw, ref, text, cuts)
	})
}

func TestRandomBodiesMadeOfTellingPiecesAgreeWithTheReference(t *testing.T) {
	rw := rewriterOf(t, fuzzBases...)
	on, off := newReference("http://gw:1/p", fuzzSpellings...), newReference("", fuzzSpellings...)
	random := rand.New(rand.NewSource(1))
	begins := []string{"https://em/api", `https:\/\/em:443\/api`, "HTTPS://eM:8443/api", "http://k", "http:/\\/K:80", "https://em/api/deep", "https://em/ap", `\"http://k`, "http", "x"}
	pieces := []string{
		"/", `\/`, "?", "?", "&", "&", ";", `\u0026`, `\u003B`, "=", `\u003d`, "#", `\u0023`, `\u003f`, "token", "TOKEN", "%74oken", `t\u006fken`, "to\u212aen", "tok", "en", "a", "%", `\\`,
		`\"`, `\n`, `\t`, "http://k", `\ud83d`, ":", "deep",
	}
	pick := func(from []string) string { return from[random.Intn(len(from))] }
	const bodies = 1000
	changed := 0
	for range bodies {
		var text strings.Builder
		text.WriteString("[")
		for i := range 1 + random.Intn(3) {
			if i > 0 {
				text.WriteString(" , ")
			}
			text.WriteString(`"` + pick(begins))
			for range random.Intn(12) {
				text.WriteString(pick(pieces))
			}
			text.WriteString(`"`)
		}
		text.WriteString("]")
		cut := random.Intn(text.Len() + 1)
		cuts := []byte{byte(random.Intn(9)), byte(random.Intn(3))}
		checkRewrite(t, rw, on, text.String(), cuts)
		checkRewrite(t, rw, off, text.String(), cuts)
		checkRewrite(t, rw, on, text.String()[cut:]+pick(begins)+text.String()[:cut], cuts)
		want, valid := on.body(text.String())
		if !valid {
			t.Fatalf("%s is not valid", text.String())
		}
		if want != text.String() {
			changed++
		}
	}
	if changed < bodies/3 {
		t.Errorf("only %d of %d bodies had a base", changed, bodies)
	}
}

func FuzzLocation(f *testing.F) {
	rw := rewriterOf(f, fuzzBases...)
	for _, seed := range []string{"https://em/api/x?token=1&b", "HTTP://K:80", "https://em:8443/apix", "http://k?token#token", "/x", "http://k?&token", "https://em/api/deep/x?a;token"} {
		f.Add(seed)
	}
	loneMark := regexp.MustCompile(`\?(#|$)`)
	f.Fuzz(func(t *testing.T, value string) {
		got := rw.Location(value, "http://gw")
		if strings.ContainsAny(value, "\"\\") || strings.IndexFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
			return // no URL, and not the same in a JSON string
		}
		want := rewriteAll(t, rw, strings.NewReader(`"`+value+`"`), "http://gw")
		want = want[1 : len(want)-1]
		// When only empty parameters are left, the question mark may go or stay.
		if loneMark.ReplaceAllString(got, "$1") != loneMark.ReplaceAllString(want, "$1") {
			t.Fatalf("%q became %q, in a body %q", value, got, want)
		}
	})
}
