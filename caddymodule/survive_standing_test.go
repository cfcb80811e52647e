package caddymodule_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

// Nobody logs in with an API token, so its calls alone show that it has ended.
func TestAnAPITokenThatHasEndedIsSeenUntilThereIsAnother(t *testing.T) {
	up := startMachine(t, emulator.Options{APITokens: []emulator.APIToken{{Name: "reports", Value: canaryToken, User: "emuser", Roles: []string{"User"}}}})
	file := secretFile(t, canaryToken+"-ended")
	o := &operated{socket: adminSocket(t)}
	o.gateway = startGateway(t, "{\nadmin \"unix/"+o.socket+"|0600\"\ncontrolm {\nenvironment prod {\nendpoint "+up.url+"\ntls_ca_file "+up.caFile+
		"\naccount reports {\napi_token {file."+file+"}\n}\n}\n}\n}\n{ADDR} {\ncontrolm_health\nmetrics /metrics\ncontrolm prod\n}\n")
	want := func(state string, ready int, usable string) {
		t.Helper()
		list := o.ask(http.MethodGet, caddymodule.AdminSessions).sessions(t)
		if len(list) != 1 || list[0].State != state || (list[0].LastError == "") != (ready == 200) {
			t.Errorf("got %+v", list)
		}
		if got := o.get("/readyz?accounts"); got.status != ready || ready != 200 && got.body != "prod/reports: "+state+"\n" {
			t.Errorf("ready: got %d %s", got.status, got.body)
		}
		if line := `caddy_controlm_account_usable{account="reports",environment="prod"} ` + usable; !strings.Contains(o.get("/metrics").body, line) {
			t.Errorf("the metrics do not say %s", line)
		}
	}
	want("standing", 200, "1") // as far as is known
	for range 3 {
		wantReply(t, o.get(surviveGet), 401, "")
	}
	want("ended", 503, "0")
	if n := strings.Count(o.logText(), "the API token is invalid or expired; make a new one"); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
	rewriteSecret(t, file, canaryToken)
	waitUntil(t, "the new one is taken", func() bool { return o.get(surviveGet).status == 200 })
	want("standing", 200, "1")
	t.Run("and a right that is lacking is no end", func(t *testing.T) {
		wireFaults(t, up.Emulator, "calls=401")
		wantReply(t, o.get(surviveGet), 401, "")
		want("standing", 200, "1")
	})
}
