package archtest

// module is the prefix of every import path of ours.
const module = "github.com/ctmgate/ctmgate"

// Libraries, by the import path that a row allows together with everything below it.
const (
	caddy        = "github.com/caddyserver/caddy/v2"
	certmagic    = "github.com/caddyserver/certmagic"
	cobra        = "github.com/spf13/cobra"
	goCache      = "github.com/patrickmn/go-cache"
	humanize     = "github.com/dustin/go-humanize"
	goRedis      = "github.com/redis/go-redis/v9"
	prometheus   = "github.com/prometheus/client_golang"
	singleflight = "golang.org/x/sync/singleflight"
	rate         = "golang.org/x/time/rate"
	term         = "golang.org/x/term"
	zap          = "go.uber.org/zap"
)

// row is what one package may import. The standard library is open to everyone but for what never names.
type row struct {
	ours    []string // packages of ours, by path below the module; anyOurs for all of them
	foreign []string // libraries, each with everything below it
	never   []string // of the standard library or ours, each with everything below it; beats ours
}

const anyOurs = "*"

// law is the table of docs/architecture.md. Only what a package imports outside its tests counts: a contract test may
// well hold client and emulator against each other.
var law = map[string]row{
	"internal/secret":  {},
	"internal/apipath": {},
	"internal/ttlmap":  {foreign: []string{goCache}},
	// What an endpoint is asked, and how, is the adapter's.
	"internal/endpoint": {never: []string{"net/http"}},
	"internal/automationapi": {
		ours: []string{"internal/secret"},
	},
	// Neither HTTP nor the client of the API: the adapter joins them, and a test needs five lines instead of a server.
	"internal/session": {
		ours:    []string{"internal/secret", "internal/ttlmap"},
		foreign: []string{singleflight, rate},
		never:   []string{"net/http", "internal/automationapi"},
	},
	"internal/sessionstore": {
		ours:    []string{"internal/session", "internal/secret"},
		foreign: []string{goRedis},
	},
	"internal/access": {
		ours:    []string{"internal/secret", "internal/apipath", "internal/ttlmap"},
		foreign: []string{rate},
		never:   []string{"net/http", "internal/session"},
	},
	"internal/relay": {
		ours:  []string{"internal/secret"},
		never: []string{"internal/session", "internal/access"},
	},
	// Client and emulator must not share a mistake.
	"internal/emulator": {
		never: []string{"internal/automationapi"},
	},
	"internal/archtest": {},
	// Has to be ready before Caddy is.
	"internal/homeless": {},
	"caddymodule": {
		ours: []string{
			"internal/secret", "internal/apipath", "internal/ttlmap", "internal/automationapi", "internal/session",
			"internal/sessionstore", "internal/endpoint", "internal/access", "internal/relay",
		},
		foreign: []string{caddy, certmagic, zap, prometheus, singleflight, rate, humanize},
		never:   []string{"internal/emulator", "internal/cli"},
	},
	"internal/cli": {
		ours:    []string{anyOurs},
		foreign: []string{caddy, certmagic, cobra, zap, term},
	},
	// Measures what is shipped, so it starts what is shipped.
	"bench": {
		ours:    []string{"caddymodule"},
		foreign: []string{caddy},
	},
	"cmd/ctmgate": {
		ours:    []string{"caddymodule", "internal/cli"},
		foreign: []string{caddy},
	},
}

// soleImporters names the one package that stands between a library and the rest of us.
var soleImporters = map[string]string{
	goCache: "internal/ttlmap",
	goRedis: "internal/sessionstore",
}

// soleInits names the one file of a package that may have an init function, so that what a blank import of the package
// does can be read in one place.
var soleInits = map[string]string{
	"caddymodule": "register.go",
}
