package relay

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// forwarding serves upstream through a Writer and httputil.ReverseProxy, behind a handler that sets headers of its
// own as Caddy does. done gets the Writer after every request.
func forwarding(t *testing.T, upstream http.HandlerFunc, done func(*Writer)) *httptest.Server {
	t.Helper()
	up := httptest.NewServer(upstream)
	t.Cleanup(up.Close)
	target, err := url.Parse(up.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) },
		ModifyResponse: func(res *http.Response) error {
			StripResponse(res.Header)
			if res.StatusCode != http.StatusSwitchingProtocols {
				StripResponseTrailers(res)
			}
			return nil
		},
	}
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "Caddy")
		w.Header().Set("X-Front", "kept")
		w.Header().Set("Vary", "Origin")
		writer := NewWriter(w)
		proxy.ServeHTTP(writer, r)
		if done != nil {
			done(writer)
		}
	}))
	t.Cleanup(gateway.Close)
	return gateway
}

func TestEarlyHintsCostNoHeaderAndCarryNoneOfOurs(t *testing.T) {
	var status int
	var count int64
	gateway := forwarding(t, func(w http.ResponseWriter, _ *http.Request) {
		for _, link := range []string{"</a>", "</b>"} {
			w.Header().Set("Link", link)
			w.Header().Set("Set-Cookie", "canary=1")
			w.WriteHeader(http.StatusEarlyHints)
		}
		w.Header().Del("Link")
		w.Header().Set("Server", "Control-M")
		w.Header().Set("Vary", "Accept")
		_, _ = io.WriteString(w, "hello")
	}, func(w *Writer) { status, count = w.Status, w.Bytes })

	res, body, hints := hinted(t, gateway)
	if body != "hello" {
		t.Fatalf("got %q", body)
	}
	if want := []string{"103 map[Link:[</a>]]", "103 map[Link:[</b>]]"}; !slices.Equal(hints, want) {
		t.Errorf("hints %v, want %v", hints, want)
	}
	if got := res.Header["Server"]; !slices.Equal(got, []string{"Control-M"}) {
		t.Errorf("Server is %q", got)
	}
	if got := res.Header["Vary"]; !slices.Equal(got, []string{"Origin", "Accept"}) {
		t.Errorf("Vary is %q", got)
	}
	if res.Header.Get("X-Front") != "kept" || res.Header["Set-Cookie"] != nil || res.Header["Link"] != nil {
		t.Errorf("header %v", res.Header)
	}
	if status != 200 || count != 5 {
		t.Errorf("status %d, %d bytes", status, count)
	}
}

// hinted is an answer, with the 1xx before it.
func hinted(t *testing.T, gateway *httptest.Server) (res *http.Response, body string, hints []string) {
	t.Helper()
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hints = append(hints, fmt.Sprint(code, h))
		return nil
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", gateway.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res, err = gateway.Client().Do(req); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(content), hints
}

func TestAFloodOfInterimAnswersIsCutAndTheFinalOneComes(t *testing.T) {
	gateway := forwarding(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 1000 {
			w.Header().Set("Link", "</a>")
			w.WriteHeader(http.StatusEarlyHints)
		}
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "hello")
	}, nil)
	res, body, hints := hinted(t, gateway)
	if body != "hello" || res.Header["Link"] != nil || res.Header.Get("X-Front") != "kept" {
		t.Errorf("%q, header %v", body, res.Header)
	}
	if len(hints) != 16 {
		t.Errorf("%d hints came", len(hints))
	}
}

func TestTrailersPassAnnouncedOrNotAndCookiesDoNot(t *testing.T) {
	for _, announce := range []string{"", "Digest", "Set-Cookie", "Digest, Set-Cookie"} {
		gateway := forwarding(t, func(w http.ResponseWriter, _ *http.Request) {
			if announce != "" {
				w.Header().Set("Trailer", announce)
			}
			_, _ = io.WriteString(w, "hello")
			_ = http.NewResponseController(w).Flush()
			for _, name := range []string{"Digest", "Set-Cookie"} {
				if strings.Contains(announce, name) {
					w.Header().Set(name, "canary")
				} else {
					w.Header().Set(http.TrailerPrefix+name, "canary")
				}
			}
		}, nil)
		res, err := gateway.Client().Get(gateway.URL)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.Trailer.Get("Digest") != "canary" || len(res.Trailer) != 1 || res.Header["Set-Cookie"] != nil {
			t.Errorf("announced %q: trailers %v, header %v", announce, res.Trailer, res.Header)
		}
	}
}

func TestAnUpgradedConnectionCarriesBothWays(t *testing.T) {
	status := make(chan int, 1)
	gateway := forwarding(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n"+
			"Server: Control-M\r\nSet-Cookie: canary=1\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = io.WriteString(conn, "heard "+line)
	}, func(w *Writer) { status <- w.Status })

	conn, err := net.Dial("tcp", gateway.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 101 || res.Header.Get("Upgrade") != "echo" || res.Header["Set-Cookie"] != nil ||
		!slices.Equal(res.Header["Server"], []string{"Control-M"}) {
		t.Errorf("%s, %v", res.Status, res.Header)
	}
	if _, err := io.WriteString(conn, "me\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); err != nil || line != "heard me\n" {
		t.Errorf("%q, %v", line, err)
	}
	conn.Close()
	if got := <-status; got != 101 {
		t.Errorf("status %d", got)
	}
}

func TestAnAnswerStreamsAsItComes(t *testing.T) {
	next := make(chan string)
	gateway := forwarding(t, func(w http.ResponseWriter, _ *http.Request) {
		for s := range next {
			_, _ = io.WriteString(w, s)
			_ = http.NewResponseController(w).Flush()
		}
	}, nil)
	go func() { next <- "one" }()
	res, err := gateway.Client().Get(gateway.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	p := make([]byte, 3)
	if _, err := io.ReadFull(res.Body, p); err != nil || string(p) != "one" {
		t.Fatalf("%q, %v", p, err)
	}
	next <- "two"
	close(next)
	if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "two" {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestWriterCommitsItsOwnHeadersOnceOnAnyWayOut(t *testing.T) {
	for name, out := range map[string]func(*Writer){
		"Write":       func(w *Writer) { _, _ = w.Write([]byte("x")) },
		"Flush":       func(w *Writer) { w.Flush() },
		"FlushError":  func(w *Writer) { _ = http.NewResponseController(w).Flush() },
		"WriteHeader": func(w *Writer) { w.WriteHeader(200); w.WriteHeader(500) },
	} {
		below := httptest.NewRecorder()
		below.Header().Set("A", "below")
		below.Header().Set("B", "below")
		w := NewWriter(below)
		w.Header().Set("A", "own")
		if below.Header().Get("A") != "below" {
			t.Errorf("%s: a header went through before the status", name)
		}
		out(w)
		res := below.Result()
		if res.StatusCode != 200 || w.Status != 200 || res.Header.Get("A") != "own" || res.Header.Get("B") != "below" {
			t.Errorf("%s: %d, %v", name, res.StatusCode, res.Header)
		}
		w.Header().Set("Late", "x")
		if below.Header().Get("Late") != "x" || w.Unwrap() != http.ResponseWriter(below) {
			t.Errorf("%s: the map below is not the one in use", name)
		}
	}
}
