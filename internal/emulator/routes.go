package emulator

import (
	"net/http"
	"slices"
	"strings"
)

type route struct {
	method   string // "" is any
	segments []string
	handle   func(*call) answer
	open     bool // needs no token
}

// routes are looked up by their first segment. Within one, fixed words stand
// before parameters: /run/jobs/status is not a job.
var routes = index([]route{
	open(http.MethodGet, "", (*call).root),
	open(http.MethodGet, "yaml", (*call).specification),
	open(http.MethodGet, "swagger-ui.html", (*call).swagger),
	open(http.MethodGet, "ctm-cli.tgz", (*call).cliPackage),
	open(http.MethodGet, "build_time.txt", (*call).buildTime),
	at(http.MethodGet, "status", (*call).serviceStatus),

	open(http.MethodPost, "session/login", (*call).login),
	open(http.MethodPost, "session/logout", (*call).logout),
	at(http.MethodPost, "session/user/password/update", (*call).updatePassword),

	at(http.MethodPost, "authentication/token", (*call).createToken),
	at(http.MethodPut, "authentication/token", (*call).updateToken),
	at(http.MethodGet, "authentication/token/{}", (*call).getToken),
	at(http.MethodDelete, "authentication/token/{}", (*call).deleteToken),
	at(http.MethodGet, "authentication/tokens", (*call).listTokens),
	at(http.MethodPost, "authentication/tokenbyvalue", (*call).tokenByValue),

	at(http.MethodGet, "config/servers", (*call).servers),
	at(http.MethodGet, "config/server/{}/agents", (*call).agents),
	at(http.MethodPost, "config/server/{}/agent/{}/ping", (*call).pingAgent),
	at(http.MethodGet, "config/server/{}/hostgroups", (*call).hostGroups),
	at(http.MethodGet, "config/server/{}/hostgroup/{}/agents", (*call).hostGroupAgents),
	at(http.MethodPost, "config/server/{}/hostgroup/{}/agent", (*call).addToHostGroup),
	at(http.MethodDelete, "config/server/{}/hostgroup/{}/agent/{}", (*call).removeFromHostGroup),
	at(http.MethodGet, "config/secrets", (*call).secrets),
	at(http.MethodPost, "config/secret", (*call).addSecret),
	at(http.MethodPost, "config/secret/{}", (*call).updateSecret),
	at(http.MethodDelete, "config/secret/{}", (*call).deleteSecret),
	at(http.MethodPost, "config/user/{}/password/adminUpdate", (*call).adminUpdatePassword),

	at(http.MethodPost, "build", (*call).build),
	at(http.MethodPost, "deploy", (*call).deploy),
	at(http.MethodGet, "deploy/folders", (*call).deployedFolders),
	at(http.MethodGet, "deploy/jobs", (*call).deployedFolders),
	at(http.MethodDelete, "deploy/folder/{}/{}", (*call).deleteFolder),

	at(http.MethodPost, "run", (*call).runDefinitions),
	at(http.MethodPost, "run/order", (*call).order),
	at(http.MethodGet, "run/status/{}", (*call).runStatus),
	at(http.MethodGet, "run/jobs/status", (*call).jobsStatus),
	at(http.MethodGet, "run/job/{}", (*call).jobDefinition),
	at(http.MethodGet, "run/job/{}/status", (*call).jobStatus),
	at(http.MethodGet, "run/job/{}/output", (*call).jobOutput),
	at(http.MethodGet, "run/job/{}/log", (*call).jobLog),
	at(http.MethodPost, "run/job/{}/{}", (*call).jobAction),
	at(http.MethodGet, "run/events", (*call).events),
	at(http.MethodPost, "run/event/{}", (*call).addEvent),
	at(http.MethodDelete, "run/event/{}/{}/{}", (*call).deleteEvent),
	at(http.MethodGet, "run/variables/{}", (*call).variables),
	at(http.MethodPost, "run/variables/{}", (*call).setVariables),
	at(http.MethodDelete, "run/variables/{}", (*call).deleteVariables),
	at(http.MethodGet, "run/alerts/stream", (*call).alertStream),

	at(http.MethodPost, "reporting/report", (*call).startReport),
	at(http.MethodGet, "reporting/report/{}", (*call).getReport),
	at(http.MethodGet, "reporting/reportFilters/{}", (*call).reportFilters),
	at(http.MethodGet, "reporting/status/{}", (*call).reportStatus),
	at(http.MethodGet, "reporting/download", (*call).downloadReport),
	at(http.MethodGet, "archive/search", (*call).searchArchive),
	at(http.MethodGet, "archive/{}/{}/log", (*call).archivedLog),
	at(http.MethodGet, "archive/{}/{}/output", (*call).archivedOutput),

	at("", "emulator/echo", (*call).echo),
	at(http.MethodGet, "emulator/download", (*call).download),
	at(http.MethodGet, "emulator/open", (*call).openGate),
	at(http.MethodGet, "emulator/hints", (*call).hints),
	at("", "emulator/answer", (*call).answerAsTold),
})

func at(method, path string, handle func(*call) answer) route {
	return route{method: method, segments: splitPattern(path), handle: handle}
}

func open(method, path string, handle func(*call) answer) route {
	r := at(method, path, handle)
	r.open = true
	return r
}

func splitPattern(path string) []string {
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

func index(all []route) map[string][]route {
	byFirst := map[string][]route{}
	for _, r := range all {
		byFirst[first(r.segments)] = append(byFirst[first(r.segments)], r)
	}
	return byFirst
}

func first(segments []string) string {
	if len(segments) == 0 {
		return ""
	}
	return segments[0]
}

// findRoute answers the route and what its {} stand for; without a route,
// the methods that the path does take.
func findRoute(method string, segments []string) (found *route, params, allowed []string) {
	candidates := routes[first(segments)]
	for i := range candidates {
		r := &candidates[i]
		values, matches := r.match(segments)
		if !matches {
			continue
		}
		if r.method == "" || r.method == method || (r.method == http.MethodGet && method == http.MethodHead) {
			return r, values, nil
		}
		if !slices.Contains(allowed, r.method) {
			allowed = append(allowed, r.method)
		}
	}
	return nil, nil, allowed
}

func (r *route) match(segments []string) (params []string, matches bool) {
	if len(r.segments) != len(segments) {
		return nil, false
	}
	for i, want := range r.segments {
		switch {
		case want == "{}" && segments[i] != "":
			params = append(params, segments[i])
		case want != segments[i]:
			return nil, false
		}
	}
	return params, true
}

// openPath tells whether a path needs no token with the right method, so that a
// wrong method is told so instead of being asked for one.
func openPath(segments []string) bool {
	for _, r := range routes[first(segments)] {
		if _, matches := r.match(segments); matches && r.open {
			return true
		}
	}
	return false
}
