package access

import (
	"strings"
	"testing"
)

// Which of these are in a named set: r, m, o, p, d for read_only, monitor, order, operate, deploy.
var inSets = map[string]string{
	"GET ": "rmopd", "GET /status": "rmopd", "GET /config/servers": "rmopd", "HEAD /config/servers": "rmopd", "GET /config/authorization/roles": "rmopd",
	"GET /run/jobs/status/": "rmopd", "GET /run/job/ctm:00001/status": "rmopd", "GET /run/alerts/stream": "rmopd", "GET /build_time.txt": "rmopd",
	"GET /run/job/a%2Fb/status": "rmopd", "GET /a/new/operation": "rmopd", "GET /Config/servers": "rmopd", "GET /run/userDaily/x/missing/list": "rmopd",

	"POST /build": "rmopd", "POST /deploy/transform": "rmopd", "POST /deploy/connectionprofile/test": "rmopd", "POST /reporting/report": "rmopd",
	"POST /deploy/connectionprofile/centralized/test/t/n/s/a": "rmopd", "POST /config/em/db/space": "rmopd",
	"POST /config/server/ctm/rename/preview": "rmopd", "POST /config/server/ctm/agent/a/ping": "rmopd", "POST /config/server/ctm/agent/a/test": "rmopd",
	"POST /config/server/ctm/agentlesshost/h/ping": "rmopd", "POST /config/server/ctm/agentlesshost/h/test": "rmopd",
	"POST /config/server/ctm/runasuser/a/u/test": "rmopd",

	"GET /run/job/ctm:00001/output": "rd", "GET /run/job/ctm:00001/log": "rd", "HEAD /run/job/x/output": "rd", "GET /archive/x/log": "rd",
	"GET /archive/x/output": "rd", "GET /archive/ctm/x/output": "rd", "GET /reporting/download": "rd", "GET /ctm-cli.tgz": "rd",
	"GET /provision/upgrade/1/output": "rd", "GET /config/em/agentsLog": "rd", "GET /run/job/x/LOG": "rd", "GET /run/job/x/log.json": "rd",
	"GET /run/job/x%2Foutput": "rd", "GET /run/job/x%2Foutput%3F/status": "rd", "GET /run/job/x%252Flog": "rd", "GET /a/new/joblog/1": "rd",
	"GET /a/new/Download": "rd", "GET /ctm-cli.zip": "rd", "GET /run/.x/job/y/log": "rd",

	"POST /run": "op", "POST /run/order": "op", "POST /run/ondemand": "op", "POST /run/userDaily/x/missing/run": "op",

	"POST /run/job/ctm:00001/hold": "p", "POST /run/job/x/kill": "p", "POST /run/job/x/rerun": "p", "POST /run/job/x/modify": "p",
	"POST /run/job/x/setToOk": "p", "POST /run/event/ctm": "p", "DELETE /run/event/ctm/e/1201": "p", "POST /run/resource/ctm/r": "p",
	"DELETE /run/variables/ctm": "p", "POST /run/alerts/status": "p", "POST /run/workloadpolicy/x/activate": "p",
	"DELETE /run/event/ctm/a%2Fb%23c/1201": "p",

	"POST /deploy": "d", "POST /deploy/jobtype": "d", "POST /deploy/ai/jobtype": "d",

	"DELETE /deploy/folder/ctm/f": "", "POST /deploy/sitestandard/x": "", "DELETE /deploy/calendar/x": "", "POST /run/workloadpolicies": "",
	"POST /config/server": "", "POST /config/server/ctm/ctl": "", "DELETE /config/server/ctm": "", "PUT /config/server/ctm/failover": "",
	"POST /config/secret": "", "POST /provision/upgrade/install": "", "DELETE /config/server/ctm/agent/a": "", "POST /config/systemsettings": "",
	"POST /a/new/operation": "", "PATCH /run/order": "", "PURGE /status": "", "get /status": "", "OPTIONS /status": "", "PUT /run/order": "",
	"POST /Run/order": "", "POST /run%2Forder": "", "POST /run/order.json": "", "POST /": "", "POST /run/job/x/hold.": "",
	"POST /config/server/ctm%2Fctl%3F/rename/preview": "", "POST /config/server/x/agent/y%2Fdisable%23/ping": "",
	"POST /config/server/ctm%252Fctl%253F/rename/preview": "",

	"GET /authentication/tokens": "", "GET /authentication/token/x": "", "POST /authentication/tokenbyvalue": "", "GET /AUTHENTICATION/tokens": "",
	"DELETE /authentication/token/x": "", "POST /session/login": "", "POST /session/logout": "", "GET /session/login": "", "GET /session": "",
	"POST /session/user/password/update": "", "GET /authentication%2Ftokens": "", "POST /config/user/u/password/adminUpdate": "",
	"GET /config/user/u/password/adminUpdate": "", "POST /config/authorization/role": "", "DELETE /config/authorization/user/u": "",
	"PUT /config/authorization/role/r": "", "GET /authentication": "",
}

func TestANamedSetHoldsWhatItsNameSays(t *testing.T) {
	for letter, name := range map[string]string{"r": "read_only", "m": "monitor", "o": "order", "p": "operate", "d": "deploy"} {
		rules := lines(t, "allow "+name)
		for request, sets := range inSets {
			method, below, _ := strings.Cut(request, " ")
			want := strings.Contains(sets, letter)
			if ok, line := rules.Decide(read(t, method, below)); ok != want || ok != (line == "allow "+name) {
				t.Errorf("%s: %s is %v by %q", name, request, ok, line)
			}
		}
	}
}

func TestLinesBesideANamedSetAddToItAndTakeFromIt(t *testing.T) {
	rules := lines(t, "allow read_only\nallow POST /run/order\ndeny * /config/*\nallow GET /authentication/tokens")
	for request, want := range map[string]string{
		"GET /run/jobs/status": "allow read_only", "POST /run/order": "allow POST /run/order", "GET /config/servers": "deny * /config/*",
		"POST /run": "", "GET /authentication/tokens": "allow GET /authentication/tokens", "GET /config": "allow read_only",
	} {
		method, below, _ := strings.Cut(request, " ")
		if ok, line := rules.Decide(read(t, method, below)); line != want || ok != strings.HasPrefix(want, "allow") {
			t.Errorf("%s is %v by %q", request, ok, line)
		}
	}
}
