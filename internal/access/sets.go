package access

import (
	"slices"
	"strings"

	"github.com/ctmgate/ctmgate/internal/apipath"
)

// set is a named set of operations.
type set struct {
	name string
	// may is all that an operation of the set may do, in every reading of its path. No set has apipath.Credentials:
	// what is protected, all under /session and what shows API tokens is in none of them, also not for a client that
	// may change credentials.
	may apipath.Effect
}

// Building is in every set, since POST /build only validates what it is sent.
const (
	watching  = apipath.Reads | apipath.Builds
	reading   = watching | apipath.Output
	ordering  = watching | apipath.Orders
	operating = ordering | apipath.Operates
	deploying = reading | apipath.Deploys
)

var sets = []set{
	{"read_only", reading},
	{"monitor", watching},
	{"order", ordering},
	{"operate", operating},
	{"deploy", deploying},
}

// findSet returns what the operations of a set may do; 0 for a word that names none.
func findSet(name string) apipath.Effect {
	i := slices.IndexFunc(sets, func(s set) bool { return s.name == name })
	if i < 0 {
		return 0
	}
	return sets[i].may
}

// setNames lists the sets for an error.
func setNames() string {
	names := make([]string, len(sets))
	for i, s := range sets {
		names[i] = s.name
	}
	return strings.Join(names, ", ")
}
