package apipath

import (
	"slices"
	"strings"
)

// Effect says what an operation does. Of several, it is the union.
type Effect uint8

// What operations do, from harmless to harmful. Each operation has one.
const (
	Reads       Effect = 1 << iota // changes nothing: nearly every GET, and the POSTs that only read or probe
	Output                         // the same, for job output, logs and downloads: large, and may show what jobs print
	Builds                         // validates definitions, and changes nothing
	Orders                         // starts jobs
	Operates                       // acts on jobs in the plan, and on what they wait for: events, resources, variables
	Deploys                        // puts definitions of jobs and of job types in place
	Changes                        // changes anything else, or is not known
	Credentials                    // logs in, shows or sets a credential, or gives somebody a right
)

// Effects says what the request may do, in every reading that a server might have of its path. It is never zero.
//
// An operation that is not in the table counts for what its method suggests: a GET reads (output, if it looks so by a
// name), anything else changes something. What is under /session and what is protected is Credentials and nothing
// else.
func (p Path) Effects() Effect {
	if p.IsSession() || p.Protected() {
		return Credentials
	}
	method := p.Judged()
	effects := root.effects(method, p.segments)
	if effects == 0 {
		effects = Changes
		if method == "GET" {
			effects = Reads
			if looksLikeOutput(p.segments) {
				effects = Output
			}
		}
	}
	if p.Plain() {
		return effects
	}
	for reading := range p.Lenient() {
		effects |= lenientEffects(method, reading)
	}
	return effects
}

// effects returns what the operations do that have these segments: several, where one has a word and another a
// parameter.
func (n *node) effects(method string, segments []string) (e Effect) {
	if len(segments) == 0 {
		return n.does.of(method)
	}
	if next := n.words[segments[0]]; next != nil {
		e = next.effects(method, segments[1:])
	}
	if n.parameter != nil {
		e |= n.parameter.effects(method, segments[1:])
	}
	return e
}

// lenientEffects is zero for a reading that is no operation: a server that reads so finds nothing to do.
func lenientEffects(method string, reading []string) Effect {
	e := root.foldedEffects(method, reading)
	if method == "GET" && looksLikeOutput(reading) {
		e |= Output
	}
	return e
}

func (n *node) foldedEffects(method string, segments []string) (e Effect) {
	if len(segments) == 0 {
		return n.does.of(method)
	}
	// The whole segment, too: some words of the API have a dot.
	for _, name := range [2]string{segments[0], bare(segments[0])} {
		if next := n.folded[fold(name)]; next != nil {
			e |= next.foldedEffects(method, segments[1:])
		}
	}
	if n.parameter != nil {
		e |= n.parameter.foldedEffects(method, segments[1:])
	}
	return e
}

// looksLikeOutput tells whether a GET that is not in the table might answer with job output, a log or a download. It
// would rather be wrong about a server with such a name than let a new operation through.
func looksLikeOutput(segments []string) bool {
	for _, segment := range segments {
		segment = fold(segment)
		name := bare(segment)
		if strings.Contains(segment, "output") || strings.Contains(segment, "download") ||
			endsInAny(name, "log", "logs") || endsInAny(segment, ".log", ".tgz", ".gz", ".zip") {
			return true
		}
	}
	return false
}

func endsInAny(s string, ends ...string) bool {
	return slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(s, end) })
}

// Offers tells whether the API has an operation that a pattern fits: for warning of rules that match nothing. A
// segment of the pattern is a word or, for any, ""; below is for what lies at any depth below the segments, and not at
// them. The method "" is any. It errs on an API that is newer than the table.
func Offers(method string, pattern []string, below, mindCase bool) bool {
	return root.offers(method, pattern, below, mindCase)
}

func (n *node) offers(method string, pattern []string, below, mindCase bool) bool {
	if len(pattern) == 0 {
		if !below {
			return n.does != does{} && (method == "" || n.does.of(method) != 0)
		}
		return n.anyChild(func(child *node) bool {
			return child.offers(method, nil, false, mindCase) || child.offers(method, nil, true, mindCase)
		})
	}
	into := func(child *node) bool { return child.offers(method, pattern[1:], below, mindCase) }
	if pattern[0] == "" {
		return n.anyChild(into)
	}
	next := n.words[pattern[0]]
	if !mindCase {
		next = n.folded[fold(pattern[0])]
	}
	return next != nil && into(next) || n.parameter != nil && into(n.parameter)
}

func (n *node) anyChild(is func(*node) bool) bool {
	for _, child := range n.words {
		if is(child) {
			return true
		}
	}
	return n.parameter != nil && is(n.parameter)
}
