package apipath

import "strings"

// node is one segment of the operations.
type node struct {
	words     map[string]*node
	folded    map[string]*node // the same words for a reader that does not mind case
	parameter *node
	template  string // of the operation that ends here, or ""
	does      does   // of that operation
	others    string // for what lies below, but is not known
}

var root = func() *node {
	top := newNode("/*")
	top.does.get = Reads // sends a browser to the description of the API
	for _, operation := range operations {
		at, depth, path := top, 0, ""
		for segment := range strings.SplitSeq(operation.path[1:], "/") {
			depth, path = depth+1, path+"/"+segment
			next := at.words[segment]
			isParameter := segment[0] == '{'
			if isParameter {
				next = at.parameter
			}
			if next == nil {
				next = newNode(at.others)
				if depth <= 2 && !isParameter {
					next.others = path + "/*"
				}
				if isParameter {
					at.parameter = next
				} else {
					at.words[segment] = next
					at.folded[fold(segment)] = next
				}
			}
			at = next
		}
		at.template, at.does = operation.path, operation.does
	}
	return top
}()

func newNode(others string) *node {
	return &node{words: map[string]*node{}, folded: map[string]*node{}, others: others}
}

// Template returns the path with its parameters replaced by their names, as "/run/job/{job}/output": for logs, where
// parameters can be secrets, and for what is remembered per operation. Of paths that are not known as operations, up
// to two first segments are told if known, and "/*" for the rest. So the set of templates is bounded.
func (p Path) Template() string {
	if len(p.segments) == 0 {
		return "/"
	}
	at := root
	for _, segment := range p.segments {
		next := at.words[segment]
		if next == nil {
			next = at.parameter
		}
		if next == nil {
			return at.others
		}
		at = next
	}
	if at.template == "" {
		return at.others
	}
	return at.template
}
