package caddymodule_test

// The requests of real clients, in the order and with the headers in which
// they were seen on the wire (controlm-api.md, 5.5; the vendor's published
// samples). Host and user are made up.

const loginBody = `{"username": "whoever", "password": "` + canaryKey + `"}`

func clientScripts() []clientScript {
	return []clientScript{
		pythonClientOnPrem(), pythonClientSaaS(), curlScript(), getOutput(), nodeAxios(), ctmOrder(), copiedDocs(),
		monitor("of a monitor that logs in again after one 401, which the gateway mends", []exchange{
			{send: monitorGet + "/config/servers\n" + monitorHeaders, status: 200, has: "ctmprod", fault: "calls=401wordsx1", times: 2},
		}, 2),
		monitor("of a monitor that logs in again after one 401, which may be about rights", []exchange{
			{send: monitorGet + "/config/servers\n" + monitorHeaders, status: 401, has: "not authorized", fault: "calls=401x1"},
			{send: "POST " + clientLogin + "\n" + monitorLogin, body: loginBody, status: 200, has: `"token" : "`, own: true},
			{send: monitorGet + "/config/servers\n" + monitorHeaders, status: 200, has: "ctmprod"},
		}, 1),
		monitor("of a monitor that logs in again after one 500 with the words, which the gateway mends", []exchange{
			{send: monitorGet + "/config/servers\n" + monitorHeaders, status: 200, has: "ctmprod", fault: "calls=500wordsx1", times: 2},
		}, 2),
	}
}

// pythonClientOnPrem is ctm-python-client 2.6.1: it logs in before each build,
// deploy and run, showing the token of the login before, and never logs out.
func pythonClientOnPrem() clientScript {
	const (
		agent  = "\nUser-Agent: OpenAPI-Generator/1.0.0/python"
		common = "Accept-Encoding: identity\nAccept: application/json\nContent-Type: application/json" + agent
		auth   = "\nAuthorization: Bearer {TOKEN}"
	)
	login := exchange{send: "POST " + clientLogin + "\n" + common + auth, body: loginBody, status: 200, has: `"token" : "`, own: true}
	first := login
	first.send = "POST " + clientLogin + "\n" + common
	upload := func(path, field string) exchange {
		form, kind := definitionsForm(field, "temp_4711.json", "application/json", clientFolder)
		return exchange{send: "POST /automation-api" + path + "\nAccept-Encoding: identity\nContent-Type: " + kind + "\nAccept: application/json" + agent + auth,
			body: form, status: 200}
	}
	get := func(target, has string) exchange {
		return exchange{send: "GET " + target + "\n" + common + auth, status: 200, has: has}
	}
	build, deploy, run := upload("/build", "definitionsFile"), upload("/deploy", "definitionsFile"), upload("/run", "jobDefinitionsFile")
	build.has, deploy.has, run.has = `"successfulFoldersCount" : 1`, `"ClientTest/Hello"`, `"statusURI" : "http`
	pages := get("/automation-api/run/jobs/status?limit=5&jobname=a%2A", `"statuses"`)
	return clientScript{name: "of the vendor's Python client", steps: []exchange{
		first, login, build, login, deploy, login, run,
		get("/automation-api/run/status/{RUN}", `"name" : "Hello"`),
		get("{STATUS}", `"name" : "Hello"`),
		pages,
		get("/automation-api/run/job/workbench%3A00001/output?runNo=0", "done"),
		get("/automation-api/run/job/workbench%3A00001/log", "ORDERED JOB"),
		get("/automation-api/run/job/workbench:00001/status", `"jobId" : "workbench:00001"`),
	}}
}

// pythonClientSaaS is the same client with an API key, which it sends as is.
func pythonClientSaaS() clientScript {
	const headers = "Accept: application/json\nUser-Agent: Swagger-Codegen/1.0.0/python\nx-api-key: " + canaryKey
	form, kind := definitionsForm("definitionsFile", "temp_4711.json", "application/json", clientFolder)
	return clientScript{name: "of the vendor's Python client with an API key", steps: []exchange{
		{send: "POST /automation-api/build\nAccept-Encoding: identity\nContent-Type: " + kind + "\n" + headers, body: form, status: 200, has: `"successfulJobsCount" : 1`},
		{send: "GET /automation-api/run/jobs/status?limit=5&jobname=a%2A\nAccept-Encoding: identity\nContent-Type: application/json\n" + headers, status: 200, has: `"statuses"`},
	}}
}

