package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ctmgate/ctmgate/internal/apipath"
)

// Explanation says whether a client may make a call, and why.
type Explanation struct {
	Allowed bool
	// The line that decided, as `allow read_only`; empty where none did.
	Line string
	// What decided, where no line did.
	Reason string
}

// ErrUnknownClient says that the config has no client of a name.
var ErrUnknownClient = errors.New("there is no client")

// Explain decides as a running gateway would, from the config alone: it reads
// no secret and asks nothing of the network. The path is relative to the base
// path, or below that of an environment. The error is ErrUnknownClient, or says
// what is wrong with the config.
func (a *App) Explain(client, method, path string) (Explanation, error) {
	known, err := a.newClients()
	if err != nil {
		return Explanation{}, err
	}
	if known == nil {
		return Explanation{}, fmt.Errorf("%w %q: the config has no client in the global option controlm", ErrUnknownClient, client)
	}
	who, ok := known.directory.ByName(client)
	if !ok {
		return Explanation{}, fmt.Errorf("%w %q; expected one of %s", ErrUnknownClient, client, names(a.Clients))
	}
	read, err := a.readPath(method, path)
	if err != nil {
		return Explanation{Reason: err.Error()}, nil
	}
	if read.IsLogin() || read.IsLogout() {
		if method != http.MethodPost {
			return Explanation{Reason: fmt.Sprintf("logging in and out takes %s: any other method is answered %d", postOnly.allow, postOnly.status)}, nil
		}
		return Explanation{Allowed: true, Reason: "the gateway answers logins and logouts itself, with a token of its own"}, nil
	}
	if read.IsSession() && !read.IsPasswordUpdate() {
		return Explanation{Reason: "it would be a login or logout of the gateway's own session: open to nobody"}, nil
	}
	switch d := known.decide(who, read); {
	case d.line != "":
		return Explanation{Allowed: d.allowed, Line: d.line}, nil
	case d.refusal.code == protectedOperation.code:
		return Explanation{Reason: "it handles credentials or rights: it takes `allow_credential_changes` beside an `allow`"}, nil
	}
	return Explanation{Reason: "no `allow` of the client matches"}, nil
}

// readPath reads a path as typed, with the base path of an environment or
// without.
func (a *App) readPath(method, path string) (apipath.Path, error) {
	if !strings.HasPrefix(path, "/") {
		return apipath.Path{}, fmt.Errorf("the path %q does not begin with a slash", path)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Environments)) {
		if config := a.Environments[name]; config != nil && len(config.Endpoint) > 0 {
			if u, err := url.Parse(config.Endpoint[0]); err == nil {
				if rest, ok := strings.CutPrefix(path, basePath(u)); ok && (rest == "" || rest[0] == '/') {
					path = rest
					break
				}
			}
		}
	}
	const base = "/-"
	target := base + path
	escaped, _, _ := strings.Cut(target, "?")
	return apipath.Read(method, target, escaped, base)
}
