package apipath

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestProtectedOperationsAreKnownInEveryDisguise(t *testing.T) {
	for _, below := range []string{
		"/session", "/session/", "/session/user/password/update", "/Session/Login", "/SESSION/logout", "/session/login.json",
		"/session/login.", "/session%2Flogin", "/session.x/login", "/session%2flogout/", "/s%65ssion/x", "/session%3Bx/login",
		"/session/login%3Bjsessionid=1", "/%2573ession/login", "/session%252Flogin", "/session%20/login", "/.x/session/login",
		"/session%3Fx/y", "/session%23x", "/%C5%BFession/login", "/sess%C4%B1on/login", "/SESS%C4%B0ON/x",
		"/authentication/token", "/Authentication/tokens/", "/authentication%2Ftoken", "/authentication.json/token/x",
		"/authentication/token.json", "/authentication/tokenbyvalue.", "/authentication",
		"/authent%C4%B1cation/tokens", "/AUTHENT%C4%B0CATION/tokens", "/conf%C4%B1g/user/bob/password/adminUpdate",
		"/config/user/bob/password/adminUpdate", "/config/user/bob/password/ADMINUPDATE.json", "/config%2Fuser/bob/password/adminUpdate",
		"/config/user/a%2Fb/password/adminUpdate", "/config/user/a%2Fb%2Fpassword/adminupdate/", "/config/user/.x/password/adminUpdate",
		"/config%3B%252Fx%2Fuser/a/password/adminUpdate",
	} {
		for _, method := range []string{"GET", "POST", "HEAD"} {
			if !read(t, method, below).Protected() {
				t.Errorf("%s %s is not protected", method, below)
			}
		}
	}
	for _, below := range []string{
		"/config/authorization/role", "/config/Authorization/user/x", "/config%2Fauthorization/role/x", "/config/authorization.json/x",
	} {
		for method, want := range map[string]bool{"GET": false, "HEAD": false, "POST": true, "PUT": true, "DELETE": true, "get": true, "": true} {
			if got := read(t, method, below).Protected(); got != want {
				t.Errorf("%s %s: protected is %v", method, below, got)
			}
		}
	}
}

func TestOrdinaryOperationsAreNotProtected(t *testing.T) {
	for _, below := range []string{
		"", "/", "/run", "/run/session", "/sessions/x", "/config", "/config/users", "/config/user/bob", "/config/user/bob/password",
		"/config/user/bob/password/update", "/deploy/folder/session/authentication", "/config/secret/authorization", "/authentications",
		"/run/job/session%2Flogin", "/config/server/user/password/adminUpdate", "/session-x", "/xsession",
		"/session/login", "/session/login/", "/session/logout", "/session/log%69n",
	} {
		if read(t, "POST", below).Protected() {
			t.Errorf("%s is protected", below)
		}
	}
}

func TestLoginAndLogoutAreOnlyTheExactPaths(t *testing.T) {
	for below, want := range map[string]string{
		"/session/login": "login", "/session/login/": "login", "/session/log%69n": "login", "/session/logout": "logout",
		"/session/user/password/update": "password", "/session/Login": "", "/session%2Flogin": "", "/session/login.json": "",
		"/session/login/x": "", "/session": "", "/session/user/password/update.json": "", "/x/session/login": "",
	} {
		p := read(t, "PATCH", below)
		got := ""
		switch {
		case p.IsLogin():
			got = "login"
		case p.IsLogout():
			got = "logout"
		case p.IsPasswordUpdate():
			got = "password"
		}
		if got != want || p.IsSession() != !strings.HasPrefix(below, "/x") {
			t.Errorf("%s is %q, session %v", below, got, p.IsSession())
		}
	}
}

// container is a lenient servlet container, to ask what Control-M might make of a path. It is written unlike the code
// that it judges.
type container struct {
	decodes     int  // how often the path is decoded
	splitFirst  bool // segments are cut before decoding, so an encoded slash is a character
	paramsFirst bool // path parameters are cut off before decoding
	lastSuffix  bool // only the last suffix is cut off
	keepSuffix  bool
}

