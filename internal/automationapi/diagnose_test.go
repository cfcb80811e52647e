package automationapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/secret"
)

// causeOf logs in at base and returns what CauseOf says of it.
func causeOf(t *testing.T, rt http.RoundTripper, base string) (Cause, *Visit) {
	t.Helper()
	c, visit := New(rt, base).Watch()
	_, err := logIn(t, c)
	if err == nil {
		t.Fatal("it has logged in")
	}
	return CauseOf(err, visit), visit
}

func TestTheCauseOfALoginThatDoesNotSucceedIsTold(t *testing.T) {
	plain := serve(t, say(200, goodAnswer))
	plain.Start()
	cert, _ := certificate(t, func(*x509.Certificate) {})
	untrusted := serve(t, say(200, goodAnswer))
	untrusted.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	untrusted.StartTLS()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	answers := func(status int, kind, body string) string {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
		s.Start()
		return s.URL
	}
	const json, html = "application/json", "text/html"
	speaks := func(text string) string {
		return talk(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, text)
			_, _ = io.Copy(io.Discard, conn)
		}).base
	}
	ends := talk(t, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1<<10)) }).base
	noName := &http.Transport{DialContext: (&net.Dialer{Resolver: nameserver(t)}).DialContext}
	for name, row := range map[string]struct {
		rt    http.RoundTripper
		base  string
		want  Cause
		phase Phase
	}{
		"a name that is not":             {noName, "https://em.invalid:8443", NotResolved, Resolving},
		"a port that is closed":          {nil, "https://" + closed.Addr().String(), NotConnected, Connecting},
		"plain http":                     {nil, strings.Replace(plain.URL, "http:", "https:", 1), NoTLS, Securing},
		"another protocol under TLS":     {nil, strings.Replace(speaks("220 smtp\r\n"), "http:", "https:", 1), NoTLS, Securing},
		"a certificate that is unknown":  {nil, untrusted.URL, BadCertificate, Securing},
		"an end in the handshake":        {nil, strings.Replace(ends, "http:", "https:", 1), TLSFailed, Securing},
		"another protocol":               {nil, speaks("220 smtp\r\n"), NotHTTP, Connected},
		"an end before the answer":       {nil, ends, Lost, Connected},
		"a wrong password":               {nil, answers(401, json, `{"errors":[{"message":"Failed to login"}]}`), WrongSecret, Answered},
		"a wrong password with 500":      {nil, answers(500, json, `{"errors":[{"message":"Incorrect username or password"}]}`), WrongSecret, Answered},
		"no right":                       {nil, answers(403, json, `{}`), Denied, Answered},
		"a path that wants a token":      {nil, answers(401, json, `{"errors":[{"message":"Session token is invalid or expired"}]}`), NoLogin, Answered},
		"a web page":                     {nil, answers(200, html, "<html>"), AnotherServer, Answered},
		"an object without a token":      {nil, answers(200, json, "{}"), AnotherServer, Answered},
		"a path that is not":             {nil, answers(404, json, "{}"), AnotherServer, Answered},
		"a server of files":              {nil, answers(501, html, ""), AnotherServer, Answered},
		"a mistake that another made":    {nil, answers(400, html, ""), AnotherServer, Answered},
		"a mistake, says the API":        {nil, answers(400, json, "{}"), Failure, Answered},
		"an internal error":              {nil, answers(500, json, "{}"), Failure, Answered},
		"a balancer without a server":    {nil, answers(503, html, ""), Failure, Answered},
		"a balancer that has had enough": {nil, answers(429, html, ""), Failure, Answered},
	} {
		t.Run(name, func(t *testing.T) {
			rt := row.rt
			if rt == nil {
				rt = &http.Transport{DisableKeepAlives: true}
			}
			got, visit := causeOf(t, rt, row.base)
			if got != row.want || visit.Phase() != row.phase {
				t.Errorf("got cause %d in phase %d, want %d in %d", got, visit.Phase(), row.want, row.phase)
			}
			if trouble := visit.Trouble(); (trouble != nil) != (row.phase < Securing) {
				t.Errorf("the trouble is %v", trouble)
			}
		})
	}
}

func TestTheCauseOfATimeOutIsHowFarItCame(t *testing.T) {
	over := make(chan struct{})
	silent := talk(t, func(net.Conn) { <-over }).base
	t.Cleanup(func() { close(over) }) // before the talk is waited for
	stuck := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	for name, row := range map[string]struct {
		rt   http.RoundTripper
		base string
		want Cause
	}{
		"no connection":   {stuck, "https://em.example.com", NotConnected},
		"no handshake":    {&http.Transport{}, strings.Replace(silent, "http:", "https:", 1), Late},
		"no answer":       {&http.Transport{}, silent, Late},
		"somebody's end":  {&http.Transport{}, silent, GivenUp},
		"nothing to send": {&http.Transport{}, "https://[", Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if row.want == GivenUp {
				ctx, cancel = context.WithCancel(t.Context())
				cancel()
			}
			c, visit := New(row.rt, row.base).Watch()
			_, err := c.LogIn(ctx, user, secret.New(password))
			if got := CauseOf(err, visit); got != row.want {
				t.Errorf("got %d, want %d: %v", got, row.want, err)
			}
		})
	}
	if got := CauseOf(errors.New("another"), &Visit{last: new(trip)}); got != Unknown {
		t.Errorf("got %d for an error of somebody else's", got)
	}
}

