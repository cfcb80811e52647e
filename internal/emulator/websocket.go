package emulator

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA

	closeNormal   = 1000
	closeProtocol = 1002
	closeKind     = 1003
	closeNotUTF8  = 1007
	closeTooBig   = 1009

	maxSocketMessage  = 64 << 10
	socketWriteLimit  = 10 * time.Second // a client that reads nothing is given up
	socketLinger      = 2 * time.Second  // for the client to take note of a close
	socketMagicSuffix = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

// alertStream is GET /run/alerts/stream. The token counts at the handshake only.
// The first message is an alert; a text that the client sends comes back inside
// {"echo": …}, so that a test sees both directions.
func (c *call) alertStream() answer {
	h := c.r.Header
	key, err := base64.StdEncoding.DecodeString(h.Get("Sec-WebSocket-Key"))
	if !hasWord(h, "Connection", "upgrade") || !hasWord(h, "Upgrade", "websocket") || err != nil || len(key) != 16 {
		return fail(http.StatusBadRequest, "a WebSocket handshake is expected")
	}
	if h.Get("Sec-WebSocket-Version") != "13" {
		c.w.Header().Set("Sec-WebSocket-Version", "13")
		return fail(http.StatusUpgradeRequired, "WebSocket version 13 is expected")
	}
	conn, buffered, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		return fail(http.StatusInternalServerError, "a WebSocket needs HTTP/1.1")
	}
	defer func() { _ = conn.Close() }()
	// The context ends when the server closes; closing the connection is what
	// wakes a read.
	defer context.AfterFunc(c.r.Context(), func() { _ = conn.Close() })()
	c.w.wrote = true
	c.report(http.StatusSwitchingProtocols)
	sum := sha1.Sum([]byte(h.Get("Sec-WebSocket-Key") + socketMagicSuffix))
	s := &socket{conn: conn, in: buffered.Reader}
	_ = conn.SetDeadline(time.Time{}) // the server's own deadlines end with the handshake
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	if err == nil {
		err = s.send(opText, firstAlert)
	}
	if err == nil {
		s.serve()
	}
	return answer{}
}

var firstAlert = []byte(`{"alertFields":[{"alertId":"1"},{"eventType":"I"},{"dataCenter":"ctmprod"},` +
	`{"fileName":"MonthEnd"},{"jobName":"ReconcileLedgers"},{"severity":"V"},{"message":"Ended not OK"}]}`)

func hasWord(h http.Header, name, word string) bool {
	for _, line := range h.Values(name) {
		for w := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(w), word) {
				return true
			}
		}
	}
	return false
}

// socket is the server's side of RFC 6455, without extensions.
type socket struct {
	conn net.Conn
	in   *bufio.Reader
}

type frame struct {
	final   bool
	op      byte
	payload []byte
}

// socketError is a reason to close that the client is told.
type socketError uint16

func (e socketError) Error() string { return fmt.Sprintf("closing WebSocket with %d", uint16(e)) }

// serve answers until the connection ends.
func (s *socket) serve() {
	var whole []byte // of a message in several frames
	inside := false
	for {
		f, err := s.receive(maxSocketMessage - len(whole))
		if reason := socketError(0); errors.As(err, &reason) {
			s.complain(reason)
			return
		}
		if err != nil {
			return
		}
		switch f.op {
		case opPing:
			err = s.send(opPong, f.payload)
		case opPong:
		case opClose:
			_ = s.send(opClose, closeReply(f.payload))
			return
		default:
			if (f.op == opContinuation) != inside {
				err = socketError(closeProtocol)
				break
			}
			whole, inside = append(whole, f.payload...), !f.final
			if f.final {
				err = s.reply(whole)
				whole = nil
			}
		}
		if reason := socketError(0); errors.As(err, &reason) {
			s.complain(reason)
			return
		}
		if err != nil {
			return
		}
	}
}

// complain closes with a reason. What the client is still sending is read and
// dropped for a moment: closing over unread bytes resets the connection, and the
// reason would be lost with it.
func (s *socket) complain(reason socketError) {
	if s.send(opClose, binary.BigEndian.AppendUint16(nil, uint16(reason))) != nil {
		return
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(socketLinger))
	_, _ = io.Copy(io.Discard, io.LimitReader(s.in, 1<<20))
}

func (s *socket) reply(message []byte) error {
	if !utf8.Valid(message) {
		return socketError(closeNotUTF8)
	}
	text, err := json.Marshal(map[string]string{"echo": string(message)})
	if err != nil {
		return err
	}
	return s.send(opText, text)
}

// closeReply repeats the client's code, or says normal.
func closeReply(payload []byte) []byte {
	if len(payload) >= 2 {
		return payload[:2]
	}
	return binary.BigEndian.AppendUint16(nil, closeNormal)
}

func (s *socket) receive(limit int) (frame, error) { return readFrame(s.in, limit) }

// readFrame reads one frame of a client: masked, without reserved bits.
func readFrame(in io.Reader, limit int) (frame, error) {
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return frame{}, err
	}
	f := frame{final: head[0]&0x80 != 0, op: head[0] & 0x0f}
	size := uint64(head[1] & 0x7f)
	control := f.op >= opClose
	switch {
	case head[0]&0x70 != 0, head[1]&0x80 == 0, f.op > opBinary && !control, f.op > opPong,
		control && (!f.final || size > 125):
		return frame{}, socketError(closeProtocol)
	case f.op == opBinary:
		return frame{}, socketError(closeKind)
	}
	switch size {
	case 126:
		var long [2]byte
		if _, err := io.ReadFull(in, long[:]); err != nil {
			return frame{}, err
		}
		size = uint64(binary.BigEndian.Uint16(long[:]))
	case 127:
		var long [8]byte
		if _, err := io.ReadFull(in, long[:]); err != nil {
			return frame{}, err
		}
		size = binary.BigEndian.Uint64(long[:])
	}
	if !control && size > uint64(max(0, limit)) {
		return frame{}, socketError(closeTooBig)
	}
	var mask [4]byte
	if _, err := io.ReadFull(in, mask[:]); err != nil {
		return frame{}, err
	}
	f.payload = make([]byte, size)
	if _, err := io.ReadFull(in, f.payload); err != nil {
		return frame{}, err
	}
	for i := range f.payload {
		f.payload[i] ^= mask[i%4]
	}
	return f, nil
}

// send writes one unmasked frame, as servers must.
func (s *socket) send(op byte, payload []byte) error {
	out := []byte{0x80 | op}
	switch n := len(payload); {
	case n <= 125:
		out = append(out, byte(n))
	case n <= 0xffff:
		out = binary.BigEndian.AppendUint16(append(out, 126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, 127), uint64(n))
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(socketWriteLimit))
	_, err := s.conn.Write(append(out, payload...))
	return err
}
