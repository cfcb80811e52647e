//go:build unix

package cli

import (
	"os"
	"syscall"
)

// ownedByUs tells whether the file is this process's user's.
func ownedByUs(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Getuid()
}
