package emulator

import (
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
)

func TestOperationsAnswerAsDocumented(t *testing.T) {
	l := start(t, Options{})
	token := bearer(l.login())
	for name, test := range map[string]struct {
		method, path, body string
		status             int
		text               string
	}{
		"servers":                           {"GET", "/config/servers", "", 200, `[ {`},
		"agents of a server":                {"GET", "/config/server/ctmprod/agents", "", 200, "billing-app1"},
		"agents by pattern":                 {"GET", "/config/server/ctmprod/agents?agent=ledger*", "", 200, "ledger-db1"},
		"agents of an unknown server":       {"GET", "/config/server/moon/agents", "", 404, "errors"},
		"ping of a living agent":            {"POST", "/config/server/ctmprod/agent/billing-app1/ping", "{}", 200, "is available"},
		"ping of a dead agent":              {"POST", "/config/server/ctmprod/agent/ledger-db1/ping", "{}", 500, "unavailable"},
		"ping of no agent":                  {"POST", "/config/server/ctmprod/agent/moon/ping", "{}", 404, "errors"},
		"host groups":                       {"GET", "/config/server/ctmprod/hostgroups", "", 200, `[ "billing_hosts", "ledger_hosts" ]`},
		"agents of a host group":            {"GET", "/config/server/ctmtest/hostgroup/test_hosts/agents", "", 200, "test-app1"},
		"agents of no host group":           {"GET", "/config/server/ctmtest/hostgroup/moon/agents", "", 404, "errors"},
		"folders as code":                   {"GET", "/deploy/folders?server=ctmprod&folder=Nightly*", "", 200, `"Type" : "Job:Command"`},
		"jobs as code":                      {"GET", "/deploy/jobs?ctm=ctmtest", "", 200, "SayHello"},
		"folders that are not there":        {"GET", "/deploy/folders?folder=moon", "", 404, "errors"},
		"build without a file":              {"POST", "/build", "x", 400, "definitionsFile"},
		"order without a folder":            {"POST", "/run/order", `{"ctm":"ctmprod"}`, 400, "required"},
		"order of an unknown folder":        {"POST", "/run/order", `{"ctm":"ctmprod","folder":"moon"}`, 404, "Folder"},
		"order on an unknown server":        {"POST", "/run/order", `{"ctm":"moon","folder":"NightlyBilling"}`, 404, "Server"},
		"order of jobs that do not match":   {"POST", "/run/order", `{"ctm":"ctmprod","folder":"NightlyBilling","jobs":"moon*"}`, 404, "No job"},
		"status of an unknown run":          {"GET", "/run/status/moon", "", 404, "Run"},
		"an unknown job":                    {"GET", "/run/job/moon", "", 404, "Job"},
		"a job with a raw colon":            {"GET", "/run/job/workbench:00001/status", "", 200, `"jobId" : "workbench:00001"`},
		"a job with an encoded colon":       {"GET", "/run/job/workbench%3A00001/status", "", 200, `"jobId" : "workbench:00001"`},
		"a job whose slash is encoded":      {"GET", "/run/job/a%2Fstatus", "", 404, "Job"},
		"a job as code":                     {"GET", "/run/job/workbench:00001", "", 200, "ExtractUsage"},
		"output is text":                    {"GET", "/run/job/workbench:00001/output?runNo=0", "", 200, "extract_usage.sh"},
		"no output is an error":             {"GET", "/run/job/workbench:00009/output", "", 500, wordsOutput},
		"log is text":                       {"GET", "/run/job/workbench:00001/log", "", 200, "ENDED OK"},
		"an unknown action":                 {"POST", "/run/job/workbench:00001/dance", "", 404, "not found"},
		"an action out of turn":             {"POST", "/run/job/workbench:00001/kill", "", 400, "Ended OK"},
		"a wrong startIndex":                {"GET", "/run/jobs/status?startIndex=-1", "", 400, "numbers"},
		"report filters":                    {"GET", "/reporting/reportFilters/Active", "", 200, "filters"},
		"status of an unknown report":       {"GET", "/reporting/status/moon", "", 404, "Report"},
		"download of an unknown report":     {"GET", "/reporting/download?reportId=moon", "", 404, "Report"},
		"a report without a name":           {"POST", "/reporting/report", "{}", 400, "name"},
		"archive, more rows than the limit": {"GET", "/archive/search?limit=10", "", 206, `"total" : 250`},
		"archive, all rows":                 {"GET", "/archive/search?limit=1000", "", 200, `"returned" : 250`},
		"archived log":                      {"GET", "/archive/ctmprod%3Aa0001/1/log", "", 200, "archived log"},
		"archived output":                   {"GET", "/archive/ctmprod:a0001/1/output", "", 200, "archived output"},
		"archived log of no job":            {"GET", "/archive/moon/1/log", "", 404, "Job"},
		"status of the service is text":     {"GET", "/status", "", 200, "is up"},
		"a path that is not there":          {"GET", "/moon", "", 404, "not found"},
		"a method that is not there":        {"DELETE", "/config/servers", "", 405, "not supported"},
		"a page of the event list":          {"GET", "/run/events?name=moon", "", 200, "[ ]"},
		"a GET with a body":                 {"GET", "/run/jobs/status", `{"data":""}`, 200, "statuses"},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, l.do(test.method, test.path, test.body, token), test.status, test.text)
		})
	}
	want(t, l.do("GET", "^/elsewhere", "", token), 404, "not found")
	want(t, l.do("GET", "^/automation-apix/status", "", token), 404, "not found")
}

