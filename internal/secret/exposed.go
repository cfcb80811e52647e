package secret

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Exposed tells whether every user of this machine can read the secret's file.
// It looks at modes alone, and says no where container engines and Kubernetes
// mount secrets: there the users are the container's.
func (s Spec) Exposed() bool {
	// Windows knows no modes, and Go makes some up.
	return s.Kind == File && runtime.GOOS != "windows" && exposed(s.Name, "/run/secrets/", "/var/run/secrets/")
}

// exposed tells whether others can read the file, and reach it through all of
// its folders. What cannot be looked at is not exposed.
func exposed(path string, mounts ...string) bool {
	// Whoever knows where a link leads does not need the link's own folder.
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	for _, mount := range mounts {
		if strings.HasPrefix(path, mount) || strings.HasPrefix(target, mount) {
			return false
		}
	}
	const othersRead, othersEnter = 0o004, 0o001
	info, err := os.Stat(target)
	if err != nil || info.Mode()&othersRead == 0 {
		return false
	}
	for folder := filepath.Dir(target); ; folder = filepath.Dir(folder) {
		info, err := os.Stat(folder)
		if err != nil || info.Mode()&othersEnter == 0 {
			return false
		}
		if folder == filepath.Dir(folder) {
			return true
		}
	}
}
