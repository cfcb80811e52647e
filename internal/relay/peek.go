package relay

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
)

// expiredWords begin the message with which Control-M says that a token is no longer good. A public script of BMC's
// logs in again on this text and looks at no status.
const expiredWords = "Session token is invalid or expired"

// mostPeeked bounds what is read of an answer before it goes on. Real errors take a few hundred bytes; what says
// nothing in this much is not the short error that is looked for.
const mostPeeked = 16 << 10

// PeekExpired tells whether an answer with status 500 says that the session token is invalid or expired: whether its
// body is a JSON object in which errors[0].message begins so, in any case of the letters. It reads no further than it
// needs, and of other answers nothing at all; res.Body then gives the whole body, byte for byte as it came. It may
// wait for the first bytes of the body for as long as the body does.
func PeekExpired(res *http.Response) bool {
	return res.StatusCode == http.StatusInternalServerError && peek(res)
}

// PeekUnauthorized tells whether an answer with status 401 has the words that PeekExpired looks for. A 401 without
// them may be about rights and not about the token.
func PeekUnauthorized(res *http.Response) bool {
	return res.StatusCode == http.StatusUnauthorized && peek(res)
}

// IsExpired tells whether an answer of this status and body says that the session token is invalid or expired. It
// reads no further than it needs, and at most 16 KiB.
func IsExpired(status int, body io.Reader) bool {
	if status != http.StatusUnauthorized && status != http.StatusInternalServerError {
		return false
	}
	return saysExpired(&io.LimitedReader{R: body, N: mostPeeked})
}

func peek(res *http.Response) bool {
	if res.Body == nil || res.Body == http.NoBody || res.ContentLength == 0 {
		return false
	}
	seen := &recorder{src: res.Body}
	var plain io.Reader = seen
	switch encoding := res.Header.Get("Content-Encoding"); {
	case encoding == "" || strings.EqualFold(encoding, "identity"):
	case strings.EqualFold(encoding, "gzip") || strings.EqualFold(encoding, "x-gzip"):
		plain = &unzipper{src: seen}
	default:
		return false
	}
	expired := saysExpired(&io.LimitedReader{R: plain, N: mostPeeked})
	res.Body = &peeked{recorder: seen, Closer: res.Body}
	return expired
}

// recorder keeps what is read of src, up to mostPeeked bytes.
type recorder struct {
	src  io.Reader
	kept []byte
	err  error // how src ended while being recorded
}

func (r *recorder) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	p = p[:min(len(p), mostPeeked-len(r.kept))]
	if len(p) == 0 {
		return 0, io.ErrUnexpectedEOF // seen enough; not kept as an end of src
	}
	n, err := r.src.Read(p)
	r.kept = append(r.kept, p[:n]...)
	r.err = err
	return n, err
}

// unzipper begins to unpack only when read from: gzip.NewReader reads at once.
type unzipper struct {
	src io.Reader
	zip *gzip.Reader
}

func (u *unzipper) Read(p []byte) (int, error) {
	if u.zip == nil {
		zip, err := gzip.NewReader(u.src)
		if err != nil {
			return 0, err
		}
		u.zip = zip
	}
	return u.zip.Read(p)
}

// peeked is a body whose beginning was recorded.
type peeked struct {
	*recorder
	io.Closer
}

func (b *peeked) Read(p []byte) (int, error) {
	if len(b.kept) > 0 {
		n := copy(p, b.kept)
		b.kept = b.kept[n:]
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.src.Read(p)
}

// saysExpired reads the JSON of an error list up to the place that decides. It is lenient where nothing depends on it,
// as in values that it skips.
func saysExpired(body io.Reader) bool {
	s := scanner{src: body}
	if !s.enter('{') || !s.find("errors") || !s.enter('[') || !s.enter('{') || !s.find("message") {
		return false
	}
	if s.token() != '"' {
		return false
	}
	return s.text(expiredWords, true)
}

// scanner walks through JSON as it streams in. After an error or the end of what it may read, every byte is 0, which
// no JSON has outside its strings or in them.
type scanner struct {
	src    io.Reader
	room   [1024]byte // small: most answers fit, and little is read in vain of those that do not
	unread []byte
}

func (s *scanner) next() byte {
	for tries := 0; len(s.unread) == 0; tries++ {
		if s.src == nil || tries == 100 { // a reader that gives neither bytes nor an error
			s.src = nil
			return 0
		}
		n, err := s.src.Read(s.room[:])
		s.unread = s.room[:n]
		if err != nil {
			s.src = nil
		}
	}
	c := s.unread[0]
	s.unread = s.unread[1:]
	return c
}

// token returns the next byte that is not white space.
func (s *scanner) token() byte {
	for {
		switch c := s.next(); c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
}

// enter steps into an object or an array.
func (s *scanner) enter(opening byte) bool { return s.token() == opening }

// find goes to the value of a member of the object that was entered.
func (s *scanner) find(name string) bool {
	for s.token() == '"' {
		found := s.text(name, false)
		if s.token() != ':' {
			return false
		}
		if found {
			return true
		}
		if s.skip() != ',' {
			return false
		}
	}
	return false
}

// skip goes past a value and returns the byte after it: a comma or the end of what the value is in.
func (s *scanner) skip() byte {
	for depth := 0; ; {
		switch c := s.token(); c {
		case '"':
			s.text("", false)
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return c
			}
			depth--
		case ',':
			if depth == 0 {
				return c
			}
		case 0:
			return 0
		}
	}
}

// text reads the string whose quote was just read and compares it: as a whole, or just its beginning, then in any case
// and no further than it takes to tell.
func (s *scanner) text(want string, beginning bool) bool {
	same := true
	for i := 0; ; i++ {
		if beginning && (!same || i == len(want)) {
			return same
		}
		c, more := s.char()
		if !more {
			return same && i == len(want)
		}
		switch {
		case !same || i >= len(want):
			same = false
		case beginning:
			same = lower(c) == lower(want[i])
		default:
			same = c == want[i]
		}
	}
}

// char reads one character of a string, not more when the string or the body ends. What is not ASCII comes as bytes
// that no word we look for has.
func (s *scanner) char() (c byte, more bool) {
	switch c = s.next(); c {
	case '"', 0:
		return 0, false
	case '\\':
	default:
		return c, true
	}
	switch c = s.next(); c {
	case 0:
		return 0, false
	case 'u':
		code := 0
		for range 4 {
			digit, ok := unhex(s.next())
			if !ok {
				return 0, false
			}
			code = code<<4 | int(digit)
		}
		if code > 0x7f {
			return 0xff, true
		}
		return byte(code), true
	}
	if i := bytes.IndexByte([]byte("bfnrt"), c); i >= 0 {
		return "\b\f\n\r\t"[i], true
	}
	return c, true
}