func TestWhatNeedsNoTokenAndWhatDoes(t *testing.T) {
	l := start(t, Options{})
	for path, status := range map[string]int{
		"/ctm-cli.tgz": 200, "/build_time.txt": 200, "/yaml": 200, "/swagger-ui.html": 200, "/": 302, "": 302,
		"/status": 401, "/config/servers": 401, "/moon": 401, "/emulator/echo": 401,
	} {
		r := l.do("GET", path, "")
		if r.status != status {
			t.Errorf("%q: got %d, want %d", path, r.status, status)
		}
		if status == 302 && r.header.Get("Location") != l.server.URL()+"/swagger-ui.html" {
			t.Errorf("%q leads to %q", path, r.header.Get("Location"))
		}
	}
	if s := l.e.Stats(); s.Calls != 0 || s.RejectedCalls != 4 {
		t.Errorf("counted %+v", s)
	}
}

func TestSecretsHostGroupsEventsAndVariablesAreKept(t *testing.T) {
	l := start(t, Options{})
	token := bearer(l.login())
	for _, step := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"GET", "/config/secrets", "", 200, "[ ]"},
		{"POST", "/config/secret", `{"name":"a","value":"v"}`, 200, "added"},
		{"POST", "/config/secret", `{"name":"a","value":"v"}`, 400, "exists"},
		{"POST", "/config/secret", `{"name":"b"}`, 400, "required"},
		{"GET", "/config/secrets", "", 200, `[ "a" ]`},
		{"POST", "/config/secret/a", `{"value":"w"}`, 200, "updated"},
		{"POST", "/config/secret/b", `{"value":"w"}`, 404, "not found"},
		{"DELETE", "/config/secret/a", "", 200, "deleted"},
		{"DELETE", "/config/secret/a", "", 404, "not found"},

		{"POST", "/config/server/ctmtest/hostgroup/test_hosts/agent", `{"host":"new1"}`, 200, "new1"},
		{"POST", "/config/server/ctmtest/hostgroup/test_hosts/agent", `{}`, 400, "required"},
		{"DELETE", "/config/server/ctmtest/hostgroup/test_hosts/agent/test-app1", "", 200, `[ {`},

		{"POST", "/run/event/ctmprod", `{"name":"month-end","date":"1121"}`, 200, "added"},
		{"POST", "/run/event/ctmprod", `{"name":"month-end","date":"1121"}`, 200, "added"},
		{"POST", "/run/event/moon", `{"name":"month-end"}`, 404, "Server"},
		{"POST", "/run/event/ctmprod", `{}`, 400, "required"},
		{"GET", "/run/events?ctm=ctmprod", "", 200, "month-end"},
		{"DELETE", "/run/event/ctmprod/month-end/1121", "", 200, "deleted"},
		{"DELETE", "/run/event/ctmprod/month-end/1121", "", 404, "not found"},

		{"POST", "/run/variables/ctmprod", `{"variables":[{"%%A":"1"},{"%%B":"2"}]}`, 200, "updated"},
		{"GET", "/run/variables/ctmprod", "", 200, `"%%A" : "1"`},
		{"DELETE", "/run/variables/ctmprod", `{"variables":["%%A","%%B"]}`, 200, "deleted"},
		{"GET", "/run/variables/ctmprod", "", 200, `"variables" : [ ]`},
		{"GET", "/run/variables/moon", "", 404, "Server"},

		{"DELETE", "/deploy/folder/ctmtest/AlwaysFails", "", 200, "deleted"},
		{"DELETE", "/deploy/folder/ctmtest/AlwaysFails", "", 404, "not found"},
	} {
		r := l.do(step.method, step.path, step.body, token)
		if r.status != step.status || !strings.Contains(r.body, step.text) {
			t.Errorf("%s %s: got %d %q, want %d with %q", step.method, step.path, r.status, r.body, step.status, step.text)
		}
	}
	if r := l.do("GET", "/config/server/ctmprod/hostgroup/test_hosts/agents", "", token); r.status != 404 {
		t.Errorf("a host group is on another server, too: %d", r.status)
	}
}

