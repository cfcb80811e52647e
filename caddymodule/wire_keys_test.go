package caddymodule_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// A client that puts its key where none belongs has shown it to whoever reads
// the logs, if they repeat it.
func TestWireNoLogRepeatsAKeyInTheWrongPlace(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := wireStart(t, "{\n\tlog default {\n\t\toutput file {LOG}\n\t\tlevel DEBUG\n\t}\n}\n"+
		strings.Replace(wireSite(up.URL(), "tls_ca_file "+up.caFile, wireUser(t)), "controlm ", "log\n\tcontrolm ", 1))
	half := ownKey[:40]
	for name, target := range map[string]string{
		"a segment":             "/automation-api/run/job/" + ownKey + "/log",
		"a part of one":         "/automation-api/run/job/x" + half,
		"an encoded one":        "/automation-api/run/job/" + strings.ReplaceAll(ownKey, "_", "%5F"),
		"a token":               "/automation-api/deploy/jobs/" + ownToken,
		"outside the API":       "/" + ownKey,
		"a key in the query":    wireEcho + "?x=" + ownKey,
		"a key's first half":    wireEcho + "?x=" + half,
		"several":               wireEcho + "/" + ownKey + "?" + ownKey + "=" + ownKey,
		"a path that is none":   "/automation-api/../" + ownKey,
		"a key before the host": "http://nightly:" + shownKey + "@{HOST}" + wireEcho,
		"one of ours there":     "http://nightly:" + ownKey + "@{HOST}" + wireEcho,
	} {
		got := g.rawCall("POST", target, "X-Request-Id: "+ownKey, "Content-Length: 0", "\r\n")
		if got.header.Get("X-Request-Id") == "" || strings.Contains(got.header.Get("X-Request-Id"), ownKey) {
			t.Errorf("%s: got %d, id %q", name, got.status, got.header.Get("X-Request-Id"))
		}
	}
	wireEventually(t, "both logs have a line of each call", func() bool {
		log := readLog(t, g.log)
		return strings.Count(log, `"handled request"`) >= 11 && strings.Count(log, `"logger":"controlm.audit"`) >= 11
	})
	for line := range strings.Lines(readLog(t, g.log)) {
		if holdsKey(line) || strings.Contains(line, half[10:]) {
			t.Errorf("a log shows a key: %s", line)
		}
	}
}

func TestWireAQueryThatOnlyLooksLikeAKeyGoesOn(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, wireSite(up.URL(), "tls_ca_file "+up.caFile, wireUser(t)))
	for query, want := range map[string]string{
		"?jobname=ctmgate_nightly*&limit=5":               "jobname=ctmgate_nightly*&limit=5",
		"?ctmgate_=1&ctmgt_x=2":                           "ctmgate_=1&ctmgt_x=2",
		"?x-api-key=1&apikey=2":                           "x-api-key=1&apikey=2",
		"?folder=" + ownKey[:30]:                          "folder=" + ownKey[:30],
		"?a=1&b=" + ownKey + "&c=3":                       "a=1&c=3",
		"?b=" + strings.Replace(ownToken, "_", "%5f", 1):  "",
		"?token=1&a=%2A;b=" + ownKey + "&jobname=ctmgate": "a=%2A&jobname=ctmgate",
	} {
		got := g.do(http.MethodGet, wireEcho+query, nil, nil).echoed(t)
		if _, arrived, _ := strings.Cut(got.Target, "?"); arrived != want {
			t.Errorf("%s: upstream got the query %q, want %q", query, arrived, want)
		}
	}
}
