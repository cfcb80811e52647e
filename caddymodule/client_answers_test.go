package caddymodule_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// answerWith is the path of a call that is answered as told: see the
// emulator's aid of that name.
func answerWith(status int, kind, body string, headers ...string) string {
	q := url.Values{"status": {strconv.Itoa(status)}, "header": headers}
	if kind != "" {
		q.Set("type", kind)
		q.Set("body", body)
	}
	return "/automation-api/emulator/answer?" + q.Encode()
}

func TestClientAnswersAreRewrittenWhereTheyAreJSON(t *testing.T) {
	const jsonKind, session = "application/json", "E14A4F8E45406977B31A1B091E5E0423"
	for _, row := range []struct {
		name, kind, headers string
		body                string // {UP} is upstream's base URL, {UPS} the same with escaped slashes
		on, off             string // what comes back; "" for the body as it is, {GW} and {GWS} are the gateway's
	}{
		{"a URL", jsonKind, "", `{"statusURI" : "{UP}/run/status/1"}`, `{"statusURI" : "{GW}/run/status/1"}`, ""},
		{"a URL in an answer with a charset", "application/json;charset=UTF-8", "", `["{UP}/x"]`, `["{GW}/x"]`, ""},
		{"a URL with escaped slashes", jsonKind, "", `["{UPS}\/x"]`, `["{GWS}\/x"]`, ""},
		{"a token alone in a query", jsonKind, "", `["{UP}/run/job/1/output?token=` + session + `"]`, `["{GW}/run/job/1/output"]`, `["{UP}/run/job/1/output"]`},
		{"a token first", jsonKind, "", `["{UP}/x?token=` + session + `&runNo=0"]`, `["{GW}/x?runNo=0"]`, `["{UP}/x?runNo=0"]`},
		{"a token last", jsonKind, "", `["{UP}/x?runNo=0&token=` + session + `"]`, `["{GW}/x?runNo=0"]`, `["{UP}/x?runNo=0"]`},
		{"a token among others, in capitals", jsonKind, "", `["{UP}/x?a=1&TOKEN=` + session + `&b=%2F"]`, `["{GW}/x?a=1&b=%2F"]`, `["{UP}/x?a=1&b=%2F"]`},
		{"a token behind an escaped ampersand", jsonKind, "", `["{UP}/x?a=1\u0026token=` + session + `"]`, `["{GW}/x?a=1"]`, `["{UP}/x?a=1"]`},
		{"the web interface beside the API", jsonKind, "", `["{ORIGIN}/ControlM/#Neighborhood"]`, "", ""},
		{"another server", jsonKind, "", `["https://elsewhere.example/automation-api/x?token=theirs"]`, "", ""},
		{"a path that only begins like the base", jsonKind, "", `["{UP}2/x"]`, "", ""},
		{"prose", jsonKind, "", `{"outputURI":"Job did not run, see {UP}/x"}`, "", ""},
		{"what is no JSON after all", jsonKind, "", `<a href={UP}/x>`, "", ""},
		{"nothing", jsonKind, "", ``, "", ""},
		{"a log", "text/plain;charset=UTF-8", "", `curl "{UP}/run?token=` + session + `"`, "", ""},
		{"a download", "application/octet-stream", "", `"{UP}/x"`, "", ""},
		{"XML", "application/xml", "", `<a href="{UP}/x"/>`, "", ""},
		{"the specification", "application/x-yaml", "", `host: "{UP}/x"`, "", ""},
		{"JSON in another wrapping", "application/json", "Content-Encoding: gzip", `["{UP}/x"]`, "", ""},
		{"JSON that says it has none", "application/json", "Content-Encoding: identity", `["{UP}/x"]`, `["{GW}/x"]`, ""},
		{"JSON that says so in capitals", "application/json", "Content-Encoding: Identity", `["{UP}/x"]`, `["{GW}/x"]`, ""},
		{"JSON in capitals", "Application/JSON", "", `["{UP}/x"]`, `["{GW}/x"]`, ""},
		{"JSON with a parameter that is none", "application/json; charset", "", `["{UP}/x"]`, `["{GW}/x"]`, ""},
		{"JSON with a parameter twice", "application/json ; charset=a;charset=b", "", `["{UP}/x"]`, `["{GW}/x"]`, ""},
		{"what only begins like JSON", "application/json-seq", "", `["{UP}/x"]`, "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			for words, want := range map[string]string{"rewrite_urls on": row.on, "rewrite_urls off": row.off} {
				up := startClientUpstream(t, emulator.Options{})
				g := startGateway(t, wireSite(up.url, wireUser(t), words))
				fill := strings.NewReplacer("{UP}", up.url, "{GW}", g.url("/automation-api"), "{ORIGIN}", "http://"+up.host,
					"{UPS}", strings.ReplaceAll(up.url, "/", `\/`), "{GWS}", strings.ReplaceAll(g.url("/automation-api"), "/", `\/`))
				if want == "" {
					want = row.body
				}
				var headers []string
				if row.headers != "" {
					headers = []string{row.headers}
				}
				for _, status := range []int{200, 206, 404} {
					got := g.do(http.MethodGet, answerWith(status, row.kind, fill.Replace(row.body), headers...), nil,
						func(r *http.Request) { r.Header.Set("Accept-Encoding", "identity") })
					if got.status != status || got.body != fill.Replace(want) {
						t.Errorf("with %s, got %d %s, want %s", words, got.status, got.body, fill.Replace(want))
					}
				}
			}
		})
	}
}