func (c container) reads(path string) []string {
	decode := func(s string) string {
		for range c.decodes {
			if decoded, err := url.PathUnescape(s); err == nil {
				s = decoded
			}
		}
		return s
	}
	cutParams := func(s string) string { s, _, _ = strings.Cut(s, ";"); return s }
	if c.paramsFirst {
		parts := strings.Split(path, "/")
		for i := range parts {
			parts[i] = cutParams(parts[i])
		}
		path = strings.Join(parts, "/")
	}
	var parts []string
	if c.splitFirst {
		for part := range strings.SplitSeq(path, "/") {
			parts = append(parts, decode(part))
		}
	} else {
		parts = strings.Split(decode(path), "/")
	}
	var segments []string
	for _, s := range parts {
		s = strings.ToLower(cutParams(s))
		i := strings.Index(s, ".")
		if c.lastSuffix {
			i = strings.LastIndex(s, ".")
		}
		if i >= 0 && strings.Trim(s, ".") != "" && !c.keepSuffix {
			s = s[:i]
		}
		if s != "." && s != ".." {
			s = strings.TrimSuffix(s, ".")
		}
		switch s {
		case "", ".":
		case "..":
			segments = segments[:max(0, len(segments)-1)]
		default:
			segments = append(segments, s)
		}
	}
	return segments
}

// protects is contract 3.4 on segments that are read already.
func protects(method string, s []string) bool {
	switch {
	case len(s) == 0:
		return false
	case s[0] == "session":
		return !slices.Equal(s, []string{"session", "login"}) && !slices.Equal(s, []string{"session", "logout"})
	case s[0] == "authentication":
		return len(s) > 1
	case s[0] != "config" || len(s) < 3:
		return false
	case s[1] == "authorization":
		return method != "GET" && method != "HEAD"
	}
	return s[1] == "user" && len(s) == 5 && s[3] == "password" && s[4] == "adminupdate"
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"/run/jobs/status", "/session/login", "/session/user/password/update", "/authentication/tokens", "/config/authorization/role",
		"/config/user/x/password/adminUpdate", "/../session", "/%2e%2e/session", "/..%2fsession", "/..;/session", "/..;x=1/session",
		"/%252e%252e/session", "/..%5csession", "/%c0%ae%c0%ae/session", "/session%00", "//session", "/./session", "/session.",
		"/session;a=b/login", "/SESSION/Login", "/x?/session", "/%23/session", "/x#/session", "/run/..%3bx/session", "/...json/session",
		"/config%2Fuser/a%2Fb/password/adminUpdate.json", "/%2573ession", "/.x/session", "/a%2F", "/session%252Flogin", "*", "",
		"/config%3B%252Fx%2Fuser/a/password/adminUpdate", "/run/x.%2E/session",
	} {
		f.Add("POST", seed)
		f.Add("GET", seed)
	}
	var containers []container
	for decodes := range 4 {
		for bits := range 16 {
			containers = append(containers, container{decodes, bits&1 > 0, bits&2 > 0, bits&4 > 0, bits&8 > 0})
		}
	}
	f.Fuzz(func(t *testing.T, method, below string) {
		escaped := base + below
		p, err := Read(method, escaped, escaped, base)
		if err != nil {
			return
		}
		if !strings.HasPrefix(escaped, base) || p.Below() != below {
			t.Fatalf("%q was accepted as %q", escaped, p.Below())
		}
		if u, err := url.ParseRequestURI(escaped); err != nil || u.EscapedPath() != escaped || u.RawQuery != "" {
			t.Fatalf("%q would not be sent as judged: %v, %v", escaped, u, err)
		}
		for _, s := range p.Segments() {
			if s == "" || s == "." || s == ".." {
				t.Fatalf("%q has the segments %q", escaped, p.Segments())
			}
		}
		if tmpl := p.Template(); tmpl != "/" && !strings.HasSuffix(tmpl, "*") && !slices.ContainsFunc(operations, func(o operation) bool { return o.path == tmpl }) {
			t.Fatalf("%q has the template %q", escaped, tmpl)
		}
		for _, c := range containers {
			s := c.reads(below)
			if protects(method, s) && !p.Protected() && !p.IsLogin() && !p.IsLogout() {
				t.Fatalf("%s %q is not protected, but %+v reads %q", method, escaped, c, s)
			}
			if len(s) > 0 && s[0] == "session" && !p.IsSession() {
				t.Fatalf("%q is no session path, but %+v reads %q", escaped, c, s)
			}
		}
	})
}