// curlScript is calling_automation_api_using_curl.sh of the vendor's quick
// start.
func curlScript() clientScript {
	const (
		common = "User-Agent: curl/7.88.1\nAccept: */*"
		auth   = common + "\nAuthorization: Bearer {TOKEN}"
	)
	get := func(target, has string) exchange {
		return exchange{send: "GET /automation-api" + target + "\n" + auth, status: 200, has: has}
	}
	pages := get("/run/jobs/status?limit=4&jobname=*", `"nextURI" : "http`)
	pages.status = 206
	form, kind := definitionsForm("definitionsFile", "AutomationAPISampleFlow.json", "application/octet-stream", clientFolder)
	return clientScript{name: "of the vendor's curl script", steps: []exchange{
		{send: "POST " + clientLogin + "\n" + common + "\nContent-Type: application/json", body: `{"username":"whoever","password":"` + canaryKey + `"}`,
			status: 200, has: `"token" : "`, own: true},
		get("/config/servers", "ctmprod"), get("/config/server/ctmprod/hostgroups", "billing_hosts"), pages,
		get("/run/job/workbench:00001/status", `"logURI" : "http`), get("/run/job/workbench:00001/log", "ORDERED JOB"), get("/run/job/workbench:00001/output", "done"),
		{send: "POST /automation-api/run/event/ctmprod\n" + auth + "\nContent-Type: application/json", body: `{"name": "sales-in","date":"0505"}`, status: 200, has: "was added"},
		{send: "DELETE /automation-api/run/event/ctmprod/sales-in/0505\n" + auth, status: 200, has: "was deleted"},
		{send: "POST /automation-api/build\n" + auth + "\nContent-Type: " + kind + "\nExpect: 100-continue", body: form, status: 200, has: `"successfulJobsCount" : 1`},
		{send: "POST " + clientLogout + "\n" + auth, status: 200, has: `"message" : "Successfully logged out`, own: true},
	}}
}

// getOutput is getoutput.py of the vendor's quick start: it follows the
// outputURI, and logs out with a form body and without a header.
func getOutput() clientScript {
	const common = "User-Agent: python-requests/2.28.1\nAccept-Encoding: gzip, deflate\nAccept: */*\nConnection: keep-alive"
	return clientScript{name: "of the vendor's getoutput.py", steps: []exchange{
		{send: "POST " + clientLogin + "\n" + common + "\nContent-Type: application/json", body: `{"password": "` + canaryKey + `", "username": "whoever"}`,
			status: 200, has: `"token" : "`, own: true},
		{send: "GET /automation-api/run/jobs/status\n" + common + "\nAuthorization: Bearer {TOKEN}", status: 200, has: `"outputURI" : "http`},
		{send: "GET {OUTPUT}\n" + common + "\nAuthorization: Bearer {TOKEN}", status: 200, has: "done"},
		{send: "POST " + clientLogout + "\n" + common + "\nContent-Type: application/x-www-form-urlencoded", body: "token={TOKEN}&username=whoever",
			status: 200, has: `"message" : "Successfully logged out`, own: true},
	}}
}

// nodeAxios is node-axios.js of the vendor's quick start: its GET has a body.
func nodeAxios() clientScript {
	const common = "Accept: application/json, text/plain, */*\nContent-Type: application/json"
	const rest = "\nUser-Agent: axios/1.21.0\nAccept-Encoding: gzip, compress, deflate, br\nConnection: close"
	return clientScript{name: "of the vendor's node-axios.js", steps: []exchange{
		{send: "POST " + clientLogin + "\n" + common + rest, body: `{"password":"` + canaryKey + `","username":"whoever"}`, status: 200, has: `"token" : "`, own: true},
		{send: "GET /automation-api/run/jobs/status\n" + common + "\nAuthorization: Bearer {TOKEN}" + rest, body: `{"data":""}`, status: 200, has: `"statuses"`},
	}}
}

