package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
)

// What we ship keeps its admin API here, where a Caddyfile configures it.
const shippedAdminSocket = "/run/ctmgate/admin.sock"

// caddyAdmin is where a Caddy keeps its own, where no config says otherwise.
const caddyAdmin = "localhost:2019"

const (
	adminDialTime = 2 * time.Second
	// A request may wait for a login: login_timeout is 15s by default, and the
	// gateway adds a minute to it.
	adminCallTime = 3 * time.Minute
	// What is read of an answer at most: some 10,000 accounts.
	adminAnswerMost = 8 << 20
)

// addAdminFlags gives cmd the flags with which findAdmin finds a gateway.
func addAdminFlags(cmd *cobra.Command) {
	cmd.Flags().String("address", "", "the gateway's admin API: host:port, or unix//path/to/socket ("+envAdmin+")")
	cmd.Flags().String("listen", "", "the address at which a sidecar or demo listens; its admin API is found by it ("+envListen+")")
}

// adminClient speaks to the admin API of a running gateway.
type adminClient struct {
	addr  caddy.NetworkAddress
	flags string // what a further command needs to find the same gateway
}

// findAdmin finds the gateway that the flags name, else the one that the
// variables name. What is named and does not answer is not replaced by another
// one, which nobody may have meant; only where nothing is named is the gateway
// looked for that runs on this machine.
func findAdmin(cmd *cobra.Command) (*adminClient, error) {
	address, _ := cmd.Flags().GetString("address")
	listen, _ := cmd.Flags().GetString("listen")
	// One that is empty is named too: a script's own variable may be unset.
	byAddress, byListen := cmd.Flags().Changed("address"), cmd.Flags().Changed("listen")
	switch {
	case byAddress && byListen:
		return nil, usagef("--address and --listen are both set; expected one of them")
	case byAddress:
		addr, err := parseListen("--address", address)
		if err != nil {
			return nil, err
		}
		return find(place{addr, ""}, " --address "+quote(address))
	case byListen:
		one, err := placeByListen("--listen", listen)
		if err != nil {
			return nil, err
		}
		return find(one, " --listen "+quote(listen))
	}
	named, err := namedPlaces()
	switch {
	case err != nil:
		return nil, err
	case len(named) == 0:
		return lookAround(caddyAdmin)
	case len(named) == 2 && !samePlace(named[0], named[1]) && probe(named[0].addr) == nil && probe(named[1].addr) == nil:
		return nil, usagef("%s and %s lead to different gateways; choose one:%s", envAdmin, envListen,
			eachOf([]caddy.NetworkAddress{named[0].addr, named[1].addr}))
	}
	return find(named[0], "")
}

// place is where an admin API may be.
type place struct {
	addr caddy.NetworkAddress
	why  string // it may be there
}

// placeByListen is the place that belongs to a listen address, which origin
// gives; "" for the usual one. Where nobody answers at it, one that answers and
// has the same address by another name takes its place.
func placeByListen(origin, listen string) (place, error) {
	addr, err := readListen(origin, listen)
	if err != nil {
		return place{}, err
	}
	why := "for the gateway that listens on " + addr.String()
	if origin != "" {
		why += ", by " + origin
	}
	socket := socketAddress(adminSocket(addr))
	if !addr.IsUnixNetwork() && probe(socket) != nil {
		for _, host := range otherNames(addr.Host) {
			addr.Host = host
			if other := socketAddress(adminSocket(addr)); probe(other) == nil {
				return place{other, why}, nil
			}
		}
	}
	return place{socket, why}, nil
}

func socketAddress(path string) caddy.NetworkAddress {
	return caddy.NetworkAddress{Network: "unix", Host: path}
}

func samePlace(a, b place) bool {
	if a.addr.IsUnixNetwork() && b.addr.IsUnixNetwork() {
		return socketPath(a.addr) == socketPath(b.addr)
	}
	return a.addr.String() == b.addr.String()
}

// namedPlaces are those that variables name. The first counts, as it does for
// the sidecar that has these variables.
func namedPlaces() (places []place, err error) {
	if admin := os.Getenv(envAdmin); admin != "" && admin != "off" {
		addr, err := parseListen(envAdmin, admin)
		if err != nil {
			return nil, err
		}
		places = append(places, place{addr, "by " + envAdmin})
	}
	if listen := os.Getenv(envListen); listen != "" {
		one, err := placeByListen(envListen, listen)
		if err != nil {
			return nil, err
		}
		places = append(places, one)
	}
	return places, nil
}

// find is the gateway at a place that somebody has named.
func find(p place, flags string) (*adminClient, error) {
	if err := probe(p.addr); err != nil {
		return nil, nobodyAnswers(p.lookedAt(err))
	}
	return &adminClient{p.addr, flags}, nil
}