func TestTheClocksAreComparedByTheDateOfTheAnswer(t *testing.T) {
	for date, want := range map[string]struct {
		offset time.Duration
		known  bool
	}{
		time.Now().Add(time.Hour).UTC().Format(http.TimeFormat):  {time.Hour, true},
		time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat): {-time.Hour, true},
		"yesterday": {},
	} {
		s, _ := serveTLS(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", date)
			_, _ = io.WriteString(w, goodAnswer)
		})
		c, visit := New(s.Client().Transport, s.URL).Watch()
		if _, known := visit.Offset(); known {
			t.Error("an offset is known before the answer")
		}
		if _, err := logIn(t, c); err != nil {
			t.Fatal(err)
		}
		offset, known := visit.Offset()
		if known != want.known || (offset-want.offset).Abs() > time.Minute {
			t.Errorf("%s: got %v, %t", date, offset, known)
		}
	}
}

func TestAProbeIsClearAboutTheRightToTheAPI(t *testing.T) {
	const expired = `{"errors":[{"message":"Session token is invalid or expired"}]}`
	for name, row := range map[string]struct {
		tokens, servers int // status of the answers
		body            string
		calls           int
		kind            Kind
		status          int
		expired         bool
	}{
		"all is well":                              {200, 0, `{"tokens":[]}`, 1, 0, 0, false},
		"there are no tokens in this release":      {404, 200, `[]`, 2, 0, 0, false},
		"tokens are forbidden, the rest is not":    {403, 200, `[]`, 2, 0, 0, false},
		"all is forbidden":                         {403, 403, `{}`, 2, Refused, 403, false},
		"all that there is is forbidden":           {404, 403, `{}`, 2, Refused, 403, false},
		"the forbidden says more than the missing": {403, 404, `{}`, 2, Refused, 403, false},
		"no credential will do":                    {401, 0, `{}`, 1, Refused, 401, false},
		"the token is unknown":                     {401, 0, expired, 1, Refused, 401, true},
		"the token is unknown, with 500":           {500, 0, expired, 1, Refused, 500, true},
		"the API is in trouble":                    {500, 503, `{}`, 2, Failed, 500, false},
		"it is a web server":                       {200, 200, `<html>`, 2, Failed, 200, false},
		"it is another web server":                 {404, 404, `<html>`, 2, Failed, 404, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
				status := row.tokens
				if strings.HasSuffix(r.URL.Path, "/config/servers") {
					status = row.servers
				}
				w.WriteHeader(status)
				_, _ = io.WriteString(w, row.body)
			})
			err := c.Probe(t.Context(), SessionToken(secret.New(token)))
			if row.kind == 0 && err != nil {
				t.Error(err)
			}
			if row.kind != 0 {
				if e := wantError(t, err, row.kind, "calling the API"); e.Status != row.status || IsExpired(err) != row.expired {
					t.Errorf("got status %d: %v", e.Status, err)
				}
			}
			requests := s.requests()
			if len(requests) != row.calls {
				t.Errorf("%d calls were made", len(requests))
			}
			for _, r := range requests {
				if r.method != http.MethodGet || r.header.Get("Authorization") != "Bearer "+token || r.header.Get("X-Api-Key") != "" {
					t.Errorf("it sent %s %v", r.method, r.header)
				}
			}
		})
	}
}

func TestALookShowsNoCredential(t *testing.T) {
	s, c := serveTLS(t, say(401, "{}"))
	if err := c.Look(t.Context()); err != nil {
		t.Error(err)
	}
	for _, r := range s.requests() {
		if r.header.Get("Authorization") != "" || r.header.Get("X-Api-Key") != "" {
			t.Errorf("it sent %v", r.header)
		}
	}
	s.Close()
	wantError(t, c.Look(t.Context()), Unreachable, "no connection")
}

func TestATokenThatCannotStandInAHeaderIsNotSent(t *testing.T) {
	s, c := serveTLS(t, say(200, "{}"))
	wantError(t, c.Probe(t.Context(), APIToken(secret.New(token+"\r\nX: y"))), Failed, "cannot stand in a header")
	if n := len(s.requests()); n != 0 {
		t.Errorf("%d calls were made", n)
	}
}
