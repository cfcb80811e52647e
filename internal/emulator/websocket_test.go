package emulator

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// testSocket is the client's side, written from the RFC apart from the server's.
type testSocket struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// dialSocket shakes hands and takes the first alert.
func dialSocket(t *testing.T, l *live, headers ...string) *testSocket {
	t.Helper()
	s, resp := shakeHands(t, l, headers...)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %d", resp.StatusCode)
	}
	// The example key and answer of RFC 6455, section 1.3.
	if got := resp.Header.Get("Sec-WebSocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("Sec-WebSocket-Accept is %s", got)
	}
	op, alert := s.read()
	if op != opText || !json.Valid(alert) || !strings.Contains(string(alert), "alertFields") {
		t.Errorf("first message: %d %s", op, alert)
	}
	return s
}

func shakeHands(t *testing.T, l *live, headers ...string) (*testSocket, *http.Response) {
	t.Helper()
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM())
	conn, err := tls.Dial("tcp", l.server.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	base := []string{
		"Host: localhost", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
	}
	lines := ""
	for _, b := range base { // a header of the test replaces the usual one
		name, _, _ := strings.Cut(b, ":")
		if !strings.Contains("\n"+strings.Join(headers, "\n"), "\n"+name+":") {
			lines += b + "\r\n"
		}
	}
	_, err = fmt.Fprintf(conn, "GET /automation-api/run/alerts/stream HTTP/1.1\r\n%s%s\r\n\r\n", lines, strings.Join(headers, "\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := &testSocket{t: t, conn: conn, in: bufio.NewReader(conn)}
	resp, err := http.ReadResponse(s.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return s, resp
}

func clientFrame(first byte, payload []byte) []byte {
	out := []byte{first}
	switch n := len(payload); {
	case n <= 125:
		out = append(out, 0x80|byte(n))
	case n <= 0xffff:
		out = binary.BigEndian.AppendUint16(append(out, 0x80|126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, 0x80|127), uint64(n))
	}
	mask := []byte{1, 2, 3, 4}
	out = append(out, mask...)
	for i, b := range payload {
		out = append(out, b^mask[i%4])
	}
	return out
}

func (s *testSocket) write(first byte, payload string) {
	s.t.Helper()
	if _, err := s.conn.Write(clientFrame(first, []byte(payload))); err != nil {
		s.t.Fatal(err)
	}
}

func (s *testSocket) read() (op byte, payload []byte) {
	s.t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(s.in, head); err != nil {
		s.t.Fatal(err)
	}
	if head[1]&0x80 != 0 || head[0]&0xf0 != 0x80 {
		s.t.Fatalf("a server's frame begins with %x", head)
	}
	n := int(head[1])
	if n == 126 {
		long := make([]byte, 2)
		if _, err := io.ReadFull(s.in, long); err != nil {
			s.t.Fatal(err)
		}
		n = int(binary.BigEndian.Uint16(long))
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(s.in, payload); err != nil {
		s.t.Fatal(err)
	}
	return head[0] & 0x0f, payload
}

func TestTheAlertStreamTalks(t *testing.T) {
	l := start(t, Options{})
	token := l.login()
	s := dialSocket(t, l, bearer(token))
	if got := l.events.last(); got.Kind != KindCall || got.Status != 101 || got.User != "emuser" {
		t.Errorf("observed %+v", got)
	}
	s.write(0x80|opText, "hello")
	if op, got := s.read(); op != opText || string(got) != `{"echo":"hello"}` {
		t.Errorf("got %d %s", op, got)
	}
	s.write(0x80|opPing, "are you there")
	if op, got := s.read(); op != opPong || string(got) != "are you there" {
		t.Errorf("got %d %s", op, got)
	}
	s.write(opText, "in two ") // with a ping in between
	s.write(0x80|opPing, "")
	s.write(0x80|opContinuation, "frames")
	if op, _ := s.read(); op != opPong {
		t.Errorf("got %d", op)
	}
	if _, got := s.read(); string(got) != `{"echo":"in two frames"}` {
		t.Errorf("got %s", got)
	}
	s.write(0x80|opPong, "unasked")
	l.e.Restart() // the token counts at the handshake only
	s.write(0x80|opText, strings.Repeat("x", 3000))
	if _, got := s.read(); len(got) != 3000+len(`{"echo":""}`) {
		t.Errorf("got %d bytes", len(got))
	}
	s.write(0x80|opClose, "\x03\xe9bye")
	if op, got := s.read(); op != opClose || string(got) != "\x03\xe9" {
		t.Errorf("got %d %x", op, got)
	}
	if _, err := s.in.ReadByte(); err == nil {
		t.Error("the connection goes on")
	}
}

func TestTheAlertStreamRefusesBadFrames(t *testing.T) {
	l := start(t, Options{})
	token := bearer(l.login())
	for name, test := range map[string]struct {
		frame []byte
		code  uint16
	}{
		"an unmasked frame":             {[]byte{0x81, 0x01, 'x'}, closeProtocol},
		"a reserved bit":                {clientFrame(0xC0|opText, nil), closeProtocol},
		"an unknown kind":               {clientFrame(0x80|0x3, nil), closeProtocol},
		"an unknown control kind":       {clientFrame(0x80|0xB, nil), closeProtocol},
		"a control frame in parts":      {clientFrame(opPing, nil), closeProtocol},
		"a long control frame":          {clientFrame(0x80|opPing, make([]byte, 126)), closeProtocol},
		"a continuation of nothing":     {clientFrame(0x80|opContinuation, nil), closeProtocol},
		"a text inside a text":          {append(clientFrame(opText, nil), clientFrame(opText, nil)...), closeProtocol},
		"binary":                        {clientFrame(0x80|opBinary, nil), closeKind},
		"text that is no UTF-8":         {clientFrame(0x80|opText, []byte{0xff}), closeNotUTF8},
		"a message beyond the limit":    {clientFrame(0x80|opText, make([]byte, maxSocketMessage+1)), closeTooBig},
		"parts that exceed it together": {append(clientFrame(opText, make([]byte, maxSocketMessage)), clientFrame(0x80, []byte("x"))...), closeTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			s := dialSocket(t, l, token)
			if _, err := s.conn.Write(test.frame); err != nil {
				t.Fatal(err)
			}
			if op, got := s.read(); op != opClose || len(got) != 2 || binary.BigEndian.Uint16(got) != test.code {
				t.Errorf("got %d %x", op, got)
			}
		})
	}
}

func TestTheAlertStreamRefusesBadHandshakes(t *testing.T) {
	l := start(t, Options{})
	token := bearer(l.login())
	for name, test := range map[string]struct {
		headers []string
		status  int
	}{
		"no token":             {nil, 401},
		"a dead token":         {[]string{bearer("DEAD")}, 401},
		"no upgrade":           {[]string{token, "Upgrade: h2c"}, 400},
		"no connection word":   {[]string{token, "Connection: close"}, 400},
		"a short key":          {[]string{token, "Sec-WebSocket-Key: AAAA"}, 400},
		"another version":      {[]string{token, "Sec-WebSocket-Version: 8"}, 426},
		"both kinds of secret": {[]string{token, "X-Api-Key: x"}, 400},
	} {
		t.Run(name, func(t *testing.T) {
			if _, resp := shakeHands(t, l, test.headers...); resp.StatusCode != test.status {
				t.Errorf("got %d", resp.StatusCode)
			}
		})
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(clientFrame(0x80|opText, []byte("hello")))
	f.Add(clientFrame(0x80|opClose, []byte{3, 232}))
	f.Add(clientFrame(opText, make([]byte, 300)))
	f.Add([]byte{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := readFrame(bytes.NewReader(in), 1000)
		if err == nil && (len(got.payload) > 1000 || len(got.payload) > len(in)) {
			t.Errorf("%d bytes of payload from %d bytes", len(got.payload), len(in))
		}
	})
}