const definitions = `{"Payroll":{"Type":"Folder","ControlmServer":"ctmprod",
	"Pay":{"Type":"Job:Command","Command":"pay","Host":"h"},"Check":{"Type":"Job:Command","Command":"check","Host":"h"}},
	"Simple":{"Type":"SimpleFolder","One":{"Type":"Job:Script"}},"NotAFolder":{"Type":"ConnectionProfile:AWS"}}`

func TestBuildDeployAndRunTakeUploads(t *testing.T) {
	l := start(t, Options{})
	token := bearer(l.login())
	body, kind := upload(t, "definitionsFile", "jobs.json", definitions)
	want(t, l.do("POST", "/build", body, kind, token), 200, `"successfulJobsCount" : 3`)
	want(t, l.do("GET", "/deploy/folders?folder=Payroll", "", token), 404, "No folder")
	want(t, l.do("POST", "/deploy", body, kind, token), 200, `"deployedJobs" : [ "Payroll/Check", "Payroll/Pay", "Simple/One" ]`)
	want(t, l.do("POST", "/deploy", body, kind, token), 200, `"successfulSmartFoldersCount" : 1`) // again: replaced
	want(t, l.do("GET", "/deploy/folders?folder=Payroll", "", token), 200, `"Command" : "pay"`)
	want(t, l.do("POST", "/run/order", `{"ctm":"ctmprod","folder":"Payroll"}`, token), 200, "statusURI")

	broken, kind := upload(t, "definitionsFile", "jobs.json", `{"Payroll":`)
	want(t, l.do("POST", "/build", broken, kind, token), 200, `"message" : "failed to parse json"`)
	zip, kind := upload(t, "definitionsFile", "jobs.zip", "PK\x03\x04")
	want(t, l.do("POST", "/deploy", zip, kind, token), 200, `"deploymentFile" : "jobs.zip"`)
	large, kind := upload(t, "definitionsFile", "jobs.json", "{"+strings.Repeat(" ", 3*maxParsed)+"}")
	want(t, l.do("POST", "/build", large, kind, token), 200, `"successfulFoldersCount" : 1`)
	wrong, kind := upload(t, "file", "jobs.json", definitions)
	want(t, l.do("POST", "/build", wrong, kind, token), 400, "definitionsFile is missing")
	want(t, l.do("POST", "/build", "not multipart", kind, token), 400, "message")

	run, kind := upload(t, "jobDefinitionsFile", "jobs.json", definitions)
	started := l.do("POST", "/run", run, kind, token).json(t)
	status := l.do("GET", strings.TrimPrefix(started["statusURI"].(string), l.server.URL()), "", token)
	want(t, status, 200, `"total" : 3`)
	badRun, kind := upload(t, "jobDefinitionsFile", "jobs.json", "{")
	want(t, l.do("POST", "/run", badRun, kind, token), 400, "failed to parse json")
	archive, kind := upload(t, "jobDefinitionsFile", "jobs.zip", "PK")
	want(t, l.do("POST", "/run", archive, kind, token), 200, "runId")
}

