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
	cmd.Flags().String("address", "", "the gateway's admin API: host:port, or unix//path/to/socket")
	cmd.Flags().String("listen", "", "the address at which a sidecar or demo listens; its admin API is found by it ("+envListen+")")
}

// adminClient speaks to the admin API of a running gateway.
type adminClient struct {
	addr  caddy.NetworkAddress
	flags string // what a further command needs to find the same gateway
}

// findAdmin finds the gateway that the flags name; without any, the one of the
// environment, or the one that runs on this machine.
func findAdmin(cmd *cobra.Command) (*adminClient, error) {
	address, _ := cmd.Flags().GetString("address")
	listen, _ := cmd.Flags().GetString("listen")
	switch {
	case address != "" && listen != "":
		return nil, usagef("--address and --listen are both set; expected one of them")
	case address != "":
		addr, err := parseListen("--address", address)
		if err != nil {
			return nil, err
		}
		return find([]place{{addr, ""}}, " --address "+quote(address))
	case listen != "":
		one, err := placeByListen("--listen", listen)
		if err != nil {
			return nil, err
		}
		return find([]place{one}, " --listen "+quote(listen))
	}
	places, err := likelyPlaces()
	if err != nil {
		return nil, err
	}
	return find(places, "")
}

// place is where an admin API may be.
type place struct {
	addr caddy.NetworkAddress
	why  string // it may be there
}

func placeByListen(origin, listen string) (place, error) {
	addr, err := parseListen(origin, listen)
	if err != nil {
		return place{}, err
	}
	return place{socketAddress(adminSocket(addr)), "for the gateway that listens on " + addr.String()}, nil
}

func socketAddress(path string) caddy.NetworkAddress {
	return caddy.NetworkAddress{Network: "unix", Host: path}
}

// likelyPlaces are those to look at where no flag names one, the likeliest
// first.
func likelyPlaces() (places []place, err error) {
	if listen := os.Getenv(envListen); listen != "" {
		one, err := placeByListen(envListen, listen)
		if err != nil {
			return nil, err
		}
		places = append(places, one)
	}
	if admin := os.Getenv(envAdmin); admin != "" && admin != "off" {
		addr, err := parseListen(envAdmin, admin)
		if err != nil {
			return nil, err
		}
		places = append(places, place{addr, "by " + envAdmin})
	}
	usual, err := placeByListen("", defaultListen)
	if err != nil {
		return nil, err
	}
	return append(places, usual, place{socketAddress(shippedAdminSocket), "as in the Caddyfiles that come with " + binary()}), nil
}

// find returns the first of places where something answers. If flags named
// none, the sockets of this user's other sidecars are looked at as well.
func find(places []place, flags string) (*adminClient, error) {
	var looked strings.Builder
	seen := make(map[string]bool)
	for _, p := range places {
		if seen[p.addr.String()] {
			continue
		}
		seen[p.addr.String()] = true
		err := probe(p.addr)
		if err == nil {
			return &adminClient{p.addr, flags}, nil
		}
		fmt.Fprintf(&looked, "\n  %s", p.addr)
		if p.why != "" {
			fmt.Fprintf(&looked, " (%s)", p.why)
		}
		fmt.Fprintf(&looked, ": %s", dialReason(err))
	}
	if flags == "" {
		if others := otherSockets(seen); len(others) == 1 {
			return &adminClient{others[0], ""}, nil
		} else if len(others) > 1 {
			return nil, usagef("several gateways of this user run here; choose one:%s", eachOf(others))
		}
		folder, _ := socketFolder()
		fmt.Fprintf(&looked, "\n  %s: no other gateway of this user", filepath.Join(folder, "ctmgate-*.sock"))
	}
	return nil, fmt.Errorf("no gateway answers at its admin API. Looked at:%s\n"+
		"Start the gateway, run this as its user and in its container, or name its admin API with --address, as in "+
		"--address unix/%s (of a sidecar, --listen does as well)", &looked, shippedAdminSocket)
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
