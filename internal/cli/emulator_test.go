package cli

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"strings"
	"syscall"
	"testing"
)

func TestEmulatorPrintsALineThatLogsIn(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"https": {nil, []string{`user "emuser", password "empass"`, "--cacert"}},
		"http":  {[]string{"--http"}, []string{`user "emuser", password "empass"`, "http://127.0.0.1"}},
		"users of one's own, with quotes": {
			[]string{"--user", "it's:p'w:d", "--user", "b:b", "--api-token", "ci:abc:def"},
			[]string{`user "it's", password "p'w:d"`, `user "b"`, `API token "abc:def", named "ci"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			p := h.start(t, nil, append([]string{"emulator", "--listen", "127.0.0.1:0"}, test.args...)...)
			out := p.waitFor("/session/login")
			for _, want := range test.want {
				if !strings.Contains(out, want) {
					t.Errorf("it does not say %s", want)
				}
			}
			if strings.Contains(name, "quotes") {
				// What stands between '\'' is read by a shell, not by our curl.
				if !strings.Contains(out, `'{"password":"p'\''w:d","username":"it'\''s"}'`) {
					t.Error("the quotes are not quoted")
				}
			} else if status, body := curl(t, curlLines(out)[0]); status != 200 || !strings.Contains(body, `"token" : "`) {
				t.Errorf("got %d %s", status, body)
			} else {
				p.waitFor(`login           200  user "emuser" has session 1`)
			}
			if code, _ := p.end(syscall.SIGINT); code != 0 {
				t.Errorf("it ended with %d", code)
			}
		})
	}
}

func TestEmulatorKeepsTheCAThatItPrints(t *testing.T) {
	h := newHome(t)
	code, first := h.run(t, nil, "emulator", "--print-ca")
	block, rest := pem.Decode([]byte(first))
	if code != 0 || block == nil || len(rest) > 0 {
		t.Fatalf("got %d %s", code, first)
	}
	if ca, err := x509.ParseCertificate(block.Bytes); err != nil || !ca.IsCA {
		t.Errorf("got %v, %v", ca, err)
	}
	if _, second := h.run(t, nil, "emulator", "--print-ca"); second != first {
		t.Error("the second start has another CA")
	}
}

func TestEmulatorRefusesWhatItCannotDo(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	h := newHome(t)
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a fault that is none":       {[]string{"--fault", "login"}, 2, "expected target=action"},
		"an unknown fault":           {[]string{"--fault", "login=teapot"}, 2, "after login="},
		"a user without password":    {[]string{"--user", "c4n4ry-5ecret"}, 2, "--user number 1: expected name:password"},
		"a token without a name":     {[]string{"--api-token", ":c4n4ry-5ecret"}, 2, "--api-token number 1: expected name:token"},
		"a lifetime of nothing":      {[]string{"--token-lifetime", "0s"}, 2, "--token-lifetime"},
		"a duration that is none":    {[]string{"--login-delay", "soon"}, 2, "--login-delay"},
		"a socket":                   {[]string{"--listen", "unix//x"}, 2, "host:port"},
		"an argument":                {[]string{"c4n4ry-5ecret"}, 2, "flags only"},
		"an address that is taken":   {[]string{"--listen", ln.Addr().String()}, 1, "something else listens there already"},
		"a flag that does not exist": {[]string{"--tls"}, 2, "unknown flag: --tls"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out := h.run(t, nil, append([]string{"emulator"}, test.args...)...)
			if code != test.code || !strings.Contains(out, test.want) {
				t.Errorf("got %d %s", code, out)
			}
		})
	}
}

func TestEmulatorTellsOfEveryFaultInItsHelp(t *testing.T) {
	code, out := newHome(t).run(t, nil, "emulator", "--help")
	if code != 0 || !strings.Contains(out, "login=hang") || !strings.Contains(out, "toy server") {
		t.Errorf("got %d", code)
	}
}
