package caddymodule

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Modes of admission.
const (
	admitLoopback = "loopback"
	admitClients  = "clients"
	admitAnyone   = "anyone"
)

// admission decides who may call at all (contract.md, 3.1).
type admission struct {
	anyone bool
	// clients: everybody may come in, and has to prove who they are.
	clients bool
	hosts   []string // beside the loopback names, lower case, without port
}

// parseAdmission reads the words of `admit`.
func parseAdmission(words []string) (admission, error) {
	if len(words) == 0 {
		return admission{}, nil
	}
	switch words[0] {
	case admitAnyone:
		if len(words) > 1 {
			return admission{}, errors.New("admit anyone: takes nothing more")
		}
		return admission{anyone: true}, nil
	case admitClients:
		if len(words) > 1 {
			return admission{}, errors.New("admit clients: takes nothing more")
		}
		return admission{clients: true}, nil
	case admitLoopback:
		a := admission{}
		for _, host := range words[1:] {
			name := hostname(host)
			if !admissible(host, name) {
				return admission{}, fmt.Errorf("admit loopback: %q is no host name; expected one such as em.example.com", host)
			}
			if name == admitLoopback || name == admitClients || name == admitAnyone {
				// Whoever writes so wants both, and would get the one that
				// lets callers in without proof.
				return admission{}, fmt.Errorf("admit loopback: %q is no host name here, and a site admits in one way; "+
					"expected host names such as em.example.com, or `admit %s` alone", host, name)
			}
			a.hosts = append(a.hosts, name)
		}
		return a, nil
	}
	return admission{}, fmt.Errorf("admit %s: expected `clients`, `loopback`, with host names after it where wanted, or `anyone`", words[0])
}

// CheckAdmission says what is wrong with the words of `admit`, for commands that
// have them from elsewhere.
func CheckAdmission(words []string) error {
	_, err := parseAdmission(words)
	return err
}

// admissible tells whether text is the host name, perhaps with a port: what is
// neither would never be the Host of a call.
func admissible(text, name string) bool {
	if _, port, err := net.SplitHostPort(text); err == nil && (port == "" || !isPort(port)) {
		return false
	}
	return isHost(name) && (strings.Contains(name, ":") || !strings.ContainsAny(text, "[]"))
}

// admits tells whether r may go on. Under `loopback` it says why not: for the
// log, since the caller is told all conditions at once.
func (a admission) admits(r *http.Request) (reason string, ok bool) {
	if a.anyone || a.clients {
		return "", true
	}
	if !fromHere(r) {
		return "the connection comes from another machine", false
	}
	// A page in a browser on this machine reaches us too, by its own origin or
	// by a name of its own that resolves to 127.0.0.1.
	if host := hostname(r.Host); !isLoopbackName(host) && !slices.Contains(a.hosts, host) {
		return "the Host is not a local name", false
	}
	if _, ok := r.Header["Origin"]; ok {
		return "it has an Origin, as a web page's has", false
	}
	for _, site := range r.Header["Sec-Fetch-Site"] {
		if site != "none" && site != "same-origin" {
			return "its Sec-Fetch-Site is a web page's", false
		}
	}
	// A proxy or tunnel on this machine would let the world in.
	if name := throughProxy(r); name != "" {
		return "it came through a proxy, as its header " + name + " says", false
	}
	return "", true
}

// throughProxy names a header that says that a proxy or tunnel has passed the
// request on; "" where there is none.
func throughProxy(r *http.Request) string {
	for name := range r.Header {
		switch {
		case name == "Forwarded", name == "X-Real-Ip", name == "Via", strings.HasPrefix(name, "X-Forwarded-"):
			return name
		}
	}
	return ""
}

// fromHere tells whether the connection began on this machine.
func fromHere(r *http.Request) bool {
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && strings.HasPrefix(local.Network(), "unix") {
		return true
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().Unmap().IsLoopback()
}

// hostname is host without its port, in lower case.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}
