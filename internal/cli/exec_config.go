package cli

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/ctmgate/ctmgate/caddymodule"
)

// privateHost is where a private gateway listens.
const privateHost = "127.0.0.1"

// The only account and the only client of a private gateway. The latter is a
// user name for commands that log in.
const (
	privateAccount = "default"
	privateClient  = "exec"
)

// privateGrace is how long calls may still take once the command has ended.
// They are those of processes that it has left behind.
const privateGrace = 2 * time.Second

// privateListener is an open port of privateHost.
type privateListener struct {
	listen    string // as a config has it
	authority string // as a URL has it
}

// privatePort keeps the port open: the garbage collector would close it.
var privatePort *os.File

// openPrivate opens a free port, and hands it over by its file descriptor: to
// close it and let Caddy open it again would leave a moment for another
// process to take it, and two of this user's would then share it.
func openPrivate() (privateListener, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(privateHost, "0")) //nolint:noctx // takes no time
	if err != nil {
		return privateListener{}, err
	}
	defer func() { _ = ln.Close() }()
	authority := ln.Addr().String()
	if privatePort, err = ln.(*net.TCPListener).File(); err != nil {
		return privateListener{authority, authority}, nil // a system without this way
	}
	return privateListener{"fd/" + strconv.FormatUint(uint64(privatePort.Fd()), 10), authority}, nil
}

// basePath is that of the endpoint; of several, which share one, of any.
func basePath(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil { // was looked at when it was read
		return ""
	}
	return strings.TrimSuffix(u.EscapedPath(), "/")
}

// environmentName is the host of the first endpoint, as a sidecar has it.
func (s settings) environmentName() string {
	u, err := url.Parse(s.endpoints[0])
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// privateConfig is what Caddy runs for one command. Whoever shows the key with
// this hash is the command.
func (s settings) privateConfig(listen, keyHash string) *caddy.Config {
	app := caddymodule.App{
		Environments: map[string]*caddymodule.Environment{s.environmentName(): {
			Endpoint:              s.endpoints,
			TLSCAFile:             s.caFiles,
			TLSInsecureSkipVerify: s.insecureSkipVerify,
			Accounts: map[string]*caddymodule.Account{
				privateAccount: {Username: s.username, Password: s.password, APIToken: s.apiToken},
			},
		}},
		Clients: map[string]*caddymodule.Client{privateClient: {
			KeySHA256: []caddymodule.ClientKey{{Hash: keyHash}},
			Allow:     []string{"* /*"},
		}},
	}
	server := &caddyhttp.Server{
		Listen: []string{listen},
		Routes: caddyhttp.RouteList{route(moduleJSON("controlm", caddymodule.Handler{
			Environment: s.environmentName(), Admit: []string{"clients"},
		}))},
		AutoHTTPS: &caddyhttp.AutoHTTPSConfig{Disabled: true},
		Protocols: []string{"h1"},
	}
	no := false
	return &caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: &no}},
		Logging: privateLogs(),
		AppsRaw: caddy.ModuleMap{
			"controlm": caddyconfig.JSON(app, nil),
			"http": caddyconfig.JSON(caddyhttp.App{
				GracePeriod: caddy.Duration(privateGrace),
				Servers:     map[string]*caddyhttp.Server{"exec": server},
			}, nil),
			"tls": withoutTLS(),
		},
	}
}

// privateLogs keep to what went wrong, since they are mixed with what the
// command says. Of Caddy itself that is errors: it warns of every exit.
func privateLogs() *caddy.Logging {
	logs := logConfig("ERROR")
	ours := logConfig("WARN").Logs["default"]
	ours.Include = []string{"controlm", "http"}
	logs.Logs["default"].Exclude = ours.Include
	logs.Logs["gateway"] = ours
	return withoutAudit(logs)
}

// withoutAudit drops the lines of the audit log, which is for gateways that
// somebody shares. It would be missed with a warning otherwise.
func withoutAudit(logs *caddy.Logging) *caddy.Logging {
	registerNowhere()
	logs.Logs["audit"] = &caddy.CustomLog{
		BaseLog: caddy.BaseLog{Level: "INFO", WriterRaw: json.RawMessage(`{"output":"nowhere"}`)},
		Include: []string{"controlm.audit"},
	}
	return logs
}

var registerNowhere = sync.OnceFunc(func() { caddy.RegisterModule(nowhere{}) })

// nowhere is a log writer that takes lines and drops them. With Caddy's own,
// `discard`, a log takes no lines, which is what the warning is about.
type nowhere struct{}

// CaddyModule returns the Caddy module information. Only the process that
// needs it registers the module.
func (nowhere) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "caddy.logging.writers.nowhere",
		New: func() caddy.Module { return new(nowhere) },
	}
}

func (nowhere) String() string                             { return "nowhere" }
func (nowhere) WriterKey() string                          { return "nowhere" }
func (n nowhere) OpenWriter() (io.WriteCloser, error)      { return n, nil }
func (nowhere) Write(line []byte) (written int, err error) { return len(line), nil }
func (nowhere) Close() error                               { return nil }

var _ caddy.WriterOpener = nowhere{}

// plainStart leaves out the way that Caddy took to what is wrong.
func plainStart(err error) error {
	const marker = "provision controlm: "
	text := err.Error()
	if i := strings.LastIndex(text, marker); i >= 0 {
		return errors.New(text[i+len(marker):])
	}
	return plainError(err)
}
