package access

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ctmgate/ctmgate/internal/apipath"
)

// Warnings says which lines of the client's rules cannot have been meant as they stand, one text each: they match
// nothing, or what they allow is refused all the same.
func (c *Client) Warnings() []string {
	var warnings []string
	for _, rules := range [][]*Rule{c.Rules.denies, c.Rules.allows} {
		for _, rule := range rules {
			why, never := rule.NeverMatches()
			if !never && !rule.deny {
				why, never = c.neverAllowed(rule)
			}
			if never {
				warnings = append(warnings, fmt.Sprintf("client %q: %s: %s", c.Name, rule.line, why))
			}
		}
	}
	return warnings
}

// PublicWarnings is for rules whose allows are open to callers without proof. idle are the lines of which a path has no
// effect; wide those that open more than something to read: another method than GET, or everything.
func (r Rules) PublicWarnings() (idle, wide []string) {
	for _, rule := range r.allows {
		line := "public" + strings.TrimPrefix(rule.line, "allow")
		for i := range rule.paths {
			one := Rule{methods: rule.methods, paths: rule.paths[i : i+1]}
			p := &rule.paths[i]
			why, never := one.NeverMatches()
			if !never && p.isProtected(rule.methods) {
				why, never = p.text+": protected, so open to nobody without proof", true
			}
			if never {
				idle = append(idle, line+": "+why)
			} else if what := rule.opensMuch(p); what != "" {
				wide = append(wide, line+": "+p.text+": "+what)
			}
		}
	}
	return idle, wide
}

// opensMuch names what one path of an allow opens beside single things to read.
func (r *Rule) opensMuch(p *pattern) string {
	var much []string
	if p.below && !slices.ContainsFunc(p.segments, func(word string) bool { return word != "" }) {
		much = append(much, "everything below")
	}
	switch {
	case r.methods == anyMethod:
		much = append(much, "every method")
	case r.methods != methodSetOf("GET"):
		much = append(much, strings.Join(r.methods.names(), ","))
	}
	return strings.Join(much, ", with ")
}

// NeverMatches tells why a path of the rule can match no request that would reach the rule: the API has no such path,
// or no such method there, as far as this version knows. It is for a warning at load, not for an error: a newer API
// may have more.
func (r Rule) NeverMatches() (why string, yes bool) {
	for i := range r.paths {
		p := &r.paths[i]
		switch {
		case p.isOwn():
			return p.text + ": the gateway answers it itself, before any rule", true
		case !apipath.Offers("", p.segments, p.below, !r.deny):
			return p.text + ": the API has no such path, as far as this version knows", true
		case r.methods != anyMethod && !slices.ContainsFunc(r.methods.names(), func(method string) bool {
			return apipath.Offers(method, p.segments, p.below, !r.deny)
		}):
			return fmt.Sprintf("%s: the API has no %s there, as far as this version knows", p.text, strings.Join(r.methods.names(), ",")), true
		}
	}
	return "", false
}

// isOwn tells whether the pattern is the login or the logout and nothing else.
func (p *pattern) isOwn() bool {
	example, ok := p.example("GET")
	return ok && !p.below && (example.IsLogin() || example.IsLogout())
}

// neverAllowed looks for paths whose allow comes to nothing.
func (c *Client) neverAllowed(rule *Rule) (why string, yes bool) {
	for i := range rule.paths {
		p := &rule.paths[i]
		for _, deny := range c.Rules.denies {
			if deny.covers(rule, p) {
				return fmt.Sprintf("%s: %s beats it", p.text, deny.line), true
			}
		}
		if !c.AllowCredentialChanges && p.isProtected(rule.methods) {
			return p.text + ": protected, so refused without allow_credential_changes", true
		}
	}
	return "", false
}

// isProtected tells whether all that the pattern matches is protected. One example stands for all, since what is
// protected hangs on words and never on a name in their midst.
func (p *pattern) isProtected(of methodSet) bool {
	return !slices.ContainsFunc(of.names(), func(method string) bool {
		example, ok := p.example(method)
		return !ok || !example.Protected()
	})
}

// example returns a path that the pattern matches.
func (p *pattern) example(method string) (apipath.Path, bool) {
	text := strings.ReplaceAll(p.text, "*", "any")
	example, err := apipath.Read(method, "", text, "")
	return example, err == nil
}

// covers tells whether a deny refuses all that one path of an allow would let through.
func (r *Rule) covers(allow *Rule, path *pattern) bool {
	if allow.methods&^r.methods != 0 {
		return false
	}
	return slices.ContainsFunc(r.paths, func(p pattern) bool {
		depth := len(path.segments)
		if path.below {
			depth++ // the least that it matches
		}
		if !p.hasDepth(depth) || path.below && !p.below {
			return false
		}
		for i, word := range p.segments {
			if word == "" {
				continue
			}
			if i >= len(path.segments) || path.segments[i] == "" || !resembles(path.segments[i], word) {
				return false
			}
		}
		return true
	})
}
