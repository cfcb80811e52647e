package cli

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/secret"
)

func TestAPlaceThatCannotBeReplacedIsRefusedBeforehand(t *testing.T) {
	folder := t.TempDir()
	file := write(t, filepath.Join(folder, "password"), canary)
	link, loose, socket := filepath.Join(folder, "link"), filepath.Join(folder, "loose"), filepath.Join(shortFolder(t), "s")
	for path, to := range map[string]string{link: file, loose: "/nowhere/x"} {
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for path, words := range map[string]string{
		link:                             "symbolic link",
		loose:                            "Kubernetes",
		folder:                           "no ordinary file",
		socket:                           "no ordinary file",
		filepath.Join(folder, "x", "y"):  "no such file or directory",
		"/proc/self/comm":                "writing the new password", // no folder takes a file there
		filepath.Join(file, "below"):     "not a directory",
		"/proc/self/ctmgate-is-not-here": "no such file or directory",
	} {
		p, err := preparePending(path, secret.New(canary+"2"), "look")
		if path == "/proc/self/comm" && err != nil {
			words = err.Error() // by the system's own choice of words
		}
		if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v, %v", path, p, err)
		}
		if _, err := os.Lstat(path + pendingSuffix); err == nil {
			t.Errorf("%s: a file was left", path)
		}
	}
	if contentOf(t, file) != canary || len(entries(t, folder)) != 3 {
		t.Errorf("got %q", entries(t, folder))
	}
}

func TestAFileThatIsMountedByItselfIsFound(t *testing.T) {
	folder := t.TempDir()
	inside := filepath.Join(folder, "run secrets")
	if err := os.Mkdir(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(inside, filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	table := "1 0 8:1 / / rw - ext4 /dev/root rw\n" +
		"2 1 8:1 /x " + strings.ReplaceAll(inside, " ", `\040`) + "/password rw,relatime - ext4 /dev/root rw\n" +
		"too short\n"
	for path, want := range map[string]bool{
		filepath.Join(inside, "password"):         true,
		filepath.Join(folder, "link", "password"): true,
		filepath.Join(inside, "other"):            false,
		filepath.Join(folder, "password"):         false,
		"/nowhere/password":                       false,
	} {
		if got := isMounted(strings.NewReader(table), path); got != want {
			t.Errorf("%s: got %v", path, got)
		}
	}
}

func TestAPlaceThatCannotTakeTheValueAfterAllSaysWhereItIs(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "value")
	o, err := claimFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	// Somebody puts a folder there meanwhile.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	err = o.keep(secret.New(canary))
	if err == nil || !strings.Contains(err.Error(), o.room.Name()) || strings.Contains(err.Error(), canary) {
		t.Errorf("got %v", err)
	}
	if contentOf(t, o.room.Name()) != canary+"\n" || modeOf(t, o.room.Name()) != 0o600 {
		t.Error("the value is lost")
	}
}
