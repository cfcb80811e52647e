package access

import "strings"

// sharing makes clients of one directory share what they have in common: with ten thousand of them most rules are
// alike, and rules that all share stay in the processor's cache.
type sharing struct {
	lists map[string][]*Rule // by their lines
	rules map[string]*Rule   // by their line
	paths map[string][]string
	words map[string]string
}

func newSharing() *sharing {
	return &sharing{
		lists: make(map[string][]*Rule), rules: make(map[string]*Rule),
		paths: make(map[string][]string), words: make(map[string]string),
	}
}

func (s *sharing) rulesOf(r Rules) Rules { return Rules{s.list(r.denies), s.list(r.allows)} }

func (s *sharing) list(rules []*Rule) []*Rule {
	var lines strings.Builder
	for _, rule := range rules {
		lines.WriteString(rule.line)
		lines.WriteByte('\n')
	}
	if known, ok := s.lists[lines.String()]; ok {
		return known
	}
	shared := make([]*Rule, len(rules))
	for i, rule := range rules {
		shared[i] = s.rule(rule)
	}
	s.lists[lines.String()] = shared
	return shared
}

func (s *sharing) rule(r *Rule) *Rule {
	if known := s.rules[r.line]; known != nil {
		return known
	}
	shared := *r
	shared.paths = make([]pattern, len(r.paths))
	for i, p := range r.paths {
		p.segments = s.path(p)
		shared.paths[i] = p
	}
	s.rules[r.line] = &shared
	return &shared
}

func (s *sharing) path(p pattern) []string {
	if known, ok := s.paths[p.text]; ok {
		return known
	}
	segments := make([]string, len(p.segments))
	for i, word := range p.segments {
		known, ok := s.words[word]
		if !ok {
			known = strings.Clone(word)
			s.words[word] = known
		}
		segments[i] = known
	}
	s.paths[p.text] = segments
	return segments
}