func TestRowsComeInPagesThatLinkToEachOther(t *testing.T) {
	l := start(t, Options{})
	token := bearer(l.login())
	path, seen := "/run/jobs/status?limit=4&jobname=*&token=secret", map[string]bool{}
	for page := range 3 {
		r := l.do("GET", path, "", token)
		m := r.json(t)
		for _, s := range m["statuses"].([]any) {
			seen[s.(map[string]any)["jobId"].(string)] = true
		}
		next, more := m["nextURI"].(string)
		prev, back := m["prevURI"].(string)
		if more != (page < 2) || back != (page > 0) || (r.status == 206) != more {
			t.Fatalf("page %d: status %d, next %q, previous %q", page, r.status, next, prev)
		}
		if strings.Contains(next+prev, "secret") {
			t.Error("a link repeats the caller's token")
		}
		path = strings.TrimPrefix(next, l.server.URL())
	}
	if len(seen) != 9 {
		t.Errorf("saw %d jobs", len(seen))
	}
	for query, total := range map[string]int{
		"jobname=Extract*": 1, "folder=MonthEnd": 3, "status=Ended%20Not%20OK": 1, "ctm=ctmtest": 0, "jobname=a*": 0, "host=ledger-db1,x": 5,
	} {
		if got := l.do("GET", "/run/jobs/status?"+query, "", token).json(t)["total"]; got != float64(total) {
			t.Errorf("%s: got %v", query, got)
		}
	}
}

func TestAnswersPrintTheURLThatTheClientUsed(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		host    string
		prefix  string
	}{
		"as called":        {Options{}, "gw.example.com:9", "http://gw.example.com:9/automation-api/run/"},
		"another base":     {Options{BasePath: "emapi/"}, "gw.example.com", "http://gw.example.com/emapi/run/"},
		"no base":          {Options{BasePath: "/"}, "gw.example.com", "http://gw.example.com/run/"},
		"a public address": {Options{PublicURL: "https://em.example.com/automation-api/"}, "gw", "https://em.example.com/automation-api/run/"},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.APITokens = []APIToken{{Name: "t", Value: "v", User: "emuser"}}
			e := New(test.options)
			call := func(method, path, body string) string {
				r := httptest.NewRequest(method, e.base+path, strings.NewReader(body))
				r.Host = test.host
				r.Header.Set("X-Api-Key", "v")
				w := httptest.NewRecorder()
				e.ServeHTTP(w, r)
				return w.Body.String()
			}
			order := call("POST", "/run/order", `{"ctm":"ctmtest","folder":"SmokeTest"}`)
			if !strings.Contains(order, `"statusURI" : "`+test.prefix+"status/") {
				t.Errorf("order prints %s", order)
			}
			jobs := call("GET", "/run/jobs/status?limit=1", "")
			for _, want := range []string{`"outputURI" : "` + test.prefix + "job/workbench:00001/output", `"nextURI" : "` + test.prefix + "jobs/status?"} {
				if !strings.Contains(jobs, want) {
					t.Errorf("jobs lack %s: %s", want, jobs)
				}
			}
		})
	}
}

func TestReportsGetReadyAndAreLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New(Options{APITokens: []APIToken{{Name: "t", Value: "v", User: "emuser"}}})
		call := func(method, path, body string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(method, "/automation-api"+path, strings.NewReader(body))
			r.Header.Set("X-Api-Key", "v")
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			return w
		}
		if got := call("POST", "/reporting/report", `{"name":"Active"}`).Body.String(); !strings.Contains(got, `"status" : "RUNNING"`) || strings.Contains(got, "reportURL") {
			t.Errorf("at once: %s", got)
		}
		pass(reportTime)
		if got := call("GET", "/reporting/status/report-00001", "").Body.String(); !strings.Contains(got, "/reporting/download?reportId=report-00001") {
			t.Errorf("later: %s", got)
		}
		w := call("GET", "/reporting/download?reportId=report-00001", "")
		if w.Body.Len() != reportSize || w.Header().Get("Content-Type") != "application/octet-stream" {
			t.Errorf("download: %d bytes of %s", w.Body.Len(), w.Header().Get("Content-Type"))
		}
		if got := call("GET", "/reporting/report/Active", "").Body.String(); !strings.Contains(got, "reportURL") {
			t.Errorf("in one call: %s", got)
		}
	})
}
