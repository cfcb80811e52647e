//go:build unix

package cli

import (
	"io/fs"
	"os"
	"syscall"
)

// sameOwner gives f the owner and group of old.
func sameOwner(f *os.File, old fs.FileInfo) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	now, ok := info.Sys().(*syscall.Stat_t)
	before, ok2 := old.Sys().(*syscall.Stat_t)
	if !ok || !ok2 || now.Uid == before.Uid && now.Gid == before.Gid {
		return nil
	}
	return f.Chown(int(before.Uid), int(before.Gid))
}
