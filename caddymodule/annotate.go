package caddymodule

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/ctmgate/ctmgate/internal/apipath"
	"github.com/ctmgate/ctmgate/internal/relay"
)

// annotations are headers that tell Control-M why something was changed, by
// name, as templates with Caddy's placeholders. Control-M can demand them; the
// names of its headers are not publicly documented (controlm-api.md, section
// 4), so that they are the operator's to know.
type annotations struct {
	templates map[string]string // by canonical name
	override  bool
}

// newAnnotations checks names and templates.
func newAnnotations(config map[string]string, override bool) (annotations, error) {
	a := annotations{templates: make(map[string]string, len(config)), override: override}
	if override && len(config) == 0 {
		return a, fmt.Errorf("annotate_override: there is no annotate that it could be about")
	}
	for name, template := range config {
		if err := checkAnnotation(name, template); err != nil {
			return a, err
		}
		canonical := http.CanonicalHeaderKey(name)
		if _, twice := a.templates[canonical]; twice {
			return a, fmt.Errorf("annotate %s: it is stated twice", name)
		}
		a.templates[canonical] = template
	}
	return a, nil
}

// ownHeaders are those that the gateway or the transport sets, or that
// describe the message.
var ownHeaders = []string{
	"Host", "Connection", "Upgrade", "Te", "Transfer-Encoding", "Content-Length", "Content-Type", "Content-Encoding",
	"Accept", "Accept-Encoding", "Expect", "Range", "If-Range", requestID,
}

var headerName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,127}$`)

func checkAnnotation(name, template string) error {
	switch {
	case !IsHeaderName(name):
		return fmt.Errorf("annotate %q: expected the name of a header, as in `annotate Annotation-Subject \"run by {controlm.client}\"`", name)
	case !MayAnnotate(name):
		return fmt.Errorf("annotate %s: this header is the gateway's own; expected one that Control-M reads annotations from", name)
	case template == "":
		return fmt.Errorf("annotate %s: it is empty; expected text, with placeholders such as {controlm.client}", name)
	}
	return nil
}

// IsHeaderName tells whether a header can have this name.
func IsHeaderName(name string) bool { return headerName.MatchString(name) }

// MayAnnotate tells whether a header is neither the gateway's nor the
// transport's own.
func MayAnnotate(name string) bool { return !relay.IsStripped(name) && !foldedIn(ownHeaders, name) }

func foldedIn(list []string, name string) bool {
	for _, one := range list {
		if strings.EqualFold(one, name) {
			return true
		}
	}
	return false
}

// changes tells whether a call changes something at Control-M: only then are
// there annotations.
func changes(p apipath.Path) bool {
	method := p.Judged()
	return method != http.MethodGet && method != http.MethodOptions && p.Effects()&^(apipath.Reads|apipath.Output|apipath.Builds) != 0
}

// annotate sets the annotations of a call in the header that goes upstream:
// the client's, and the site's where the client has none of the name. What
// the caller sent wins, unless it is to be overridden.
func (c *call) annotate(header http.Header) {
	h, v := c.handler, c.visit
	var clients annotations
	if v.who.client != nil {
		clients = h.clients.annotations[v.who.client.Name]
	}
	if len(h.annotations.templates)+len(clients.templates) == 0 || !changes(c.path) {
		return
	}
	repl, ok := v.r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return
	}
	set := func(a annotations, but map[string]string) {
		for name, template := range a.templates {
			// An empty one says nothing, so it is none.
			if _, elsewhere := but[name]; elsewhere || says(header[name]) && !a.override {
				continue
			}
			header[name] = []string{AnnotationText(repl.ReplaceAll(template, ""))}
		}
	}
	set(clients, nil)
	set(h.annotations, clients.templates)
}

func says(values []string) bool {
	return slices.ContainsFunc(values, func(value string) bool { return value != "" })
}

// AnnotationText is text as a header may hold it: where there are control
// characters or other bytes than ASCII in it, these and the percent sign are
// percent-encoded, since it is not known how the server would decode them.
func AnnotationText(text string) string {
	plain := func(c byte) bool { return ' ' <= c && c <= '~' }
	i := 0
	for i < len(text) && plain(text[i]) {
		i++
	}
	if i == len(text) {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; plain(c) && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
