package caddymodule_test

import (
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"testing"
)

// overHTTP2 makes one call in HTTP/2, with prior knowledge, and reads the body
// of its answer: Go's own client checks what it is to send.
func (g *gateway) overHTTP2(method, path string) reply {
	g.t.Helper()
	const (
		headers, settings = 1, 4
		ends              = 1 | 4 // the headers, and the stream
	)
	var fields []byte // literals that are not indexed
	for _, field := range [][2]string{{":method", method}, {":scheme", "http"}, {":path", path}, {":authority", g.addr}} {
		fields = append(fields, 0)
		for _, text := range field {
			fields = append(append(fields, byte(len(text))), text...)
		}
	}
	frame := func(kind, flags byte, stream uint32, payload []byte) []byte {
		head := []byte{0, 0, byte(len(payload)), kind, flags}
		return append(binary.BigEndian.AppendUint32(head, stream), payload...)
	}
	conn := g.dial()
	defer conn.Close()
	out := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(settings, 0, 0, nil)...)
	if _, err := conn.Write(append(out, frame(headers, ends, 1, fields)...)); err != nil {
		g.t.Fatal(err)
	}
	var got reply
	for {
		var head [9]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			g.t.Fatal(err)
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(conn, payload); err != nil {
			g.t.Fatal(err)
		}
		switch kind := head[3]; {
		case binary.BigEndian.Uint32(head[5:]) != 1:
			continue
		case kind == headers:
			// Those that nearly every answer has stand in HPACK's table.
			got.status = map[byte]int{0x88: 200, 0x8c: 400, 0x8d: 404}[payload[0]]
		case kind == 0:
			got.body += string(payload)
		default:
			g.t.Fatalf("the stream ended with a frame of type %d: %x", kind, payload)
		}
		if head[4]&1 != 0 {
			return got
		}
	}
}

func TestWireARequestThatCannotBeSentOnIsTheCallersToMend(t *testing.T) {
	up := startFront(t, nil)
	// Caddy's servers take any method in HTTP/2.
	g := startGateway(t, "{\n\tservers {\n\t\tprotocols h1 h2c\n\t}\n}\n"+wireSite(up.url, wireUser(t)))
	if got := g.overHTTP2(http.MethodGet, wireEcho); got.status != 200 {
		t.Fatalf("a good call got %d %s", got.status, got.body)
	}
	before := up.arrived()
	for _, method := range []string{"G T", "GET\t", "\xc3\x89", "GET / HTTP/1.1"} {
		got := g.overHTTP2(method, wireEcho)
		if got.status != 400 || got.code() != "ctmgate.bad_request" || !strings.Contains(got.message(t), "its method or one of its headers") {
			t.Errorf("%q: got %d %s", method, got.status, got.body)
		}
	}
	if arrived := up.arrived()[len(before):]; len(arrived) > 0 {
		t.Errorf("upstream got %q", arrived)
	}
	refused := 0
	for _, line := range audited(t, g.log) {
		if line.Status == 400 && line.Code == "ctmgate.bad_request" {
			refused++
		}
	}
	if log := g.logText(); refused != 4 || strings.Contains(log, "could not forward") || strings.Contains(log, "left aside") {
		t.Errorf("%d audit lines; the log may blame upstream", refused)
	}
}
