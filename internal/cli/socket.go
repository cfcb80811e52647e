package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// maxSocketPath is what the path of a socket may have on the strictest system;
// maxSocketName leaves most of it to the folder.
const (
	maxSocketPath = 103
	maxSocketName = 40
)

// adminSocket is the path of the socket with the admin API of the sidecar or
// demo that listens on addr, so that two of them live on one machine and other
// commands find each by its listen address. It creates nothing.
func adminSocket(addr caddy.NetworkAddress) string {
	name := "any"
	switch {
	case addr.IsUnixNetwork():
		name = "unix-" + shortHash(socketPath(addr))
	case addr.Host != "":
		name = addr.Host
	}
	if !addr.IsUnixNetwork() {
		name += "-" + strconv.FormatUint(uint64(addr.StartPort), 10)
	}
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '_' // of an IPv6 address, say
	}, strings.ToLower(name))
	if len(plain) > maxSocketName {
		plain = "long-" + shortHash(name)
	}
	folder, _ := socketFolder()
	return filepath.Join(folder, "ctmgate-"+plain+".sock")
}

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// socketFolder is where admin sockets lie, and whether it is a folder of our
// own, that we may have to make.
func socketFolder() (path string, own bool) {
	runtime := os.Getenv("XDG_RUNTIME_DIR")
	if info, err := os.Stat(runtime); filepath.IsAbs(runtime) && err == nil && info.IsDir() { //nolint:gosec // the variable is there to name a folder
		return runtime, false
	}
	return filepath.Join(os.TempDir(), "ctmgate-"+strconv.Itoa(os.Getuid())), true
}

// prepareSocket makes sure that a socket can be made at path, in a folder
// where nobody else can replace it, and that no living process uses it. What
// a dead one has left is Caddy's to remove.
func prepareSocket(path string) error {
	folder, own := socketFolder()
	if own {
		if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("making a folder for the admin socket (set XDG_RUNTIME_DIR, or choose --admin off): %w", err)
		}
	}
	// Not Stat, which would follow a link that somebody else has laid.
	info, err := os.Lstat(folder)
	if err != nil {
		return fmt.Errorf("looking at the folder of the admin socket: %w", err)
	}
	if own && (!info.IsDir() || info.Mode().Perm()&0o077 != 0 || !ownedByUs(info)) {
		return fmt.Errorf("the folder %s for the admin socket is not this user's alone; remove it, set XDG_RUNTIME_DIR, or choose --admin off", folder)
	}
	if !own && info.IsDir() && info.Mode().Perm()&0o022 != 0 && info.Mode()&os.ModeSticky == 0 {
		return fmt.Errorf("the folder %s for the admin socket, from XDG_RUNTIME_DIR, can be changed by other users; "+
			"set it to another one, or choose --admin off", folder)
	}
	if len(path) > maxSocketPath {
		return fmt.Errorf("the path of the admin socket, %s, is longer than a socket's may be; "+
			"set XDG_RUNTIME_DIR to a folder with a shorter path, or choose --admin off", path)
	}
	if answers(path) {
		return fmt.Errorf("another %s answers at the admin socket %s, so it has the same listen address; "+
			"stop it, or choose another address with --listen", binary(), path)
	}
	return nil
}
