package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

// oneClient is a Caddyfile with a client of that name.
func oneClient(name string) string {
	return "{\n\tcontrolm {\n\t\tclient " + name + " {\n\t\t\tuser alice\n\t\t\tallow read_only\n\t\t}\n\t}\n}\n"
}

func oneClientJSON(name string) string {
	return fmt.Sprintf(`{"apps": {"controlm": {"clients": {%q: {"user": ["alice"], "allow": ["read_only"]}}}}}`, name)
}

// readWith reads a config as a command with these flags does. printed is what
// it tells beside.
func readWith(t *testing.T, flags ...string) (content []byte, printed string, err error) {
	t.Helper()
	cmd := &cobra.Command{Use: "explain"}
	configFlags(cmd)
	if err := cmd.ParseFlags(flags); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.SetErr(&out)
	content, err = readConfig(cmd)
	return content, out.String(), err
}

func TestTheNameOfAConfigSaysHowItIsRead(t *testing.T) {
	folder := t.TempDir()
	for _, c := range []struct {
		name, adapter string
		json          bool
	}{
		{"Caddyfile", "", false},
		{"Caddyfile.prod", "", false},
		{"gateway.caddyfile", "", false},
		{"caddyfile", "", false},
		{"shared.Caddyfile", "", false},
		{"CADDYFILE", "", false},
		{"gateway.conf", "caddyfile", false},
		{"gateway.json", "caddyfile", false},
		{"caddy.json", "", true},
		{"autosave", "", true},
		{"Caddyfile.json", "", true},
	} {
		t.Run(c.name+" "+c.adapter, func(t *testing.T) {
			content := oneClient("nightly")
			if c.json {
				content = oneClientJSON("nightly")
			}
			flags := []string{"--config", write(t, filepath.Join(folder, c.name), content)}
			if c.adapter != "" {
				flags = append(flags, "--adapter", c.adapter)
			}
			read, _, err := readWith(t, flags...)
			if err != nil {
				t.Fatal(err)
			}
			var config struct {
				Apps struct {
					Controlm struct{ Clients map[string]any }
				}
			}
			if err := json.Unmarshal(read, &config); err != nil || config.Apps.Controlm.Clients["nightly"] == nil {
				t.Errorf("%v: %s", err, read)
			}
		})
	}
}

func TestWithoutAFlagTheCaddyfileOfTheFolderIsRead(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, _, err := readWith(t); err == nil || !strings.Contains(err.Error(), "name it with --config") || !strings.Contains(err.Error(), "Caddyfile") {
		t.Errorf("without one: %v", err)
	}
	write(t, "Caddyfile", oneClient("here"))
	if read, _, err := readWith(t); err != nil || !strings.Contains(string(read), `"here"`) {
		t.Errorf("%s, %v", read, err)
	}
}

func TestAConfigMayImportAndTakeVariables(t *testing.T) {
	folder := t.TempDir()
	write(t, filepath.Join(folder, "clients.conf"), "client {$CTMGATE_TEST_CLIENT:standard} {\n\tuser alice\n\tallow read_only\n}\n")
	config := write(t, filepath.Join(folder, "Caddyfile"), "{\n\tcontrolm {\n\t\timport clients.conf\n\t}\n}\n")
	t.Chdir(t.TempDir()) // what it imports is relative to the file
	if read, _, err := readWith(t, "--config", config); err != nil || !strings.Contains(string(read), `"standard"`) {
		t.Errorf("%s, %v", read, err)
	}
	t.Setenv("CTMGATE_TEST_CLIENT", "chosen")
	if read, _, err := readWith(t, "-c", config); err != nil || !strings.Contains(string(read), `"chosen"`) {
		t.Errorf("%s, %v", read, err)
	}
}

func TestWarningsOfTheAdapterAreToldWithTheirPlace(t *testing.T) {
	config := write(t, filepath.Join(t.TempDir(), "Caddyfile"), strings.ReplaceAll(oneClient("nightly"), "\t", " "))
	read, printed, err := readWith(t, "--config", config)
	if err != nil || !strings.Contains(string(read), `"nightly"`) {
		t.Fatalf("%s, %v", read, err)
	}
	if !strings.HasPrefix(printed, "explain: "+config+":") || !strings.Contains(printed, "not formatted") || strings.Count(printed, "\n") != 1 {
		t.Errorf("it told %q", printed)
	}
	if _, printed, err := readWith(t, "--config", write(t, config, oneClient("nightly"))); err != nil || printed != "" {
		t.Errorf("of a good one it told %q, %v", printed, err)
	}
}

func TestAConfigThatCannotBeReadIsAnErrorThatSaysWhere(t *testing.T) {
	folder := t.TempDir()
	for _, c := range []struct {
		name  string
		flags []string
		want  string
		usage bool
	}{
		{"no file", []string{"--config", filepath.Join(folder, "none")}, "none: no such file", false},
		{"a folder", []string{"--config", folder}, "is a directory", false},
		{"a mistake", []string{"--config", write(t, filepath.Join(folder, "Caddyfile"), "{\ncontrolm {\nclint nightly {\n}\n}\n}\n")}, "Caddyfile:3", false},
		{"an unknown adapter", []string{"--config", filepath.Join(folder, "Caddyfile"), "--adapter", "nginx"}, `there is no adapter "nginx"; expected one such as caddyfile`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := readWith(t, c.flags...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if _, usage := errors.AsType[usageError](err); usage != c.usage {
				t.Errorf("a mistake in usage: %v", usage)
			}
		})
	}
}

func TestTheAppIsReadOfAConfigThatHasIt(t *testing.T) {
	folder := t.TempDir()
	for _, c := range []struct{ name, content, want string }{
		{"an app", oneClientJSON("nightly"), ""},
		{"no app", `{"apps": {"http": {}}}`, "the config has no global option controlm"},
		{"no apps", `{}`, "the config has no global option controlm"},
		{"an app of nothing", `{"apps": {"controlm": null}}`, "the config has no global option controlm"},
		{"no JSON", "client nightly {", "name its format with --adapter"},
		{"half of it", `{"apps": {`, "name its format with --adapter"},
		{"nothing", "", "name its format with --adapter"},
		{"another shape", `{"apps": {"controlm": {"clients": ["nightly"]}}}`, "reading the config"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := &cobra.Command{Use: "explain"}
			configFlags(cmd)
			if err := cmd.ParseFlags([]string{"--config", write(t, filepath.Join(folder, "caddy.json"), c.content)}); err != nil {
				t.Fatal(err)
			}
			app, err := readApp(cmd)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
			} else if err != nil || app.Clients["nightly"] == nil {
				t.Errorf("got %+v, %v", app, err)
			}
		})
	}
}
