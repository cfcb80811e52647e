package apipath

import "strings"

// operations are the paths of the API as far as they are known: from BMC's specification, the requests of real
// clients, and the CLI's downloads. A path that is missing here works just as well, it only shares a template with its
// neighbours in the log.
var operations = []string{
	"/session/login", "/session/logout", "/session/user/password/update",
	"/authentication/token", "/authentication/token/{token}", "/authentication/tokens", "/authentication/tokenbyvalue",
	"/status", "/usage/jobs", "/usage/report", "/yaml", "/swagger-ui.html", "/ctm-cli.tgz", "/build_time.txt", "/build",

	"/deploy", "/deploy/transform", "/deploy/poll", "/deploy/poll/{id}", "/deploy/jobs", "/deploy/folders", "/deploy/calendars",
	"/deploy/connectionprofiles", "/deploy/connectionprofiles/centralized", "/deploy/connectionprofiles/centralized/status",
	"/deploy/connectionprofile/test", "/deploy/connectionprofile/centralized/test/{type}/{name}/{server}/{agent}",
	"/deploy/jobtype", "/deploy/jobtypes", "/deploy/ai/jobtype", "/deploy/ai/jobtypes", "/deploy/sitestandards",
	"/deploy/sitestandard", "/deploy/sitestandard/{name}", "/deploy/sitestandardpolicies", "/deploy/sitestandardpolicy/{name}",
	"/deploy/fieldRestriction", "/deploy/folder/{server}/{folder}", "/deploy/calendar/{server}/{calendar}",

	"/run", "/run/order", "/run/ondemand", "/run/status/{run}", "/run/jobs/status", "/run/events",
	"/run/event/{server}", "/run/event/{server}/{event}/{date}", "/run/resources", "/run/resource/{server}",
	"/run/resource/{server}/{resource}", "/run/variables/{server}", "/run/alerts", "/run/alerts/status",
	"/run/alerts/stream", "/run/workloadpolicies", "/run/workloadpolicy/{policy}",
	"/run/workloadpolicy/{policy}/activate", "/run/workloadpolicy/{policy}/deactivate", "/run/userDaily/{daily}/run",
	"/run/job/{job}", "/run/job/{job}/status", "/run/job/{job}/output", "/run/job/{job}/log", "/run/job/{job}/statistics",
	"/run/job/{job}/waitingInfo", "/run/job/{job}/get", "/run/job/{job}/modify", "/run/job/{job}/bypass",
	"/run/job/{job}/confirm", "/run/job/{job}/delete", "/run/job/{job}/undelete", "/run/job/{job}/free",
	"/run/job/{job}/hold", "/run/job/{job}/kill", "/run/job/{job}/rerun", "/run/job/{job}/runNow", "/run/job/{job}/setToOk",

	"/config/servers", "/config/server", "/config/server/define", "/config/server/gateway", "/config/server/{server}",
	"/config/server/{server}/ctl", "/config/server/{server}/rename/preview", "/config/server/{server}/hostgroups",
	"/config/server/{server}/agents", "/config/server/{server}/agent", "/config/server/{server}/agent/{agent}",
	"/config/server/{server}/agent/{agent}/params", "/config/server/{server}/agent/{agent}/ping",
	"/config/server/{server}/agent/{agent}/test", "/config/server/{server}/agent/{agent}/csr",
	"/config/server/{server}/agent/{agent}/crt", "/config/server/{server}/agentlesshosts",
	"/config/server/{server}/agentlesshost/{host}/ping", "/config/server/{server}/agentlesshost/{host}/test",
	"/config/server/{server}/runasusers", "/config/server/{server}/runasuser/{agent}/{user}",
	"/config/server/{server}/runasuser/{agent}/{user}/test", "/config/server/{server}/sshkey/{key}/{passphrase}",
	"/config/em/db/space", "/config/secrets", "/config/secret", "/config/secret/{name}", "/config/systemsettings",
	"/config/systemsettings/server/{name}/{value}", "/config/user/{user}/password/adminUpdate",
	"/config/authorization/roles", "/config/authorization/role", "/config/authorization/role/{role}",
	"/config/authorization/users", "/config/authorization/user", "/config/authorization/user/{user}",
	"/config/authorization/user/effectiveRights",

	"/provision/upgrades", "/provision/upgrade/{id}", "/provision/upgrade/{id}/output", "/provision/repository",
	"/reporting/report", "/reporting/report/{report}", "/reporting/reportFilters/{report}", "/reporting/status/{id}",
	"/reporting/download", "/archive/search", "/archive/{job}/log", "/archive/{job}/output",
}

// node is one segment of the operations.
type node struct {
	words     map[string]*node
	parameter *node
	template  string // of the operation that ends here, or ""
	others    string // for what lies below, but is not known
}

var root = func() *node {
	top := &node{words: map[string]*node{}, others: "/*"}
	for _, operation := range operations {
		at, depth, path := top, 0, ""
		for segment := range strings.SplitSeq(operation[1:], "/") {
			depth, path = depth+1, path+"/"+segment
			next := at.words[segment]
			isParameter := segment[0] == '{'
			if isParameter {
				next = at.parameter
			}
			if next == nil {
				next = &node{words: map[string]*node{}, others: at.others}
				if depth <= 2 && !isParameter {
					next.others = path + "/*"
				}
				if isParameter {
					at.parameter = next
				} else {
					at.words[segment] = next
				}
			}
			at = next
		}
		at.template = operation
	}
	return top
}()

// Template returns the path with its parameters replaced by their names, as "/run/job/{job}/output": for logs, where
// parameters can be secrets, and for what is remembered per operation. Of paths that are not known as operations, up
// to two first segments are told if known, and "/*" for the rest. So the set of templates is bounded.
func (p Path) Template() string {
	if len(p.segments) == 0 {
		return "/"
	}
	at := root
	for _, segment := range p.segments {
		next := at.words[segment]
		if next == nil {
			next = at.parameter
		}
		if next == nil {
			return at.others
		}
		at = next
	}
	if at.template == "" {
		return at.others
	}
	return at.template
}