// ctmOrder is ctm_order.py of the vendor's community samples: it logs out with
// the token in the query.
func ctmOrder() clientScript {
	const common = "User-Agent: python-requests/2.28.1\nAccept-Encoding: gzip, deflate\nAccept: */*\nConnection: keep-alive"
	return clientScript{name: "of the community's ctm_order.py", steps: []exchange{
		{send: "POST " + clientLogin + "\n" + common + "\nContent-Type: application/json", body: loginBody, status: 200, has: `"token" : "`, own: true},
		{send: "POST /automation-api/run/order\n" + common + "\nAuthorization: Bearer {TOKEN}\nContent-Type: application/json",
			body: `{"ctm": "ctmtest", "folder": "SmokeTest", "jobs": "*"}`, status: 200, has: `"statusURI" : "http`},
		{send: "GET {STATUS}\n" + common + "\nAuthorization: Bearer {TOKEN}", status: 200, has: `"SayHello"`},
		{send: "POST " + clientLogout + "?token={TOKEN}\n" + common + "\nContent-Length: 0", status: 200, has: `"message" : "Successfully logged out`, own: true},
	}}
}

// copiedDocs are calls as printed in the vendor's pages and collections: a
// header that does not exist, a scheme in small letters, a body in a DELETE.
func copiedDocs() clientScript {
	const common = "User-Agent: curl/7.88.1\nAccept: */*"
	return clientScript{name: "copied from the vendor's pages", steps: []exchange{
		{send: "POST " + clientLogin + "\n" + common + "\nContent-Type: application/x-www-form-urlencoded", body: loginBody, status: 200, has: `"token" : "`, own: true},
		{send: "GET /automation-api/config/servers\n" + common + "\nAuthentication: Bearer {TOKEN}", status: 200, has: "ctmprod"},
		{send: "GET /automation-api/config/servers\n" + common + "\nAuthorization: bearer {TOKEN}", status: 200, has: "ctmprod"},
		{send: "GET /automation-api/config/servers\n" + common + "\nx-api-key: {TOKEN}\nAuthorization: Bearer {TOKEN}", status: 200, has: "ctmprod"},
		{send: "GET /automation-api/config/servers\n" + common, status: 200, has: "ctmprod"},
		{send: "POST /automation-api/run/variables/ctmprod\n" + common + "\nContent-Type: application/json", body: `{"variables":[{"%%DAY":"1"}]}`, status: 200},
		{send: "DELETE /automation-api/run/variables/ctmprod\n" + common + "\nContent-Type: application/json", body: `{"variables":["%%DAY"]}`, status: 200, has: "deleted"},
		{send: "GET /automation-api/deploy/jobs?format=json&folder=Nightly*&ctm=ctmprod\n" + common, status: 200, has: "ExtractUsage"},
		{send: "GET /automation-api/run/job/workbench%3A99999/output\n" + common, status: 404, has: `"errors" : [`},
	}}
}

const (
	monitorGet     = "GET /automation-api"
	monitorLogin   = "User-Agent: Datadog Agent/7.60.0\nAccept: */*\nAccept-Encoding: gzip, deflate\nConnection: keep-alive\nContent-Type: application/json"
	monitorHeaders = "User-Agent: Datadog Agent/7.60.0\nAccept: */*\nAccept-Encoding: gzip, deflate\nConnection: keep-alive\nAuthorization: Bearer {TOKEN}"
)

// monitor is the control_m check of Datadog's agent: a login, a look at the
// servers, and on a 401 another login and the same call once more.
func monitor(name string, servers []exchange, logins int) clientScript {
	steps := []exchange{{send: "POST " + clientLogin + "\n" + monitorLogin, body: loginBody, status: 200, has: `"token" : "`, own: true}}
	steps = append(steps, servers...)
	steps = append(steps,
		exchange{send: monitorGet + "/run/jobs/status?limit=10000&jobname=*\n" + monitorHeaders, status: 200, has: `"total" : 9`},
		exchange{send: monitorGet + "/run/job/workbench:00001/log\n" + monitorHeaders, status: 200, has: "ORDERED JOB"})
	return clientScript{name: name, steps: steps, logins: logins}
}
