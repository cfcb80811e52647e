//go:build unix

package cli

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ctmgate/ctmgate/internal/secret"
)

// ownerOf is the owner and group of a file.
func ownerOf(info fs.FileInfo) [2]uint32 {
	stat := info.Sys().(*syscall.Stat_t)
	return [2]uint32{stat.Uid, stat.Gid}
}

func TestThePasswordFileKeepsItsOwner(t *testing.T) {
	folder := t.TempDir()
	file := write(t, filepath.Join(folder, "password"), canary)
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 { // nobody else may give a file away
		if err := os.Chown(file, 12345, 23456); err != nil {
			t.Fatal(err)
		}
		if before, err = os.Stat(file); err != nil {
			t.Fatal(err)
		}
	}
	p, err := preparePending(file, secret.New(canary+"2"), "look")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.take(); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(file)
	if err != nil || ownerOf(after) != ownerOf(before) || after.Mode() != before.Mode() || os.SameFile(before, after) {
		t.Errorf("got %v and %v, %v", ownerOf(after), ownerOf(before), err)
	}
	if contentOf(t, file) != canary+"2" || len(entries(t, folder)) != 1 {
		t.Errorf("got %q", entries(t, folder))
	}
}
