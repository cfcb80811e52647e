package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// callPath is what every request asks for.
const callPath = "/automation-api/config/servers"

// target is where a load goes, and what has to come back.
type target struct {
	addr    string
	trust   *tls.Config // nil for plain HTTP
	request []byte
	want    string
}

// newTarget writes the request once: the generator shares the machine with what it measures, and so does little. The
// token is for the upstream itself; a proxy has its own.
func newTarget(addr string, trust *tls.Config, token, want string) target {
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: ctmgate-bench\r\nAccept: application/json\r\n", callPath, addr)
	if token != "" {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", token)
	}
	b.WriteString("\r\n")
	return target{addr: addr, trust: trust, request: []byte(b.String()), want: want}
}

// result is what the generator saw.
type result struct {
	elapsed   time.Duration
	latencies []time.Duration // sorted, one for each counted request
}

func (r result) perSecond() float64 { return float64(len(r.latencies)) / r.elapsed.Seconds() }

func (r result) p50() time.Duration { return r.latencies[len(r.latencies)/2] }

// load sends requests over keep-alive connections, each with one request under way at a time, first a tenth as many
// that are not counted. around is called right before and right after those that count. Any answer but the wanted one
// fails the load.
func load(ctx context.Context, t target, connections, requests int, around func(begins bool) error) (result, error) {
	lines := make([]*line, connections)
	for i := range lines {
		l, err := dial(ctx, t)
		if err != nil {
			return result{}, err
		}
		defer l.conn.Close()
		// A load that is called off or takes too long ends here, in the middle of a read.
		defer context.AfterFunc(ctx, func() { _ = l.conn.Close() })()
		lines[i] = l
	}
	if err := send(ctx, lines, max(requests/10, connections)); err != nil {
		return result{}, fmt.Errorf("warming up: %w", err)
	}
	for _, l := range lines {
		l.latencies = make([]time.Duration, 0, requests)
	}
	if around == nil {
		around = func(bool) error { return nil }
	}
	if err := around(true); err != nil {
		return result{}, err
	}
	begun := time.Now()
	if err := send(ctx, lines, requests); err != nil {
		return result{}, err
	}
	r := result{elapsed: time.Since(begun)}
	if err := around(false); err != nil {
		return result{}, err
	}
	for _, l := range lines {
		r.latencies = append(r.latencies, l.latencies...)
	}
	slices.Sort(r.latencies)
	return r, nil
}

// send lets the lines share the requests, so that all have work until the end.
func send(ctx context.Context, lines []*line, requests int) error {
	var left atomic.Int64
	left.Store(int64(requests))
	var group sync.WaitGroup
	errs := make([]error, len(lines))
	for i, l := range lines {
		group.Go(func() {
			for errs[i] == nil && left.Add(-1) >= 0 {
				errs[i] = l.call()
			}
			if errs[i] != nil {
				left.Store(0)
			}
		})
	}
	group.Wait()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("ended early: %w", err)
	}
	return errors.Join(errs...)
}

// line is one keep-alive connection.
type line struct {
	conn      net.Conn
	reader    *bufio.Reader
	target    target
	body      []byte
	latencies []time.Duration
}

func dial(ctx context.Context, t target) (*line, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	if t.trust != nil {
		secure := tls.Client(conn, t.trust)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		conn = secure
	}
	return &line{conn: conn, reader: bufio.NewReader(conn), target: t, body: make([]byte, len(t.want)+1)}, nil
}

// call sends the request once and reads the answer to its end.
func (l *line) call() error {
	begun := time.Now()
	if _, err := l.conn.Write(l.target.request); err != nil {
		return err
	}
	res, err := http.ReadResponse(l.reader, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	// One byte of room is left, and must stay empty.
	n, err := io.ReadFull(res.Body, l.body)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("status %d, and a body that is empty or too long", res.StatusCode)
	}
	if res.StatusCode != http.StatusOK || !bytes.Equal(l.body[:n], []byte(l.target.want)) {
		return fmt.Errorf("status %d, and not the body that was expected", res.StatusCode)
	}
	l.latencies = append(l.latencies, time.Since(begun))
	return nil
}
