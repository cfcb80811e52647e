package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/spf13/cobra"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

// Timings of the demo: short enough that who watches sees a renewal within a
// minute.
const (
	demoLifetime    = time.Minute
	demoRenewBefore = 20 * time.Second
	demoGrace       = 5 * time.Second
)

// demoPassword is the variable of this process that holds the password. It is
// set by ourselves, so it stands on no disk and in no list of processes.
const demoPassword = "CTMGATE_DEMO_PASSWORD" //nolint:gosec // a name

const demoHelp = `
Runs the Automation API emulator and a gateway in front of it in one process,
prints calls to try, and then what happens, one line per event. You call the
gateway without a credential; it logs in, renews its session in the background
and logs the old one out. Nothing of it needs a Control-M, the Internet, or a
file, and nothing is left behind at the end.

The password between the two is made at the start, and shown nowhere. Where
the gateway listens on an address that other machines can reach, everyone who
reaches it is admitted, as there is nothing but the emulator behind it.`

const demoExample = `  ctmgate demo
  ctmgate demo --listen 127.0.0.1:9090

  Then, from another terminal:
    curl http://127.0.0.1:8080/automation-api/config/servers`

func buildDemo(cmd *cobra.Command) {
	cmd.Long = demoHelp
	cmd.Example = demoExample
	cmd.Flags().SortFlags = false
	cmd.Flags().String(flagListen, defaultListen, "address of the gateway: host:port, or unix//path/to/socket ("+envListen+")")
	cmd.Flags().String(flagEmulator, "127.0.0.1:0", "address of the emulator; port 0: a free one")
	cmd.Flags().String(flagAdmin, "", adminUsage)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runDemo(reader{cmd, os.Getenv}) }
}

const flagEmulator = "emulator-listen"

// demo is the emulator and what belongs to it.
type demo struct {
	listen   caddy.NetworkAddress
	admin    string // as of a sidecar
	emulator *emulator.Emulator
	server   *emulator.Server
	folder   string // for temporary files
	events   *timeline
	story    *story
}

func runDemo(r reader) (err error) {
	d := &demo{story: newStory(), folder: filepath.Join(os.TempDir(), "ctmgate-demo-"+rand.Text())}
	var emulatorListen caddy.NetworkAddress
	if emulatorListen, err = d.addresses(r); err != nil {
		return err
	}
	if d.listen, err = claim("--"+flagListen, d.listen); err != nil {
		return err
	}
	if d.admin, err = claimAdmin(d.admin, d.listen); err != nil {
		return err
	}
	ca, err := emulator.NewCA()
	if err != nil {
		return err
	}
	if err := d.open(emulatorListen.String(), ca); err != nil {
		return err
	}
	defer d.close() // not reached unless the gateway cannot run
	// Caddy's exit calls these in the order in which they were registered, and
	// the gateway's log-outs were when the program began.
	caddy.OnExit(func(context.Context) { d.end() })
	signals := holdSignals() // none ends this with the file still there
	if err := d.writeCA(ca); err != nil {
		return err
	}
	return signals.serve(d.config(), d.begin)
}

// addresses reads them. Its errors are usage errors.
func (d *demo) addresses(r reader) (emulatorListen caddy.NetworkAddress, err error) {
	var admin caddy.NetworkAddress
	if d.listen, err = r.address(flagListen, envListen); err != nil {
		return emulatorListen, err
	}
	if emulatorListen, err = r.address(flagEmulator, ""); err != nil {
		return emulatorListen, err
	}
	if emulatorListen.IsUnixNetwork() {
		return emulatorListen, usagef("--%s: the emulator listens on host:port only", flagEmulator)
	}
	if d.admin, admin, err = r.adminAddress(); err != nil {
		return emulatorListen, err
	}
	return emulatorListen, apart(
		r.named(flagListen, envListen, d.listen), r.named(flagEmulator, "", emulatorListen), r.named(flagAdmin, envAdmin, admin))
}

// open starts the emulator.
func (d *demo) open(listen string, ca *emulator.CA) (err error) {
	password := rand.Text()
	if err := os.Setenv(demoPassword, password); err != nil {
		return fmt.Errorf("handing the password over: %w", err)
	}
	d.events = newTimeline(os.Stdout, d.story.describe)
	d.emulator = emulator.New(emulator.Options{
		Users:         []emulator.User{{Name: "demo", Password: password, Roles: emulatorRoles()}},
		TokenLifetime: demoLifetime,
		Observe:       d.events.observe,
	})
	if d.server, err = d.emulator.Listen(listen, ca); err != nil {
		return listenError(err, listen, "--"+flagEmulator)
	}
	return nil
}

