package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Names of what is loaded, as the table shows them.
const (
	direct       = "direct"
	respond      = "respond"
	reverseProxy = "reverse_proxy"
	controlm     = "controlm"
)

// round is the order within a round. What is compared stands in A B B A, so that a machine that grows slower or faster
// during a round favours neither.
var round = []string{direct, respond, reverseProxy, controlm, controlm, reverseProxy}

// subject is something that takes the load.
type subject struct {
	target target
	child  *child // nil for the upstream itself: what it costs is not compared
}

// phase is what one subject did under the load, once.
type phase struct {
	many  result // with all connections
	alone result // with one
	cpu   time.Duration
}

// cpuPerRequest is what the process of the subject used for one request, user and system time.
func (p phase) cpuPerRequest() time.Duration { return p.cpu / time.Duration(len(p.many.latencies)) }

// measure starts the processes and loads one after the other.
func measure(ctx context.Context, o options) (r *report, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	folder, err := os.MkdirTemp("", "ctmgate-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o750); err != nil {
			return nil, err
		}
	}
	s := &stage{options: o, folder: folder, subjects: make(map[string]*subject)}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.set(ctx); err != nil {
		return nil, err
	}
	r = &report{options: o, phases: make(map[string][]phase)}
	before, err := s.others()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	for range o.rounds {
		for _, name := range round {
			p, err := s.subjects[name].load(ctx, o)
			if err != nil {
				return nil, fmt.Errorf("loading %s: %w", name, err)
			}
			r.phases[name] = append(r.phases[name], p)
		}
	}
	after, err := s.others()
	if err != nil {
		return nil, err
	}
	r.others = (after - before).Seconds() / time.Since(begun).Seconds() / float64(runtime.NumCPU())
	return r, nil
}

// load is one phase.
func (s *subject) load(ctx context.Context, o options) (phase, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	var p phase
	var err error
	p.many, err = load(ctx, s.target, o.connections, o.requests, func(begins bool) error {
		if s.child == nil {
			return nil
		}
		used, err := s.child.cpu()
		if begins {
			p.cpu -= used
		} else {
			p.cpu += used
		}
		return err
	})
	if err != nil {
		return p, err
	}
	p.alone, err = load(ctx, s.target, 1, max(o.requests/10, 1), nil)
	return p, err
}

// stage is everything that runs during a comparison.
type stage struct {
	options  options
	folder   string
	children []*child
	subjects map[string]*subject
}

// set starts the upstream and the proxies. All run at once, and only one is loaded.
func (s *stage) set(ctx context.Context) error {
	args := []string{"upstream"}
	caFile := ""
	if s.options.tls {
		caFile = filepath.Join(s.folder, "ca.pem")
		args = append(args, "-tls", caFile)
	}
	_, upstream, err := s.start(ctx, "upstream", args...)
	if err != nil {
		return err
	}
	_, addr, _ := strings.Cut(upstream, "://")
	trust, err := readTrust(caFile)
	if err != nil {
		return err
	}
	s.subjects[direct] = &subject{target: newTarget(addr, trust, upstreamToken, serversAnswer)}
	for name, write := range configs {
		addr, err := freeAddr(ctx)
		if err != nil {
			return err
		}
		config := filepath.Join(s.folder, name+".caddyfile")
		text := write(site{addr: addr, upstream: upstream, caFile: caFile})
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return err
		}
		args := []string{"proxy", "-config", config}
		if s.options.profiles != "" {
			args = append(args, "-cpuprofile", filepath.Join(s.options.profiles, name+".prof"))
		}
		c, _, err := s.start(ctx, name, args...)
		if err != nil {
			return err
		}
		want := serversAnswer
		if name == respond {
			want = respondAnswer
		}
		s.subjects[name] = &subject{target: newTarget(addr, nil, "", want), child: c}
	}
	return nil
}

func (s *stage) start(ctx context.Context, name string, args ...string) (*child, string, error) {
	c, line, err := start(ctx, s.folder, name, args...)
	if err != nil {
		return nil, "", err
	}
	s.children = append(s.children, c)
	return c, line, nil
}

// stop ends the proxies before the upstream, which they log out from.
func (s *stage) stop() error {
	var errs []error
	for i := len(s.children) - 1; i >= 0; i-- {
		errs = append(errs, s.children[i].stop())
	}
	return errors.Join(errs...)
}

// others is the CPU time that everything but this comparison has used on the machine so far.
func (s *stage) others() (time.Duration, error) {
	busy, err := readTimes("stat", parseBusy)
	if err != nil {
		return 0, fmt.Errorf("reading the CPU time of the machine, which needs Linux: %w", err)
	}
	own, err := readTimes("self/stat", parseStat)
	if err != nil {
		return 0, fmt.Errorf("reading our own CPU time, which needs Linux: %w", err)
	}
	for _, c := range s.children {
		used, err := c.cpu()
		if err != nil {
			return 0, err
		}
		own += used
	}
	return busy - own, nil
}

// readTrust returns the TLS settings for calling the upstream, nil for plain HTTP.
func readTrust(caFile string) (*tls.Config, error) {
	if caFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("reading the upstream's certificate: the file holds none")
	}
	return &tls.Config{RootCAs: roots, ServerName: loopback, NextProtos: []string{"http/1.1"}}, nil
}
