package cli

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddypki"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/ctmgate/ctmgate/caddymodule"
)

// gracePeriod is how long calls under way may still take at exit; without it
// Caddy waits for ever, and one WebSocket is enough for that.
const gracePeriod = 25 * time.Second

// config is what Caddy runs for s. No secret is in it, only where to find one.
func (s settings) config() *caddy.Config {
	handler := caddymodule.Handler{
		Inline: &caddymodule.Inline{
			Environment: caddymodule.Environment{
				Endpoint:              s.endpoints,
				TLSCAFile:             s.caFiles,
				TLSInsecureSkipVerify: s.insecureSkipVerify,
			},
			Account: caddymodule.Account{Username: s.username, Password: s.password, APIToken: s.apiToken},
		},
		Admit: s.admit,
	}
	server := gatewayServer(s.listen, handler)
	apps := caddy.ModuleMap{"tls": withoutTLS()}
	if s.tls != nil {
		s.tls.serve(server, apps, s.names())
	}
	servers := map[string]*caddyhttp.Server{"sidecar": server}
	if s.status != nil {
		servers["status"] = statusServer(*s.status)
	}
	apps["http"] = caddyconfig.JSON(caddyhttp.App{
		GracePeriod: caddy.Duration(gracePeriod),
		Servers:     servers,
	}, nil)
	return &caddy.Config{
		Admin:   adminConfig(s.admin, s.listen),
		Logging: logConfig("INFO"),
		AppsRaw: apps,
	}
}

// gatewayServer is a server that is nothing but the gateway.
func gatewayServer(listen caddy.NetworkAddress, handler caddymodule.Handler) *caddyhttp.Server {
	return &caddyhttp.Server{
		Listen: []string{listen.String()},
		Routes: caddyhttp.RouteList{
			route(moduleJSON("controlm_health", struct{}{})),
			route(moduleJSON("controlm", handler)),
		},
		AutoHTTPS: &caddyhttp.AutoHTTPSConfig{Disabled: true},
		Protocols: []string{"h1"},
	}
}

// statusServer serves what a monitor asks, and 404 for all else: an unmatched
// request would get an empty 200.
func statusServer(listen caddy.NetworkAddress) *caddyhttp.Server {
	metrics := route(moduleJSON("metrics", struct{}{}))
	metrics.MatcherSetsRaw = []caddy.ModuleMap{{"path": caddyconfig.JSON(caddyhttp.MatchPath{"/metrics"}, nil)}}
	return &caddyhttp.Server{
		Listen: []string{listen.String()},
		Routes: caddyhttp.RouteList{
			route(moduleJSON("controlm_health", struct{}{})),
			metrics,
			route(moduleJSON("static_response", caddyhttp.StaticResponse{StatusCode: "404"})),
		},
		AutoHTTPS: &caddyhttp.AutoHTTPSConfig{Disabled: true},
		Protocols: []string{"h1"},
	}
}

func route(handler json.RawMessage) caddyhttp.Route {
	return caddyhttp.Route{HandlersRaw: []json.RawMessage{handler}}
}

func moduleJSON(name string, value any) json.RawMessage {
	return caddyconfig.JSONModuleObject(value, "handler", name, nil)
}

// names are those that a certificate of this sidecar must bear.
func (s settings) names() []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host := s.listen.Host; !s.listen.IsUnixNetwork() && host != "" && host != "0.0.0.0" && host != "::" {
		names = append(names, host)
	}
	names = append(names, s.admit[1:]...)
	slices.Sort(names)
	return slices.Compact(names)
}

// withoutTLS is the tls app, which Caddy always loads, for a server that needs
// none: then nothing is written to disk, and a read-only one will do.
func withoutTLS() json.RawMessage {
	return caddyconfig.JSON(caddytls.TLS{DisableStorageClean: true}, nil)
}

// certificateTag ties the server to the certificate that was given for it,
// whatever name a client asks for.
const certificateTag = "sidecar"

// serve makes server speak TLS, with the apps that this takes.
func (t tlsSettings) serve(server *caddyhttp.Server, apps caddy.ModuleMap, names []string) {
	server.Protocols = []string{"h1", "h2"}
	if t.certificate != "" {
		server.TLSConnPolicies = caddytls.ConnectionPolicies{{
			CertSelection: &caddytls.CustomCertSelectionPolicy{AnyTag: []string{certificateTag}},
		}}
		apps["tls"] = caddyconfig.JSON(caddytls.TLS{
			DisableStorageClean: true,
			CertificatesRaw: caddy.ModuleMap{
				"load_files": caddyconfig.JSON(caddytls.FileLoader{{
					Certificate: t.certificate, Key: t.key, Tags: []string{certificateTag},
				}}, nil),
			},
		}, nil)
		return
	}
	// A client that calls an address names no host: it gets localhost's.
	server.TLSConnPolicies = caddytls.ConnectionPolicies{{FallbackSNI: "localhost"}}
	apps["tls"] = caddyconfig.JSON(caddytls.TLS{
		CertificatesRaw: caddy.ModuleMap{"automate": caddyconfig.JSON(names, nil)},
		Automation: &caddytls.AutomationConfig{Policies: []*caddytls.AutomationPolicy{{
			IssuersRaw: []json.RawMessage{json.RawMessage(`{"module":"internal"}`)},
		}}},
	}, nil)
	// Whom this machine trusts is not a sidecar's to change.
	no := false
	apps["pki"] = caddyconfig.JSON(caddypki.PKI{CAs: map[string]*caddypki.CA{
		caddypki.DefaultCAID: {InstallTrust: &no},
	}}, nil)
}

// adminConfig puts the admin API where admin says: nowhere with "off", else at
// that address; by default at a socket that is named after listen. The config
// is never kept on disk: the next start has flags of its own.
func adminConfig(admin string, listen caddy.NetworkAddress) *caddy.AdminConfig {
	no := false
	config := &caddy.AdminConfig{Config: &caddy.ConfigSettings{Persist: &no}}
	switch admin {
	case "off":
		config.Disabled = true
	case "":
		config.Listen = "unix/" + adminSocket(listen) + "|0600"
	default:
		config.Listen = ownersOnly(admin)
	}
	return config
}

// ownersOnly gives a socket the mode of ours, unless it has one.
func ownersOnly(admin string) string {
	if strings.HasPrefix(admin, "unix/") && !strings.Contains(admin, "|") {
		return admin + "|0600"
	}
	return admin
}

// logConfig is a default log to standard error without the two places of a
// request where Caddy would show a secret: for people on a terminal, else as
// JSON.
func logConfig(level string) *caddy.Logging {
	return &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{
		Level: level,
		EncoderRaw: json.RawMessage(`{"format":"filter","fields":{` +
			`"request>headers>X-Api-Key":{"filter":"delete"},` +
			`"request>uri":{"filter":"query","actions":[{"type":"delete","parameter":"token"}]}}}`),
	}}}}
}