// writeCA writes the certificate by which the gateway trusts the emulator.
func (d *demo) writeCA(ca *emulator.CA) error {
	if err := os.Mkdir(d.folder, 0o700); err != nil {
		return fmt.Errorf("making a folder for temporary files: %w", err)
	}
	if err := os.WriteFile(d.caFile(), ca.PEM(), 0o600); err != nil {
		return fmt.Errorf("writing the CA's certificate: %w", err)
	}
	return nil
}

func (d *demo) caFile() string { return filepath.Join(d.folder, "ca.pem") }

// config is what Caddy runs. Its log keeps to errors, so that the timeline can
// be read.
func (d *demo) config() *caddy.Config {
	var off caddymodule.IdleTimeout
	if err := json.Unmarshal([]byte(`"off"`), &off); err != nil {
		panic("idle_timeout no longer understands off: " + err.Error())
	}
	handler := caddymodule.Handler{
		Inline: &caddymodule.Inline{
			Name: "demo",
			Environment: caddymodule.Environment{
				Endpoint:        []string{d.server.URL()},
				TLSCAFile:       []string{d.caFile()},
				SessionLifetime: caddy.Duration(demoLifetime),
				RenewBefore:     caddy.Duration(demoRenewBefore),
				IdleTimeout:     off, // renews although nobody calls
			},
			Account: caddymodule.Account{Username: "demo", Password: "{env." + demoPassword + "}"},
		},
		Admit: []string{"loopback"},
	}
	if !isLoopback(d.listen) {
		handler.Admit = []string{"anyone"}
	}
	return &caddy.Config{
		Admin:   adminConfig(d.admin, d.listen),
		Logging: withoutAudit(logConfig("ERROR")),
		AppsRaw: caddy.ModuleMap{
			"http": caddyconfig.JSON(caddyhttp.App{
				GracePeriod: caddy.Duration(demoGrace),
				Servers:     map[string]*caddyhttp.Server{"demo": gatewayServer(d.listen, handler)},
			}, nil),
			"tls": withoutTLS(),
		},
	}
}

// begin shows what there is, and makes the first call.
func (d *demo) begin() {
	_ = os.RemoveAll(d.folder) // the gateway has read it, and now no way out leaves it behind
	d.events.begin(d.banner())
	if err := d.call("/config/servers"); err != nil {
		d.events.say(line{"trouble", red, "the first call failed: " + err.Error()})
	}
}

func (d *demo) call(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), demoLifetime)
	defer cancel()
	t := localTarget(d.listen)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base()+path, nil)
	if err != nil {
		return err
	}
	resp, err := t.client(true).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it was answered %d", resp.StatusCode)
	}
	return err
}

// base is the API's base URL at the gateway.
func (d *demo) base() string { return "http://" + authority(d.listen) + "/automation-api" }

func (d *demo) banner() string {
	curl, where := "curl ", d.base()
	if d.listen.IsUnixNetwork() {
		curl = "curl --unix-socket " + quote(socketPath(d.listen)) + " "
		where = d.listen.String()
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s demo: an emulated Control-M, and the gateway in front of it\n\n", binary())
	width := max(len(d.server.URL()), len(where))
	fmt.Fprintf(&b, "  emulator  %-*s  wants a login before each session\n", width, d.server.URL())
	fmt.Fprintf(&b, "  gateway   %-*s  wants nothing of you, and logs in by itself\n", width, where)
	if admin := cmp.Or(d.admin, "unix/"+adminSocket(d.listen)); admin != "off" {
		fmt.Fprintf(&b, "  admin     %s\n", admin)
	}
	fmt.Fprintf(&b, "\nTry, in another terminal:\n\n")
	fmt.Fprintf(&b, "  %s%s/config/servers\n", curl, d.base())
	fmt.Fprintf(&b, "  %s\"%s/run/jobs/status?folder=NightlyBilling&limit=100\"\n", curl, d.base())
	fmt.Fprintf(&b, "  %s-H 'Content-Type: application/json' -d '{\"ctm\":\"ctmprod\",\"folder\":\"NightlyBilling\"}' %s/run/order\n", curl, d.base())
	fmt.Fprintf(&b, "\nSessions last %.0f seconds here, so that you see the gateway renew them. Ctrl-C ends it all.\n\n", demoLifetime.Seconds())
	return b.String()
}

// end tells what there was. By now the gateway has logged out.
func (d *demo) end() {
	s := d.emulator.Stats()
	left := "no session is left"
	if s.LiveSessions > 0 {
		left = fmt.Sprintf("%d left to end by themselves", s.LiveSessions)
	}
	d.events.begin(fmt.Sprintf("\n%s, %s (%s), %s; %s.\n", count(s.Calls, "call"), count(s.Logins, "login"),
		count(d.story.renewed(), "renewal"), count(s.Logouts, "log-out"), left))
	d.close()
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, strings.TrimSpace(what))
}

// close leaves nothing behind.
func (d *demo) close() {
	_ = d.server.Close()
	_ = os.RemoveAll(d.folder)
}
