// Package relay holds what the gateway does to the messages that pass through it, in terms of net/http alone: which
// headers and parameters never go on, a request body that can be sent twice, the look at an answer that says a token
// has ended, and the writer that httputil.ReverseProxy writes to.
package relay

import (
	"io"
	"net/http"
	"strings"
)

// stripped are the request headers that never reach Control-M, in lower case: credentials (the gateway makes the only
// one), what would change method or path behind the rule that judged them, and what claims to know the client. The
// idempotency keys go because http.Transport takes them as leave to send a POST a second time on its own, and two
// orders of one job are the thing that a replay must never cause. "authentication" is in copied scripts: several
// releases of Control-M's manual print it in place of Authorization.
var stripped = [...]string{
	"authorization", "x-api-key", "authentication", "proxy-authorization", "cookie", "x-method-override",
	"x-original-url", "x-rewrite-url", "forwarded", "idempotency-key", "x-idempotency-key", "trailer",
}

// credentials are those of stripped whose values are secrets of the client.
var credentials = [...]string{"authorization", "x-api-key", "authentication", "proxy-authorization", "cookie"}

// strippedPrefixes are stripped together with everything that begins so.
var strippedPrefixes = [...]string{"x-forwarded", "x-http-method"}

// Strip removes from the header of an outgoing request what a client must not say to Control-M. It knows a name in any
// case, and with any other punctuation where the name has a hyphen (X_Api_Key, x.api.key), since servers exist that
// read those as one. What a client named in Connection goes too, all but the switch of protocols, so that no hop after
// this one strikes out the credential that is set later. It does not allocate.
//
// Trailers are not in the header: set the outgoing request's Trailer to nil as well.
func Strip(h http.Header) {
	for name := range h {
		if IsStripped(name) {
			delete(h, name)
		}
	}
	if nominated := h["Connection"]; nominated != nil && !(len(nominated) == 1 && nominated[0] == "Upgrade") {
		stripConnection(h, nominated)
	}
}

// stripConnection leaves of a Connection header only the wish to switch protocols.
func stripConnection(h http.Header, nominated []string) {
	upgrade := false
	for _, line := range nominated {
		for option := range strings.SplitSeq(line, ",") {
			upgrade = upgrade || strings.EqualFold(strings.TrimSpace(option), "upgrade")
		}
	}
	if upgrade && len(h["Upgrade"]) > 0 {
		h["Connection"] = []string{"Upgrade"}
		return
	}
	delete(h, "Connection")
}

// IsStripped tells whether Strip removes a header of this name.
func IsStripped(name string) bool {
	// The first letter rules out nearly every header of an ordinary request.
	if name == "" {
		return false
	}
	switch lower(name[0]) {
	case 'a', 'c', 'f', 'i', 'p', 't', 'x':
	default:
		return false
	}
	for _, s := range &stripped {
		if len(s) == len(name) && startsAlike(name, s) {
			return true
		}
	}
	for _, s := range &strippedPrefixes {
		if len(s) <= len(name) && startsAlike(name, s) {
			return true
		}
	}
	return false
}

// IsCredential tells whether a request header of this name holds a secret of the client, in any spelling that Strip
// knows: what must not be logged.
func IsCredential(name string) bool {
	for _, c := range &credentials {
		if len(c) == len(name) && startsAlike(name, c) {
			return true
		}
	}
	return false
}

// startsAlike tells whether name begins with want, which is in lower case. A hyphen in want stands for any byte that
// is neither letter nor digit. name is at least as long as want.
func startsAlike(name, want string) bool {
	for i := range len(want) {
		c := lower(name[i])
		if want[i] == '-' {
			if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' {
				return false
			}
		} else if c != want[i] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

// StripResponse removes the cookies that Control-M sets: they would belong to a session that many clients share. It
// works on the header of an answer, on its trailers, and on the header map of a ResponseWriter, where a key that begins
// with http.TrailerPrefix becomes a trailer.
func StripResponse(h http.Header) {
	for name := range h {
		bare := strings.TrimPrefix(name, http.TrailerPrefix)
		if strings.EqualFold(bare, "Set-Cookie") || strings.EqualFold(bare, "Set-Cookie2") {
			delete(h, name)
		}
	}
}

// StripResponseTrailers does for the trailers of res what StripResponse does for its header. Trailers arrive with the
// end of the body, announced or not, so they are stripped once now, and once more when the body has been read. Not for
// a 101, whose body is a connection.
func StripResponseTrailers(res *http.Response) {
	StripResponse(res.Trailer)
	if res.ContentLength >= 0 && res.ProtoMajor < 2 || res.Body == nil || res.Body == http.NoBody {
		return // HTTP/1 has no trailers but after chunks
	}
	res.Body = &trailerStripper{ReadCloser: res.Body, res: res}
}

type trailerStripper struct {
	io.ReadCloser
	res *http.Response
}

func (t *trailerStripper) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if err != nil {
		StripResponse(t.res.Trailer)
	}
	return n, err
}