func TestClientAnswersHaveHeadersThatAreTrue(t *testing.T) {
	up := startClientUpstream(t, emulator.Options{})
	g := startGateway(t, wireSite(up.url, wireUser(t)))
	body := `["` + up.url + `/x"]`
	ask := func(method, kind, content string, headers ...string) reply {
		return g.do(method, answerWith(200, kind, content, headers...), nil, nil)
	}
	t.Run("the length of JSON is not upstream's", func(t *testing.T) {
		got := ask("GET", "application/json", body)
		if length := got.header.Get("Content-Length"); length != "" && length != strconv.Itoa(len(got.body)) {
			t.Errorf("Content-Length is %s for %d bytes", length, len(got.body))
		}
	})
	t.Run("the length of all else is", func(t *testing.T) {
		for _, method := range []string{"GET", "HEAD"} {
			if got := ask(method, "text/plain", body); got.header.Get("Content-Length") != strconv.Itoa(len(body)) {
				t.Errorf("%s: Content-Length is %q", method, got.header.Get("Content-Length"))
			}
		}
	})
	t.Run("a HEAD of JSON tells no length, and its connection goes on", func(t *testing.T) {
		conn := g.dial()
		in := bufio.NewReader(conn)
		target := answerWith(200, "application/json", body, `ETag: "v1"`)
		for _, method := range []string{"HEAD", "GET", "HEAD"} {
			if _, err := conn.Write([]byte(method + " " + target + " HTTP/1.1\r\nHost: " + g.addr + "\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			got := readReply(t, in, method)
			if got.status != 200 || got.header.Get("Etag") != `W/"v1"` || method == "HEAD" && got.header.Get("Content-Length") != "" {
				t.Errorf("%s got %d with the header %v", method, got.status, got.header)
			}
		}
	})
	t.Run("validators of other bytes are weak, digests go", func(t *testing.T) {
		got := ask("GET", "application/json", body, `ETag: "v1"`, "Content-MD5: x", "Digest: sha-256=x", "Accept-Ranges: bytes", "X-Other: kept")
		for name, want := range map[string]string{"Etag": `W/"v1"`, "Content-Md5": "", "Digest": "", "Accept-Ranges": "", "X-Other": "kept"} {
			if got.header.Get(name) != want {
				t.Errorf("%s is %q", name, got.header.Get(name))
			}
		}
		if got := ask("GET", "application/json", body, `ETag: W/"v1"`); got.header.Get("Etag") != `W/"v1"` {
			t.Errorf("a weak ETag became %q", got.header.Get("Etag"))
		}
		got = ask("GET", "text/plain", body, `ETag: "v1"`, "Content-MD5: x", "Accept-Ranges: bytes")
		for name, want := range map[string]string{"Etag": `"v1"`, "Content-Md5": "x", "Accept-Ranges": "bytes"} {
			if got.header.Get(name) != want {
				t.Errorf("of a text, %s is %q", name, got.header.Get(name))
			}
		}
	})
	t.Run("an answer without a body stays one", func(t *testing.T) {
		for _, status := range []int{204, 304} {
			if got := g.get(answerWith(status, "application/json", body, `ETag: "v1"`)); got.status != status || got.body != "" {
				t.Errorf("got %d %s", got.status, got.body)
			}
		}
	})
}

func TestClientRedirectsLeadBackToTheGateway(t *testing.T) {
	const session = "E14A4F8E45406977"
	for _, row := range []struct{ name, location, on, off string }{
		{"to a page of the API", "{UP}/swagger-ui.html", "{GW}/swagger-ui.html", "{UP}/swagger-ui.html"},
		{"to the base", "{UP}", "{GW}", "{UP}"},
		{"with a token among others", "{UP}/x?a=1&token=" + session + "#part", "{GW}/x?a=1#part", "{UP}/x?a=1#part"},
		{"to a path of the API", "/automation-api/x?token=" + session, "/prod/automation-api/x", "/automation-api/x"},
		{"to a path beside the API", "/ControlM/", "/ControlM/", "/ControlM/"},
		{"to a name", "swagger-ui.html", "swagger-ui.html", "swagger-ui.html"},
		{"with a token to a name", "x?token=" + session + "&a=1#part", "x?a=1#part", "x?a=1#part"},
		{"with a token to the same", "?a=1&token=" + session, "?a=1", "?a=1"},
		{"to a path that is no URL", "/automation-api/x%zz?a=1&token=" + session, "/prod/automation-api/x%zz?a=1", "/automation-api/x%zz?a=1"},
		{"to a name that is no URL", "a b%?token=" + session + "#part", "a b%#part", "a b%#part"},
		{"to a name with a colon", "1st:x?token=" + session, "1st:x", "1st:x"},
		{"to a page that is no URL", "{UP}/x%zz?token=" + session, "{GW}/x%zz", "{UP}/x%zz"},
		{"by the same scheme, to what is no URL", "//{HOST}/automation-api/x%zz?token=" + session, "{GW}/x%zz", "{UP}/x%zz"},
		{"by the same scheme", "//{HOST}/automation-api/x", "{GW}/x", "//{HOST}/automation-api/x"},
		{"by the same scheme, with a token", "//{HOST}/automation-api/x?token=" + session, "{GW}/x", "{UP}/x"},
		{"by the same scheme to another server", "//elsewhere.example/automation-api/", "//elsewhere.example/automation-api/", "//elsewhere.example/automation-api/"},
		{"to another server", "https://elsewhere.example/automation-api/", "https://elsewhere.example/automation-api/", "https://elsewhere.example/automation-api/"},
		{"to the web interface", "{ORIGIN}/ControlM/", "{ORIGIN}/ControlM/", "{ORIGIN}/ControlM/"},
	} {
		t.Run(row.name, func(t *testing.T) {
			for words, want := range map[string]string{"rewrite_urls on": row.on, "rewrite_urls off": row.off} {
				up := startClientUpstream(t, emulator.Options{})
				g := startGateway(t, strings.Replace(wireSite(up.url, wireUser(t), words), "{ADDR} {\n", "{ADDR} {\nhandle_path /prod/* {\n", 1)+"\n}")
				fill := strings.NewReplacer("{UP}", up.url, "{GW}", g.url("/prod/automation-api"), "{ORIGIN}", "http://"+up.host, "{HOST}", up.host)
				for _, status := range []int{201, 302, 307} {
					got := g.rawGet("/prod" + answerWith(status, "", "", "Location: "+fill.Replace(row.location))) // Go's client wants a URL
					if got.status != status || got.header.Get("Location") != fill.Replace(want) {
						t.Errorf("with %s, got %d to %s, want %s", words, got.status, got.header.Get("Location"), fill.Replace(want))
					}
				}
			}
		})
	}
}

func TestClientAsksForWhatCanBeRewritten(t *testing.T) {
	up := startClientUpstream(t, emulator.Options{})
	for words, ranged := range map[string]bool{"rewrite_urls on": false, "rewrite_urls off": true} {
		t.Run(words, func(t *testing.T) {
			g := startGateway(t, wireSite(up.url, wireUser(t), words))
			e := g.do(http.MethodGet, wireEcho, nil, func(r *http.Request) {
				r.Header.Set("Range", "bytes=0-9")
				r.Header.Set("If-Range", `"v1"`)
				r.Header.Set("If-None-Match", `W/"v1"`)
				r.Header.Set("Accept-Encoding", "gzip, compress, deflate, br")
			}).echoed(t)
			if got := e.Headers["Accept-Encoding"]; !slices.Equal(got, []string{"identity"}) {
				t.Errorf("upstream was asked for %v", got)
			}
			if (e.Headers["Range"] != nil) != ranged || (e.Headers["If-Range"] != nil) != ranged {
				t.Errorf("upstream was asked for the range %v", e.Headers["Range"])
			}
			if len(e.Headers["If-None-Match"]) != 1 {
				t.Error("a validator of the client's went lost")
			}
		})
	}
}

func TestClientAnswersThatComeCompressedAreNotMangled(t *testing.T) {
	var origin string
	var zipped bytes.Buffer
	up := startFront(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.HasSuffix(r.URL.Path, "/zipped") {
			next.ServeHTTP(w, r)
			return
		}
		zipped.Reset()
		zip := gzip.NewWriter(&zipped)
		_, _ = io.WriteString(zip, `["`+origin+`/x"]`)
		_ = zip.Close()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(zipped.Bytes())
	})
	origin = up.url
	t.Run("by a server that compresses whatever it is asked for", func(t *testing.T) {
		g := startGateway(t, wireSite(up.url, wireUser(t)))
		got := g.do(http.MethodGet, "/automation-api/zipped", nil, asHeader("Accept-Encoding", "gzip"))
		if got.status != 200 || got.body != zipped.String() || got.header.Get("Content-Encoding") != "gzip" ||
			got.header.Get("Content-Length") != strconv.Itoa(zipped.Len()) {
			t.Errorf("got %d %v %q, want %q", got.status, got.header, got.body, zipped.String())
		}
	})
	t.Run("by a transport that asks for it", func(t *testing.T) {
		g := startGateway(t, wireSite(up.url, wireUser(t), "transport http {\n compression on\n }"))
		if got := g.get(wireEcho).echoed(t); !slices.Equal(got.Headers["Accept-Encoding"], []string{"gzip"}) {
			t.Errorf("upstream was asked for %v", got.Headers["Accept-Encoding"])
		}
		got := g.do(http.MethodGet, "/automation-api/zipped", nil, asHeader("Accept-Encoding", "identity"))
		if want := `["` + g.url("/automation-api/x") + `"]`; got.status != 200 || got.body != want || got.header.Get("Content-Encoding") != "" {
			t.Errorf("got %d %v %q, want %q", got.status, got.header, got.body, want)
		}
	})
}
