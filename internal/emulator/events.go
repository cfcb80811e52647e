package emulator

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

const (
	maxEvents    = 10000
	maxVariables = 1000
)

type eventData struct {
	Name   string `json:"name"`
	Server string `json:"ctm"`
	Date   string `json:"date"`
}

func (c *call) events() answer {
	q := c.r.URL.Query()
	p := c.e.plant
	p.mu.Lock()
	defer p.mu.Unlock()
	list := []eventData{}
	for _, e := range p.events {
		if matchesAny(q.Get("ctm"), e.Server) && matchesAny(q.Get("name"), e.Name) && matchesAny(q.Get("date"), e.Date) {
			list = append(list, e)
		}
	}
	return ok(list)
}

func (c *call) addEvent() answer {
	var in struct {
		Name string `json:"name"`
		Date string `json:"date"`
	}
	if bad := c.readJSON(&in, maxJSONBody); bad != nil {
		return *bad
	}
	server := c.param(0)
	if !knownServer(server) {
		return noServer
	}
	if in.Name == "" || tooLong(in.Name, in.Date) {
		return fail(http.StatusBadRequest, "name is required, of at most 1024 bytes")
	}
	if in.Date == "" {
		in.Date = time.Now().Format("0102")
	}
	e := eventData{Name: in.Name, Server: server, Date: in.Date}
	p := c.e.plant
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.events, e) {
		p.events = append(p.events, e)
	}
	if len(p.events) > maxEvents {
		p.events = slices.Delete(p.events, 0, maxEvents/10)
	}
	return message(fmt.Sprintf("Event '%s' was added to '%s'", e.Name, e.Server))
}

func (c *call) deleteEvent() answer {
	e := eventData{Server: c.param(0), Name: c.param(1), Date: c.param(2)}
	p := c.e.plant
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.events, e)
	if i < 0 {
		return fail(http.StatusNotFound, "Event was not found")
	}
	p.events = slices.Delete(p.events, i, i+1)
	return message(fmt.Sprintf("Event '%s' was deleted from '%s'", e.Name, e.Server))
}

func (c *call) variables() answer {
	return c.withVariables(func(vars map[string]string) answer {
		names := make([]string, 0, len(vars))
		for name := range vars {
			names = append(names, name)
		}
		slices.Sort(names)
		list := []map[string]string{}
		for _, name := range names {
			list = append(list, map[string]string{name: vars[name]})
		}
		return ok(map[string]any{"variables": list})
	})
}

type variablesBody struct {
	Variables []map[string]string `json:"variables"`
}

func (c *call) setVariables() answer {
	var in variablesBody
	if bad := c.readJSON(&in, maxJSONBody); bad != nil {
		return *bad
	}
	return c.withVariables(func(vars map[string]string) answer {
		for _, v := range in.Variables {
			for name, value := range v {
				_, known := vars[name]
				if !tooLong(name, value) && (known || len(vars) < maxVariables) {
					vars[name] = value
				}
			}
		}
		return message("Variables were updated successfully")
	})
}

// deleteVariables is a DELETE with a request body (controlm-api.md 6).
func (c *call) deleteVariables() answer {
	var in struct {
		Variables []string `json:"variables"`
	}
	if bad := c.readJSON(&in, maxJSONBody); bad != nil {
		return *bad
	}
	return c.withVariables(func(vars map[string]string) answer {
		for _, name := range in.Variables {
			delete(vars, name)
		}
		return message("Variables were deleted successfully")
	})
}

func (c *call) withVariables(do func(map[string]string) answer) answer {
	server := c.param(0)
	if !knownServer(server) {
		return noServer
	}
	p := c.e.plant
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.variables[server] == nil {
		p.variables[server] = map[string]string{}
	}
	return do(p.variables[server])
}
