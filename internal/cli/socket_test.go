package cli

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func address(t *testing.T, text string) caddy.NetworkAddress {
	t.Helper()
	addr, err := parseListen("--listen", text)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func TestAdminSocketIsNamedAfterTheListenAddress(t *testing.T) {
	isolate(t)
	folder := os.Getenv("XDG_RUNTIME_DIR")
	for listen, want := range map[string]string{
		"127.0.0.1:8080":                    "ctmgate-127.0.0.1-8080.sock",
		":8080":                             "ctmgate-any-8080.sock",
		"LocalHost:81":                      "ctmgate-localhost-81.sock",
		"[::1]:8080":                        "ctmgate-__1-8080.sock",
		"unix//run/a.sock":                  "ctmgate-unix-" + shortHash("/run/a.sock") + ".sock",
		"unix//run/a.sock|0660":             "ctmgate-unix-" + shortHash("/run/a.sock") + ".sock",
		strings.Repeat("long.", 20) + "x:1": "ctmgate-long-" + shortHash(strings.Repeat("long.", 20)+"x-1") + ".sock",
	} {
		if got := adminSocket(address(t, listen)); got != filepath.Join(folder, want) {
			t.Errorf("%s: got %s, want %s in %s", listen, got, want, folder)
		}
	}
	if adminSocket(address(t, "unix//run/a.sock")) == adminSocket(address(t, "unix//run/b.sock")) {
		t.Error("two sockets share one name")
	}
}

func TestWithoutARuntimeFolderTheSocketIsInOneOfThisUserAlone(t *testing.T) {
	for name, runtime := range map[string]string{"unset": "", "gone": "/nowhere/at/all", "relative": "."} {
		t.Run(name, func(t *testing.T) {
			temporary := shortFolder(t)
			t.Setenv("TMPDIR", temporary)
			t.Setenv("XDG_RUNTIME_DIR", runtime)
			path := adminSocket(address(t, ":1"))
			folder := filepath.Join(temporary, "ctmgate-"+strconv.Itoa(os.Getuid()))
			if filepath.Dir(path) != folder {
				t.Fatalf("got %s", path)
			}
			for range 2 { // made, then found
				if err := prepareSocket(path); err != nil {
					t.Fatal(err)
				}
			}
			info, err := os.Stat(folder)
			if err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("got %v, %v", info, err)
			}
		})
	}
}

func TestFolderThatOthersCanChangeIsNotUsed(t *testing.T) {
	temporary := shortFolder(t)
	t.Setenv("TMPDIR", temporary)
	t.Setenv("XDG_RUNTIME_DIR", "")
	folder := filepath.Join(temporary, "ctmgate-"+strconv.Itoa(os.Getuid()))

	elsewhere := t.TempDir()
	if err := os.Symlink(elsewhere, folder); err != nil {
		t.Fatal(err)
	}
	refused(t, "a link")
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o750); err != nil {
		t.Fatal(err)
	}
	refused(t, "a folder that the group can read")

	if err := os.Chmod(elsewhere, 0o777); err != nil { //nolint:gosec // what is tested
		t.Fatal(err)
	}
	t.Setenv("XDG_RUNTIME_DIR", elsewhere)
	refused(t, "a runtime folder that everyone can change")
}

func refused(t *testing.T, what string) {
	t.Helper()
	err := prepareSocket(adminSocket(address(t, ":1")))
	if err == nil || !strings.Contains(err.Error(), "--admin off") {
		t.Errorf("%s: got %v", what, err)
	}
}

func TestSocketOfADeadProcessIsNoHindranceButThatOfALivingOneIs(t *testing.T) {
	isolate(t)
	path := adminSocket(address(t, ":1"))
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := prepareSocket(path); err == nil || !strings.Contains(err.Error(), "same listen address") {
		t.Errorf("living: got %v", err)
	}
	_ = ln.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal("the dead process has left no socket:", err)
	}
	if err := prepareSocket(path); err != nil {
		t.Errorf("dead: got %v", err)
	}
}

func TestClaimFindsOutWhoListens(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	if _, err := claim("--listen", address(t, taken.Addr().String())); err == nil || !strings.Contains(err.Error(), "something else listens there already") {
		t.Errorf("taken: got %v", err)
	}
	free, err := claim("--listen", address(t, "127.0.0.1:0"))
	if err != nil || free.StartPort == 0 || free.EndPort != free.StartPort {
		t.Errorf("port 0: got %v, %v", free, err)
	}

	folder := shortFolder(t)
	file := write(t, filepath.Join(folder, "file"), "x")
	if _, err := claim("--listen", address(t, "unix/"+file)); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file: got %v", err)
	}
	path := filepath.Join(folder, "s")
	if _, err := claim("--listen", address(t, "unix/"+path+"|0660")); err != nil {
		t.Errorf("nothing there: got %v", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if _, err := claim("--listen", address(t, "unix/"+path)); err == nil || !strings.Contains(err.Error(), "something else listens there already") {
		t.Errorf("a living socket: got %v", err)
	}
}

func TestAuthorityIsWhereThisMachineCalls(t *testing.T) {
	for listen, want := range map[string]string{
		":8080": "127.0.0.1:8080", "0.0.0.0:8080": "127.0.0.1:8080", "[::]:8080": "127.0.0.1:8080",
		"192.0.2.1:80": "192.0.2.1:80", "[::1]:80": "[::1]:80", "unix//x": "localhost",
	} {
		if got := authority(address(t, listen)); got != want {
			t.Errorf("%s: got %s, want %s", listen, got, want)
		}
	}
}

func TestSocketWhosePathIsTooLongSaysSo(t *testing.T) {
	folder := filepath.Join(shortFolder(t), strings.Repeat("x", 100))
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_RUNTIME_DIR", folder)
	refused(t, "a long path")
}

func TestAListenAddressHasOtherNamesOfThisMachineAlone(t *testing.T) {
	for host, want := range map[string]string{
		"":               ",0.0.0.0,::,localhost,127.0.0.1,::1",
		"localhost":      ",0.0.0.0,::,localhost,127.0.0.1,::1",
		"127.0.0.1":      ",0.0.0.0,::,localhost",
		"::1":            ",0.0.0.0,::,localhost",
		"192.0.2.7":      "",
		"em.example.com": "",
	} {
		if got := strings.Join(otherNames(host), ","); got != want {
			t.Errorf("%q: got %q", host, got)
		}
	}
}
