package apipath

import "strings"

// kind says which protected operations a path may be, read as leniently as any server might.
type kind uint8

const (
	kindSession        kind = 1 << iota // anything under /session
	kindAuthentication                  // anything under /authentication: API tokens
	kindAdminUpdate                     // /config/user/*/password/adminUpdate: somebody else's password
	kindAuthorization                   // anything under /config/authorization: users and roles
)

// IsSession tells whether the path is /session or under it, in any disguise: the gateway answers all of it itself.
func (p Path) IsSession() bool { return p.kind&kindSession != 0 }

// Protected tells whether the request is for a protected operation: one with which a client could mint a credential
// and walk out with it. That is all under /session but login and logout, which the gateway answers itself, all under
// /authentication, setting the password of a user, and every method but GET and HEAD under /config/authorization.
//
// It does not mind case, takes an encoded slash for a slash, and ignores path parameters, suffixes such as ".json" and
// dots at the end of a segment, also behind several layers of encoding. Where Control-M is stricter, this refuses what
// would have been answered with 404 anyway.
func (p Path) Protected() bool {
	switch {
	case p.kind&kindSession != 0:
		return !p.IsLogin() && !p.IsLogout()
	case p.kind&(kindAuthentication|kindAdminUpdate) != 0:
		return true
	}
	return p.kind&kindAuthorization != 0 && p.Judged() != "GET"
}

// classify looks at every reading of a path: decoded not at all, once, and so on, with encoded slashes taken for
// slashes and for characters.
func classify(below string) kind {
	below = trimSlashes(below)
	k := split(below)
	whole := below
	for layer := 1; layer <= mostLayers && hasEscape(whole); layer++ {
		whole = unescape(whole)
		k |= split(whole)
		var r reading
		for segment := range strings.SplitSeq(below, "/") {
			for range layer {
				segment = unescape(segment)
			}
			r.add(segment)
		}
		k |= r.kind()
	}
	return k
}

func split(text string) kind {
	var r reading
	for segment := range strings.SplitSeq(text, "/") {
		r.add(segment)
	}
	return r.kind()
}

// reading remembers of one reading of a path what decides.
type reading struct {
	names         int
	first, second string
	last          string
	adminUpdate   bool // "password", "adminUpdate" somewhere after the second name
}

func (r *reading) add(segment string) {
	name := bare(segment)
	if name == "" {
		return // to a lenient server, a segment that is all suffix is none
	}
	switch r.names {
	case 0:
		r.first = name
	case 1:
		r.second = name
	default:
		// Anywhere, since the user's name in between may have slashes.
		if equalFold(r.last, "password") && equalFold(name, "adminupdate") {
			r.adminUpdate = true
		}
		r.last = name
	}
	r.names++
}

func (r *reading) kind() kind {
	switch {
	case equalFold(r.first, "session"):
		return kindSession
	case equalFold(r.first, "authentication"):
		return kindAuthentication
	case !equalFold(r.first, "config"):
		return 0
	case equalFold(r.second, "authorization"):
		return kindAuthorization
	case equalFold(r.second, "user") && r.adminUpdate:
		return kindAdminUpdate
	}
	return 0
}

// bare cuts off a segment what a server may not look at: path parameters, suffixes, what looks like a query or a
// fragment once decoded, and white space.
func bare(segment string) string {
	if i := strings.IndexAny(segment, ".;?#"); i >= 0 {
		segment = segment[:i]
	}
	return strings.TrimSpace(segment)
}
