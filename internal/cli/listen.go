package cli

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// defaultListen is where sidecar and demo listen, and healthcheck looks.
const defaultListen = "127.0.0.1:8080"

// parseListen reads an address to listen on: host:port, :port, or
// unix//path. flag is named in errors.
func parseListen(flag, text string) (caddy.NetworkAddress, error) {
	fail := func(why string) (caddy.NetworkAddress, error) {
		return caddy.NetworkAddress{}, usagef("%s %q: %s; expected host:port, as in 127.0.0.1:8080, or unix//path/to/socket", flag, text, why)
	}
	if strings.ContainsAny(text, "{} ") {
		return fail("it holds braces or spaces")
	}
	network, host, port, err := caddy.SplitNetworkAddress(text)
	if err != nil {
		return fail("it cannot be read")
	}
	switch network {
	case "unix":
		if !strings.HasPrefix(host, "/") {
			return fail("it names no absolute path")
		}
	case "", "tcp", "tcp4", "tcp6":
		if port == "" {
			return fail("it names no port")
		}
	default:
		return fail("it is neither TCP nor a Unix socket")
	}
	addr, err := caddy.ParseNetworkAddress(text)
	if err != nil {
		return fail("it cannot be read")
	}
	if addr.PortRangeSize() != 1 {
		return fail("it names several ports")
	}
	return addr, nil
}

// readListen reads how somebody names the address at which a gateway listens:
// as parseListen does, or as the URL under which it is called.
func readListen(flag, text string) (caddy.NetworkAddress, error) {
	if !strings.Contains(text, "://") {
		return parseListen(flag, text)
	}
	u, err := url.Parse(text)
	port := map[string]string{"http": "80", "https": "443"}
	if err != nil || port[u.Scheme] == "" || u.Hostname() == "" || u.User != nil {
		return caddy.NetworkAddress{}, usagef("%s is no URL of a gateway; expected host:port, unix//path/to/socket, or a URL such as http://127.0.0.1:8080", flag)
	}
	return parseListen(flag, net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port[u.Scheme])))
}

// otherNames are hosts by which a gateway may listen that is called at host.
func otherNames(host string) []string {
	everywhere := []string{"", "0.0.0.0", "::"}
	_, err := netip.ParseAddr(host)
	switch {
	case isEverywhere(host) || isLoopbackHost(host) && err != nil:
		return append(everywhere, "localhost", "127.0.0.1", "::1")
	case isLoopbackHost(host):
		return append(everywhere, "localhost")
	case isThisMachine(host):
		return everywhere
	}
	return nil
}

func isThisMachine(host string) bool {
	if name, err := os.Hostname(); err == nil && strings.EqualFold(name, host) {
		return true
	}
	ip := net.ParseIP(host)
	addrs, _ := net.InterfaceAddrs()
	return ip != nil && slices.ContainsFunc(addrs, func(a net.Addr) bool {
		own, ok := a.(*net.IPNet)
		return ok && own.IP.Equal(ip)
	})
}

// named is an address and what sets it; the zero address is none.
type named struct {
	origin string
	addr   caddy.NetworkAddress
}

// apart makes sure that no two of the addresses are the same.
func apart(list ...named) error {
	for i, a := range list {
		for _, b := range list[:i] {
			if sameListen(a.addr, b.addr) {
				return usagef("%s and %s are the same address, %s; expected another one for %s", b.origin, a.origin, a.addr, a.origin)
			}
		}
	}
	return nil
}

// sameListen tells whether two cannot listen at a and at b: also where one of
// them is a part of the other. Port 0 is a free one for each.
func sameListen(a, b caddy.NetworkAddress) bool {
	if a.IsUnixNetwork() || b.IsUnixNetwork() {
		return a.IsUnixNetwork() && b.IsUnixNetwork() && filepath.Clean(socketPath(a)) == filepath.Clean(socketPath(b))
	}
	if a.StartPort == 0 || a.StartPort != b.StartPort {
		return false
	}
	is, other := strings.ToLower(a.Host), strings.ToLower(b.Host)
	localhost := (is == "localhost" || other == "localhost") && isLoopbackHost(is) && isLoopbackHost(other)
	return is == other || isEverywhere(is) || isEverywhere(other) || localhost
}

// isEverywhere tells whether host stands for all addresses of this machine.
func isEverywhere(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// claim makes sure that nobody listens on addr, and returns it, with a free
// port in place of port 0. Caddy itself would not notice: it listens with
// SO_REUSEPORT, with which two processes share a port and each gets some of
// the calls, and it removes a socket file without a look at who uses it.
func claim(flag string, addr caddy.NetworkAddress) (caddy.NetworkAddress, error) {
	taken := fmt.Errorf("listening on %s: something else listens there already; stop it, or choose another address with %s", addr, flag)
	if addr.IsUnixNetwork() {
		path := socketPath(addr)
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return addr, nil
		case err != nil:
			return addr, fmt.Errorf("listening on %s: %w", addr, err)
		case info.Mode().Type() != os.ModeSocket:
			return addr, fmt.Errorf("listening on %s: there is something that is no socket; remove it, or choose another address with %s", addr, flag)
		case answers(path):
			return addr, taken
		}
		return addr, nil
	}
	ln, err := net.Listen(addr.Network, addr.JoinHostPort(0)) //nolint:noctx // takes no time
	if errors.Is(err, syscall.EADDRINUSE) {
		return addr, taken
	}
	if err != nil {
		return addr, fmt.Errorf("listening on %s (choose another address with %s): %w", addr, flag, err)
	}
	defer func() { _ = ln.Close() }()
	if addr.StartPort == 0 {
		port := uint(ln.Addr().(*net.TCPAddr).Port) //nolint:gosec // a port
		addr.StartPort, addr.EndPort = port, port
	}
	return addr, nil
}

// answers tells whether a living process listens on the socket at path.
func answers(path string) bool {
	conn, err := net.DialTimeout("unix", path, time.Second) //nolint:noctx // has a timeout
	if err != nil {
		return errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EAGAIN) // somebody else's, or busy
	}
	_ = conn.Close()
	return true
}

// socketPath is the path of a Unix address without the mode that may follow.
func socketPath(addr caddy.NetworkAddress) string {
	path, _, _ := strings.Cut(addr.Host, "|")
	return path
}

// isLoopback tells whether only this machine can reach addr.
func isLoopback(addr caddy.NetworkAddress) bool {
	return addr.IsUnixNetwork() || isLoopbackHost(addr.Host)
}

func isLoopbackHost(host string) bool {
	host = strings.ToLower(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// authority is host and port under which a process on this machine calls
// addr. A Unix socket has none of its own: its callers say localhost.
func authority(addr caddy.NetworkAddress) string {
	if addr.IsUnixNetwork() {
		return "localhost"
	}
	host := addr.Host
	if isEverywhere(host) {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.FormatUint(uint64(addr.StartPort), 10))
}
