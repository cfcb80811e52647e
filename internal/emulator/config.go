package emulator

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// maxSecrets and maxGroupAgents bound what clients can add.
const (
	maxSecrets     = 1000
	maxGroupAgents = 1000
)

type ctmServer struct {
	Name    string `json:"name"`
	Host    string `json:"host"`
	State   string `json:"state"`
	Message string `json:"message"`
}

type agent struct {
	Node    string `json:"nodeid"`
	Status  string `json:"status"`
	Version string `json:"version"`
	System  string `json:"operatingSystem"`
}

type groupMember struct {
	Host string `json:"host"`
}

var ctmServers = []ctmServer{
	{Name: "ctmprod", Host: "ctmprod.example.com", State: "Up", Message: "Connected"},
	{Name: "ctmtest", Host: "ctmtest.example.com", State: "Up", Message: "Connected"},
}

var agentsOf = map[string][]agent{
	"ctmprod": {
		{Node: "billing-app1", Status: "Available", Version: "9.0.21.200", System: "Linux"},
		{Node: "billing-app2", Status: "Available", Version: "9.0.21.200", System: "Linux"},
		{Node: "ledger-db1", Status: "Unavailable", Version: "9.0.20.200", System: "AIX"},
	},
	"ctmtest": {{Node: "test-app1", Status: "Available", Version: "9.0.21.220", System: "Linux"}},
}

func knownServer(name string) bool { return agentsOf[name] != nil }

var noServer = fail(http.StatusNotFound, "Control-M/Server was not found")

func (c *call) servers() answer { return ok(ctmServers) }

func (c *call) agents() answer {
	if !knownServer(c.param(0)) {
		return noServer
	}
	list := []agent{}
	for _, a := range agentsOf[c.param(0)] {
		if matchesAny(c.r.URL.Query().Get("agent"), a.Node) {
			list = append(list, a)
		}
	}
	return ok(map[string]any{"agents": list})
}

func (c *call) pingAgent() answer {
	for _, a := range agentsOf[c.param(0)] {
		if a.Node != c.param(1) {
			continue
		}
		if a.Status != "Available" {
			return fail(http.StatusInternalServerError, "Agent "+a.Node+" is unavailable")
		}
		return message("Agent " + a.Node + " is available")
	}
	return fail(http.StatusNotFound, "Agent was not found")
}

func (c *call) hostGroups() answer {
	if !knownServer(c.param(0)) {
		return noServer
	}
	return ok(c.e.vault.groupNames(c.param(0)))
}

func (c *call) hostGroupAgents() answer {
	return c.e.vault.group(c.param(0), c.param(1), func(members []string) []string { return members })
}

func (c *call) addToHostGroup() answer {
	var in groupMember
	if bad := c.readJSON(&in, maxJSONBody); bad != nil {
		return *bad
	}
	if in.Host == "" || tooLong(in.Host) {
		return fail(http.StatusBadRequest, "host is required")
	}
	return c.e.vault.group(c.param(0), c.param(1), func(members []string) []string {
		if slices.Contains(members, in.Host) || len(members) >= maxGroupAgents {
			return members
		}
		return append(members, in.Host)
	})
}

func (c *call) removeFromHostGroup() answer {
	return c.e.vault.group(c.param(0), c.param(1), func(members []string) []string {
		return slices.DeleteFunc(members, func(h string) bool { return h == c.param(2) })
	})
}

// vault holds what the Config service can change: secrets and host groups.
type vault struct {
	mu      sync.Mutex
	secrets map[string]string
	groups  map[string]map[string][]string // server, group, hosts
}

func newVault() *vault {
	return &vault{secrets: map[string]string{}, groups: map[string]map[string][]string{
		"ctmprod": {"billing_hosts": {"billing-app1", "billing-app2"}, "ledger_hosts": {"ledger-db1"}},
		"ctmtest": {"test_hosts": {"test-app1"}},
	}}
}

// resolve replaces Secret:<key> by the secret of that name (controlm-api.md 8).
func (v *vault) resolve(value string) (string, bool) {
	key, isSecret := strings.CutPrefix(value, "Secret:")
	if !isSecret {
		return value, true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	secret, found := v.secrets[key]
	return secret, found
}

func (v *vault) groupNames(server string) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Sorted(maps.Keys(v.groups[server]))
}

func (v *vault) group(server, name string, change func([]string) []string) answer {
	v.mu.Lock()
	defer v.mu.Unlock()
	members, found := v.groups[server][name]
	if !found {
		return fail(http.StatusNotFound, "Host group was not found")
	}
	members = change(members)
	v.groups[server][name] = members
	list := []groupMember{}
	for _, h := range members {
		list = append(list, groupMember{Host: h})
	}
	return ok(list)
}

// secrets lists names only (controlm-api.md 8).
func (c *call) secrets() answer {
	v := c.e.vault
	v.mu.Lock()
	defer v.mu.Unlock()
	names := slices.Sorted(maps.Keys(v.secrets))
	if names == nil {
		names = []string{}
	}
	return ok(names)
}

type secretData struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func (c *call) addSecret() answer {
	var in secretData
	if bad := c.readJSON(&in, maxLoginBody); bad != nil {
		return *bad
	}
	if in.Name == "" || in.Value == "" {
		return fail(http.StatusBadRequest, "name and value are required")
	}
	v := c.e.vault
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, exists := v.secrets[in.Name]; exists {
		return fail(http.StatusBadRequest, "Secret already exists")
	}
	if len(v.secrets) >= maxSecrets {
		return fail(http.StatusBadRequest, "There are too many secrets")
	}
	v.secrets[in.Name] = in.Value
	return message("Secret was added successfully")
}

func (c *call) updateSecret() answer {
	var in secretData
	if bad := c.readJSON(&in, maxLoginBody); bad != nil {
		return *bad
	}
	if in.Value == "" {
		return fail(http.StatusBadRequest, "value is required")
	}
	return c.withSecret(func(v *vault, name string) { v.secrets[name] = in.Value }, "Secret was updated successfully")
}

func (c *call) deleteSecret() answer {
	return c.withSecret(func(v *vault, name string) { delete(v.secrets, name) }, "Secret was deleted successfully")
}

func (c *call) withSecret(do func(*vault, string), done string) answer {
	v, name := c.e.vault, c.param(0)
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, found := v.secrets[name]; !found {
		return fail(http.StatusNotFound, "Secret was not found")
	}
	do(v, name)
	return message(done)
}
