package secret

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// openFolder is a folder that every user of this machine can enter, as the
// one for temporary files need not be.
func openFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/tmp", "secret")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if folder, err = filepath.EvalSymlinks(folder); err != nil {
		t.Fatal(err)
	}
	return folder
}

func TestAFileIsExposedWhenOthersCanReadAndReachIt(t *testing.T) {
	for name, row := range map[string]struct {
		folder, inner, file os.FileMode
		want                bool
	}{
		"readable for all":                      {0o755, 0o755, 0o644, true},
		"readable for others alone":             {0o755, 0o755, 0o404, true},
		"in folders that list nothing":          {0o711, 0o711, 0o644, true},
		"in a folder that others may write to":  {0o777 | os.ModeSticky, 0o755, 0o644, true},
		"readable for the owner":                {0o755, 0o755, 0o600, false},
		"readable for the group":                {0o755, 0o755, 0o640, false},
		"in a folder of the owner":              {0o755, 0o700, 0o644, false},
		"below a folder of the owner":           {0o700, 0o755, 0o644, false},
		"in a folder that others can only list": {0o755, 0o754, 0o644, false},
	} {
		t.Run(name, func(t *testing.T) {
			folder := openFolder(t)
			inner := filepath.Join(folder, "inner")
			path := filepath.Join(inner, "password")
			if err := os.Mkdir(inner, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, path, canary)
			private := filepath.Join(t.TempDir(), "link") // of no consequence, either way
			if err := errors.Join(os.Symlink(path, private), os.Chmod(path, row.file), os.Chmod(inner, row.inner), os.Chmod(folder, row.folder),
				os.Chmod(filepath.Dir(private), 0o700)); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{path, private} {
				if got := (Spec{Kind: File, Name: name}).Exposed(); got != row.want {
					t.Errorf("%s is exposed: %t, want %t", name, got, row.want)
				}
				if exposed(name, folder+"/") {
					t.Errorf("%s is exposed, though a container's engine mounts it", name)
				}
			}
			if got := exposed(path, folder+"/inn"+"/"); got != row.want {
				t.Errorf("it is exposed: %t beside another mount, want %t", got, row.want)
			}
		})
	}
}

func TestWhatIsNoFileIsNotExposed(t *testing.T) {
	for _, spec := range []Spec{
		{Kind: Env, Name: "/etc/passwd"}, {Kind: Literal, literal: New("/etc/passwd")}, {Kind: File, Name: "/nowhere/password"},
	} {
		if spec.Exposed() {
			t.Errorf("%s is exposed", spec)
		}
	}
	if !(Spec{Kind: File, Name: "/etc/passwd"}).Exposed() {
		t.Error("a file that everybody reads is not exposed")
	}
}