// lookAround is the first gateway that answers where one usually does, else
// the only other one of this user, else what answers at the last address.
func lookAround(last string) (*adminClient, error) {
	addr, err := caddy.ParseNetworkAddress(last)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", last, err)
	}
	usual, err := placeByListen("", defaultListen)
	if err != nil {
		return nil, err
	}
	var looked string
	seen := make(map[string]bool)
	for _, p := range []place{usual, {socketAddress(shippedAdminSocket), "as in the Caddyfiles that come with " + binary()}} {
		err := probe(p.addr)
		if err == nil {
			return &adminClient{p.addr, ""}, nil
		}
		looked += p.lookedAt(err)
		seen[p.addr.String()] = true
	}
	if others := otherSockets(seen); len(others) == 1 {
		return &adminClient{others[0], ""}, nil
	} else if len(others) > 1 {
		return nil, usagef("several gateways of this user run here; choose one:%s", eachOf(others))
	}
	end := place{addr, "where Caddy's own is by default"}
	if err = probe(addr); err == nil {
		return &adminClient{addr, ""}, nil
	}
	folder, _ := socketFolder()
	return nil, nobodyAnswers(looked + "\n  " + filepath.Join(folder, "ctmgate-*.sock") + ": no other gateway of this user" + end.lookedAt(err))
}

// lookedAt is the line that says why nobody answers at p.
func (p place) lookedAt(err error) string {
	line := "\n  " + p.addr.String()
	if p.why != "" {
		line += " (" + p.why + ")"
	}
	return line + ": " + dialReason(err)
}

func nobodyAnswers(looked string) error {
	return fmt.Errorf("no gateway answers at its admin API. Looked at:%s\n"+
		"Start the gateway, run this as its user and in its container, or name its admin API with --address, as in "+
		"--address unix/%s (of a sidecar, --listen does as well)", looked, shippedAdminSocket)
}

func eachOf(addrs []caddy.NetworkAddress) string {
	var text strings.Builder
	for _, addr := range addrs {
		fmt.Fprintf(&text, "\n  --address %s", quote(addr.String()))
	}
	return text.String()
}

// otherSockets are those at which a gateway of this user answers, beside those
// that were seen.
func otherSockets(seen map[string]bool) (found []caddy.NetworkAddress) {
	folder, own := socketFolder()
	if info, err := os.Lstat(folder); err != nil || own && !ownedByUs(info) {
		return nil // somebody else's, who may have laid out anything there
	}
	paths, _ := filepath.Glob(filepath.Join(folder, "ctmgate-*.sock"))
	for _, path := range paths {
		if addr := socketAddress(path); !seen[addr.String()] && probe(addr) == nil {
			found = append(found, addr)
		}
	}
	return found
}

func dial(ctx context.Context, addr caddy.NetworkAddress) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, adminDialTime)
	defer cancel()
	network, address := addr.Network, addr.JoinHostPort(0)
	if addr.IsUnixNetwork() {
		address = socketPath(addr)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

func probe(addr caddy.NetworkAddress) error {
	conn, err := dial(context.Background(), addr)
	if err == nil {
		_ = conn.Close()
	}
	return err
}

func dialReason(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "there is no such socket"
	case errors.Is(err, os.ErrPermission):
		return "this user may not open it; run this as the user of the gateway"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody listens there"
	}
	return err.Error()
}

func (a *adminClient) String() string { return a.addr.String() }

// adminError is what the admin API answered instead of what was asked for.
type adminError struct {
	status int
	text   string
}

func (e *adminError) Error() string { return e.text }

// ask makes one request, and returns the answer's body.
func (a *adminClient) ask(ctx context.Context, method, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, adminCallTime)
	defer cancel()
	// As Caddy's own commands do: over TCP, an Origin that is the address of
	// the admin API; over a socket, which no browser can reach, none.
	origin := "http://" + a.addr.JoinHostPort(0)
	if a.addr.IsUnixNetwork() {
		origin = "http://127.0.0.1"
	}
	req, err := http.NewRequestWithContext(ctx, method, origin+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("asking the gateway: %w", err)
	}
	if !a.addr.IsUnixNetwork() {
		req.Header.Set("Origin", origin)
	}
	client := &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, a.addr) },
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		return nil, fmt.Errorf("asking the gateway at %s: %w", a, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, adminAnswerMost))
	if err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w", a, err)
	}
	if resp.StatusCode == http.StatusOK {
		return body, nil
	}
	var told struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(bytes.TrimSpace(body), &told) != nil || told.Error == "" {
		return nil, fmt.Errorf("what answers at %s is no gateway, or an older one: it said %d; name the gateway's admin API with --address",
			a, resp.StatusCode)
	}
	return nil, &adminError{resp.StatusCode, printable(told.Error)}
}

// printable is text without what could steer a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
}
