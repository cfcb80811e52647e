package caddymodule_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// forwardProxy tunnels with CONNECT, and counts the tunnels.
func forwardProxy(t *testing.T) (url string, tunnels *atomic.Int64) {
	t.Helper()
	tunnels = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "expected CONNECT", http.StatusMethodNotAllowed)
			return
		}
		there, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, "no such host", http.StatusBadGateway)
			return
		}
		defer there.Close()
		w.WriteHeader(http.StatusOK)
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer here.Close()
		tunnels.Add(1)
		var back sync.WaitGroup
		back.Go(func() {
			_, _ = io.Copy(here, there)
			_ = here.Close()
		})
		_, _ = io.Copy(there, here)
		_ = there.Close()
		back.Wait()
	}))
	t.Cleanup(server.Close)
	return server.URL, tunnels
}

// A login has no call whose placeholders could say where the proxy is.
func TestAForwardProxyThatAPlaceholderNamesIsUsedForLoginsAndCalls(t *testing.T) {
	const word = "transport http {\nnetwork_proxy url {env.CTMGATE_TEST_PROXY}\n}"
	up := startUpstream(t, emulator.Options{})
	wantNoSessionLeft(t, up)
	site := up.sidecar("{file."+secretFile(t, canaryPassword)+"}", word)

	proxy, tunnels := forwardProxy(t)
	t.Setenv("CTMGATE_TEST_PROXY", proxy)
	g := startGateway(t, site)
	wantReply(t, g.get("/automation-api/config/servers"), 200, "")
	if tunnels.Load() == 0 {
		t.Error("nothing went through the proxy")
	}
}

func TestAForwardProxyWithoutAURLIsNamedInTheLog(t *testing.T) {
	up := startUpstream(t, emulator.Options{APITokens: []emulator.APIToken{{Name: "a", Value: canaryToken, User: "emuser", Roles: []string{"User"}}}})
	for name, words := range map[string]string{
		"a login": "username emuser\npassword {file." + secretFile(t, canaryPassword) + "}",
		"a call":  "api_token {file." + secretFile(t, canaryToken) + "}",
	} {
		t.Run(name, func(t *testing.T) {
			g := startGateway(t, "{ADDR} {\ncontrolm "+up.URL()+" {\ntls_ca_file "+up.caFile+"\n"+words+
				"\ntransport http {\nnetwork_proxy url {env.CTMGATE_TEST_UNSET}\n}\n}\n}")
			wantReply(t, g.get("/automation-api/config/servers"), 502, "ctmgate.upstream_unreachable")
			if logged := g.logged(); !strings.Contains(logged, "network_proxy: its URL cannot be used") || strings.Contains(logged, "is not as HTTP wants it") {
				t.Error("the log does not say that the proxy is to blame")
			}
		})
	}
}
