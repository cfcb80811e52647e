package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ctmgate/ctmgate/internal/secret"
)

// ownerOnly is the mode of a file with a secret.
const ownerOnly = 0o600

// reserved is how much room is made sure of for a value before it is asked
// for: tokens have a few hundred bytes.
const reserved = 4 << 10

// outFile is a place for a secret that does not exist yet, made before anything
// is asked, so that the secret does not get lost for want of one.
type outFile struct {
	path    string
	claimed bool     // path was made by us, and is empty
	room    *os.File // beside path, and put there once it holds the secret
}

// claimFile makes the place. A file that is there already is an error, unless
// it may be replaced; it stays as it is until there is something to replace it
// with.
func claimFile(path string, replace bool) (*outFile, error) {
	const op = "making the file for the token's value"
	o := &outFile{path: path}
	claim, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, ownerOnly)
	switch {
	case err == nil:
		o.claimed = true
		_ = claim.Close()
	case !errors.Is(err, fs.ErrExist):
		return nil, fmt.Errorf("%s: %w", op, err)
	case !replace:
		return nil, fmt.Errorf("%s: %s exists already; name another one, or replace it with --force", op, path)
	default:
		if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s: %s is no ordinary file; name one, or write the value to standard output with --out -", op, path)
		}
	}
	if o.room, err = os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"."); err == nil { // mode 0600
		_, err = o.room.Write(make([]byte, reserved))
	}
	if err == nil {
		err = o.room.Sync()
	}
	if err != nil {
		o.drop()
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	return o, nil
}

// keep writes the secret, and ends what claimFile began.
func (o *outFile) keep(value secret.Value) error {
	text := []byte(value.Reveal() + "\n")
	_, err := o.room.WriteAt(text, 0)
	err = errors.Join(err, o.room.Truncate(int64(len(text))), o.room.Sync(), o.room.Close())
	if err != nil {
		o.drop()
		return fmt.Errorf("writing the token's value, which is lost with that: %w", err)
	}
	if err := os.Rename(o.room.Name(), o.path); err != nil {
		return fmt.Errorf("the token's value is in %s, and could not be put in its place: %w", o.room.Name(), err)
	}
	syncFolder(o.path)
	return nil
}

// drop removes what was made, where there is nothing to keep.
func (o *outFile) drop() {
	if o.room != nil {
		_ = o.room.Close()
		_ = os.Remove(o.room.Name())
	}
	if o.claimed {
		_ = os.Remove(o.path)
	}
}

// pendingSuffix is what a new password is named until it is known to be in
// force. `ctmgate check` looks for such a file beside a password file.
const pendingSuffix = ".pending"

// pendingFile is a new password beside the file that it is to replace.
type pendingFile struct {
	path, pending string
	mode          fs.FileMode // of the file that is replaced
}

// preparePending writes the new password to path.pending, readable by its
// owner alone, and finds out before anything is changed whether it could take
// the place of path. advice is how to find out which of two passwords works.
func preparePending(path string, password secret.Value, advice string) (*pendingFile, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("finding the password file: %w", err)
	}
	p := &pendingFile{path: path, pending: path + pendingSuffix, mode: ownerOnly}
	old, err := p.look()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(p.pending, os.O_WRONLY|os.O_CREATE|os.O_EXCL, ownerOnly)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, fmt.Errorf("%s exists already: another change of this password is under way, or was broken off; "+
			"%s; rename that file to %s if its password is the one, else remove it",
			p.pending, advice, filepath.Base(path))
	case errors.Is(err, syscall.EROFS):
		return nil, fmt.Errorf("the folder of %s is read-only: what mounts it there, such as Kubernetes or a container's engine, "+
			"has to change the password file; do without --write, and change it at its source", path)
	case err != nil:
		return nil, fmt.Errorf("making the file for the new password: %w", err)
	}
	text := password.Reveal()
	if old != nil {
		p.mode = old.Mode().Perm()
		if endsInNewline(path) {
			text += "\n"
		}
		if err = sameOwner(f, old); err != nil {
			err = fmt.Errorf("keeping the owner of %s (run this as its owner, or as root): %w", path, err)
		}
	}
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		p.drop()
		return nil, fmt.Errorf("writing the new password to %s: %w", p.pending, err)
	}
	syncFolder(path)
	return p, nil
}

// look tells what is to be replaced, nil if there is nothing yet, or why it
// cannot be.
func (p *pendingFile) look() (fs.FileInfo, error) {
	info, err := os.Lstat(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("looking at the password file: %w", err)
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, fmt.Errorf("%s is a symbolic link; name the file itself, "+
			"or in a volume of Kubernetes, which only Kubernetes writes to, do without --write and change the Secret", p.path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no ordinary file; name the password file", p.path)
	}
	if table, err := os.Open("/proc/self/mountinfo"); err == nil {
		defer table.Close()
		if isMounted(table, p.path) {
			return nil, fmt.Errorf("%s is mounted here by itself, as a container's engine does with secrets, so it cannot be replaced in one step; "+
				"run this where the file lies, or do without --write and change it at its source", p.path)
		}
	}
	return info, nil
}

// isMounted tells whether a table in the form of Linux' mountinfo has path.
func isMounted(table io.Reader, path string) bool {
	if folder, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(folder, filepath.Base(path))
	}
	path = strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(path)
	for lines := bufio.NewScanner(table); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && fields[4] == path {
			return true
		}
	}
	return false
}

// take puts the new password in the place of the old one.
func (p *pendingFile) take() error {
	if err := os.Chmod(p.pending, p.mode); err != nil {
		return err
	}
	if err := os.Rename(p.pending, p.path); err != nil {
		return err
	}
	syncFolder(p.path)
	return nil
}

// drop removes the new password, where it is known not to be in force.
func (p *pendingFile) drop() { _ = os.Remove(p.pending) }

// endsInNewline tells whether the file does, so that its successor has what
// else reads it expects.
func endsInNewline(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	last := make([]byte, 1)
	if _, err := f.Seek(-1, io.SeekEnd); err != nil {
		return false
	}
	_, err = f.Read(last)
	return err == nil && last[0] == '\n'
}

// syncFolder makes a change of names last over a power failure, where the file
// system has a way to: not all do.
func syncFolder(path string) {
	if folder, err := os.Open(filepath.Dir(path)); err == nil {
		_ = folder.Sync()
		_ = folder.Close()
	}
}
