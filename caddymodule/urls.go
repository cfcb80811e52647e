package caddymodule

import (
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/ctmgate/ctmgate/internal/relay"
	"github.com/ctmgate/ctmgate/internal/secret"
)

// rewriteURLs makes the API's own URLs in an answer lead back through the
// gateway: in JSON bodies and in Location (contract.md, 3.8). With rewriting
// off, only the token parameters in them go. The call's own token also goes
// from parameters elsewhere, in URLs by another name of the host, say.
func (h *Handler) rewriteURLs(in *http.Request, res *http.Response, token secret.Value) {
	location := res.Header.Get("Location")
	isJSON := isPlainJSON(res.Header)
	if !isJSON && location == "" {
		return
	}
	own, prefix := "", ""
	if !h.keepURLs {
		own, prefix = ownBase(in, h.env.basePath)
	}
	if location != "" {
		res.Header.Set("Location", relay.WithoutToken(h.rewriteLocation(location, own, prefix), token.Reveal()))
	}
	if !isJSON {
		return
	}
	res.Body = relay.Without(h.env.rewriter.Body(res.Body, own), token.Reveal())
	res.ContentLength = -1
	for _, name := range []string{"Content-Length", "Accept-Ranges", "Content-Md5", "Digest", "Content-Digest", "Repr-Digest"} {
		delete(res.Header, name)
	}
	// The same entity in other bytes: what a weak validator says.
	if tag := res.Header.Get("Etag"); strings.HasPrefix(tag, `"`) {
		res.Header.Set("Etag", "W/"+tag)
	}
}

var scheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:`)

// rewriteLocation also puts the prefix of a handle_path in front of a path
// that names no host, and takes the token out of it. It goes by the text:
// clients follow what url.Parse does not take.
func (h *Handler) rewriteLocation(location, own, prefix string) string {
	switch {
	case scheme.MatchString(location):
		return h.env.rewriter.Location(location, own)
	case strings.HasPrefix(location, "//"): // it has the scheme that it was called with
		whole := h.env.bases[0].Scheme + ":" + location
		if led := h.env.rewriter.Location(whole, own); led != whole {
			return led
		}
		return location
	}
	before, fragment, marked := strings.Cut(location, "#")
	path, query, _ := strings.Cut(before, "?")
	if rest, ok := strings.CutPrefix(path, h.env.basePath); ok && strings.HasPrefix(path, "/") && (rest == "" || rest[0] == '/') {
		path = prefix + path
	}
	if query = relay.StripQuery(query); query != "" {
		path += "?" + query
	}
	if marked {
		path += "#" + fragment
	}
	return path
}

// isPlainJSON tells whether a body is JSON that nothing has compressed.
func isPlainJSON(h http.Header) bool {
	for _, encoding := range h["Content-Encoding"] {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return false
		}
	}
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";") // whatever its parameters
	return strings.EqualFold(strings.TrimSpace(kind), "application/json")
}

// ownBase is the API's base URL as the client of r used this gateway: scheme
// and host, and the prefix that a handle_path took off. What a proxy in front
// says of them counts only if Caddy trusts that proxy.
func ownBase(r *http.Request, basePath string) (base, prefix string) {
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		if proto := firstOf(r.Header.Get("X-Forwarded-Proto")); proto == "http" || proto == "https" {
			scheme = proto
		}
		if forwarded := firstOf(r.Header.Get("X-Forwarded-Host")); forwarded != "" {
			host = forwarded
		}
	}
	if host == "" { // HTTP/1.0
		if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
			host = local.String()
		}
	}
	prefix = strippedPrefix(r)
	return scheme + "://" + host + prefix + basePath, prefix
}

func firstOf(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(first)
}

// strippedPrefix is what handlers in front took off the path of r.
func strippedPrefix(r *http.Request) string {
	path, _, _ := strings.Cut(originalTarget(r), "?")
	if !strings.HasPrefix(path, "/") { // absolute-form, which few clients send
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return ""
		}
		path = u.EscapedPath()
	}
	prefix, ok := strings.CutSuffix(path, r.URL.EscapedPath())
	if !ok {
		return ""
	}
	return prefix
}
