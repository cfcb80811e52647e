package relay

import (
	"bufio"
	"net"
	"net/http"
)

// Writer is the ResponseWriter that httputil.ReverseProxy is given. Until the final status it has a header map of its
// own, for two reasons: after a 1xx ReverseProxy empties the map it writes to, and with it would go what handlers in
// front of the gateway have set; and it adds to the map, so that an answer would have their Server header and
// Control-M's. With the final status, its headers replace those of the same name.
//
// An answer that switches protocols goes out with the headers of Control-M alone: ReverseProxy writes it straight to
// the connection.
type Writer struct {
	// Status is the final status that was sent, 101 when the connection was taken over, 0 before.
	Status int
	// Bytes counts the bytes of the body that were written, none of a connection that was taken over.
	Bytes int64

	w        http.ResponseWriter
	own      http.Header // nil until asked for, and again after the final status
	informed int         // how many 1xx were passed on
}

// mostInformed bounds the 1xx of one answer. A server has use for one or two; net/http leaves the bound to whoever
// listens to them, as ReverseProxy does.
const mostInformed = 16

// NewWriter makes a Writer that answers through w.
func NewWriter(w http.ResponseWriter) *Writer { return &Writer{w: w} }

// Header returns the headers that the next WriteHeader sends, after the final status the map of the ResponseWriter
// below, where trailers belong.
func (w *Writer) Header() http.Header {
	if w.Status != 0 && w.Status != http.StatusSwitchingProtocols {
		return w.w.Header()
	}
	if w.own == nil {
		w.own = make(http.Header)
	}
	return w.own
}

// WriteHeader sends a 1xx with only its own headers, or the final status with those below it too; of one name, the own
// ones count, and of Vary both, or a cache would forget what a handler in front varies by. Only the first final status
// counts.
func (w *Writer) WriteHeader(status int) {
	if w.Status != 0 {
		return
	}
	if 100 <= status && status <= 199 && status != http.StatusSwitchingProtocols {
		w.inform(status)
		return
	}
	below := w.w.Header()
	for name, values := range w.own {
		if name == "Vary" {
			values = append(below[name][:len(below[name]):len(below[name])], values...)
		}
		below[name] = values
	}
	w.own = nil
	w.Status = status
	w.w.WriteHeader(status)
}

// inform passes a 1xx on. net/http sends with it whatever stands in its map, and others hold on to that map: so its
// content makes room for a moment. What is too many of them is dropped.
func (w *Writer) inform(status int) {
	if w.informed++; w.informed > mostInformed {
		return
	}
	below := w.w.Header()
	aside := make(http.Header, len(below))
	for name, values := range below {
		aside[name] = values
	}
	clear(below)
	defer func() {
		clear(below)
		for name, values := range aside {
			below[name] = values
		}
	}()
	StripResponse(w.own) // ReverseProxy shows a 1xx to nobody else
	for name, values := range w.own {
		below[name] = values
	}
	w.w.WriteHeader(status)
}

func (w *Writer) Write(p []byte) (int, error) {
	if w.Status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.w.Write(p)
	w.Bytes += int64(n)
	return n, err
}

// FlushError sends what was written so far, for http.ResponseController.
func (w *Writer) FlushError() error {
	if w.Status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(w.w).Flush()
}

// Flush is FlushError for those who know only http.Flusher.
func (w *Writer) Flush() {
	_ = w.FlushError() // http.Flusher has no way to say it; the next Write says it again
}

// Hijack takes over the connection. What is written to it from then on is not counted.
func (w *Writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.w).Hijack()
	if err == nil {
		w.Status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// Unwrap lets http.ResponseController reach what the ResponseWriter below can do besides.
func (w *Writer) Unwrap() http.ResponseWriter { return w.w }

var (
	_ http.Flusher  = (*Writer)(nil)
	_ http.Hijacker = (*Writer)(nil)
)
