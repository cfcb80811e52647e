package apipath

import (
	"iter"
	"strings"
)

// Plain tells whether every server reads the same segments in the path, but for case and suffixes. Nearly all paths
// are plain.
func (p Path) Plain() bool { return !p.ambiguous }

// isAmbiguous tells whether another reading than these segments is possible: one of them has a slash, an escape, what
// could begin a query or a fragment, or is all suffix.
func isAmbiguous(segments []string) bool {
	for _, s := range segments {
		if strings.ContainsAny(s, "/?#") || hasEscape(s) || bare(s) == "" {
			return true
		}
	}
	return false
}

// Lenient returns the other readings of a path that is not plain: decoded any number of times, split at slashes before
// or after each, cut off at what looks like a query or a fragment, and with or without the segments that are all
// suffix. What is to be refused must be refused in each of them. Some come twice, and Segments is among them. The
// slices are the caller's only until the next one.
func (p Path) Lenient() iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		whole := trimSlashes(p.below)
		if whole == "" {
			return
		}
		layers := 0
		for text := whole; hasEscape(text); layers++ {
			text = unescape(text)
		}
		for decoded := 0; decoded <= layers; decoded++ {
			segments := strings.Split(whole, "/")
			for more := decoded; more <= layers; more++ {
				if more > decoded {
					for i := range segments {
						segments[i] = unescape(segments[i])
					}
				}
				// Not decoded at all, an escape is text that no operation has in its path.
				if (more > 0 || layers == 0) && !yieldCuts(segments, yield) {
					return
				}
			}
			whole = unescape(whole)
		}
	}
}

// yieldCuts yields the segments, and what is left of them where something is cut off.
func yieldCuts(segments []string, yield func([]string) bool) bool {
	if !yield(segments) {
		return false
	}
	seen := make([]string, 0, len(segments))
	for _, s := range segments {
		if bare(s) != "" {
			seen = append(seen, s)
		}
	}
	if len(seen) < len(segments) && !yield(seen) {
		return false
	}
	for i, s := range segments {
		cut := strings.IndexAny(s, "?#")
		if cut < 0 {
			continue
		}
		segments = append(append(make([]string, 0, i+1), segments[:i]...), s[:cut])
		if s[:cut] == "" {
			segments = segments[:i]
		}
		return yieldCuts(segments, yield)
	}
	return true
}
