package emulator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Server is an emulator that listens.
type Server struct {
	listener net.Listener
	http     *http.Server
	url      string
	cancel   context.CancelFunc
	served   chan struct{}
	conns    sync.WaitGroup // connections that are not hijacked
	requests sync.WaitGroup // handlers, also those that hijacked their connection
	once     sync.Once

	mu      sync.Mutex
	closing bool // no request may begin any more
}

// Listen serves on a TCP address such as 127.0.0.1:8443 or 127.0.0.1:0, with a
// certificate of ca, or plain http when ca is nil. The certificate names
// localhost, the loopback addresses, the host of addr and this machine.
func (e *Emulator) Listen(addr string, ca *CA) (*Server, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	scheme := "http"
	if ca != nil {
		cert, err := ca.Certificate(certificateHosts(addr)...)
		if err != nil {
			return nil, errors.Join(err, ln.Close())
		}
		protocols := []string{"http/1.1"}
		if e.options.HTTP2 {
			protocols = []string{"h2", "http/1.1"}
		}
		ln = tls.NewListener(ln, &tls.Config{
			Certificates: []tls.Certificate{cert}, NextProtos: protocols, MinVersion: tls.VersionTLS12,
		})
		scheme = "https"
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		listener: ln, cancel: cancel, served: make(chan struct{}),
		url: scheme + "://" + reachable(ln.Addr()) + e.base,
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(e.options.HTTP2)
	s.http = &http.Server{
		Handler:           s.tracked(e),
		ReadHeaderTimeout: 30 * time.Second, // more than any live client needs to send its headers
		IdleTimeout:       2 * time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         s.connState,
		Protocols:         &protocols,
		ErrorLog:          log.New(io.Discard, "", 0), // clients that break off are part of the game
	}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(ln) // ends with ErrServerClosed
	}()
	return s, nil
}

// URL is the base URL, such as https://127.0.0.1:8443/automation-api.
func (s *Server) URL() string { return s.url }

// Addr is the address that is listened on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close ends the listener, every connection and every WebSocket, and returns
// when all goroutines of the server have ended.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		s.closing = true
		s.mu.Unlock()
		s.cancel()
		_ = s.http.Close()
		<-s.served
		// A connection that was accepted during the first Close is known only now.
		_ = s.http.Close()
		s.conns.Wait()
		s.requests.Wait()
	})
	return nil
}

func (s *Server) tracked(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.begin() {
			panic(http.ErrAbortHandler)
		}
		defer s.requests.Done()
		h.ServeHTTP(w, r)
	})
}

func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.requests.Add(1)
	}
	return !s.closing
}

func (s *Server) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.conns.Done()
	case http.StateActive, http.StateIdle:
	}
}

// reachable turns an address that is listened on into one that can be dialled.
func reachable(a net.Addr) string {
	tcp, isTCP := a.(*net.TCPAddr)
	if !isTCP || !tcp.IP.IsUnspecified() {
		return a.String()
	}
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(tcp.Port))
}

func certificateHosts(addr string) []string {
	hosts := defaultHosts()
	if host, _, err := net.SplitHostPort(addr); err == nil && host != "" && host != "0.0.0.0" && host != "::" {
		hosts = append(hosts, host)
	}
	if name, err := os.Hostname(); err == nil && name != "" {
		hosts = append(hosts, name)
	}
	return hosts
}
