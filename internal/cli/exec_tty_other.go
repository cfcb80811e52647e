//go:build unix && !linux

package cli

import "os"

// hasBeenTold: better twice than not at all.
func hasBeenTold(os.Signal) bool { return false }
