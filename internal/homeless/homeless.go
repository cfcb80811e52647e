// Package homeless keeps Caddy from warning, before anything of ours runs and on
// standard error, that it finds no folder for its config: it looks for one when
// its package is initialized, and none of our commands keeps a config there.
//
// It imports os alone, so Go initializes it before Caddy: of the packages whose
// imports are ready the first by path, and Caddy waits for some that come later.
package homeless

import "os"

const variable = "XDG_CONFIG_HOME"

// stood tells whether the variable stands in for a folder until Undo.
var stood = standIn(os.Args)

func standIn(args []string) bool {
	if _, err := os.UserConfigDir(); err == nil || os.Getenv(variable) != "" {
		return false
	}
	// These do keep it.
	if len(args) > 1 && (args[1] == "run" || args[1] == "start") {
		return false
	}
	return os.Setenv(variable, ".") == nil // what Caddy falls back to
}

// Undo gives the environment back as it was. The program calls it first of all.
func Undo() {
	if stood {
		_ = os.Unsetenv(variable)
		stood = false
	}
}
