package apipath

import (
	"iter"
	"strings"
)

// Plain tells whether every server reads the same segments in the path, but for case and suffixes. Nearly all paths
// are plain. It is not with an escape, which may be of a slash or of a whole escape, and not with a segment that is
// all suffix, which some servers do not see.
func (p Path) Plain() bool {
	return !strings.Contains(p.below, "%") && !strings.Contains(p.below, "/.")
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
