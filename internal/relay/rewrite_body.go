package relay

import (
	"bytes"
	"io"
	"sync"
	"unicode/utf8"
)

// rewriteBuffer is the memory of a body: as much as a TLS record brings, and many times what is ever kept back.
const rewriteBuffer = 16 << 10

var rewritePool = sync.Pool{New: func() any { return new([rewriteBuffer]byte) }}

// place is where in a body the next unread byte stands.
type place int

const (
	elsewhere    place = iota // anywhere but in one of our URLs before its fragment
	inPath                    // behind a base, no query yet
	atName                    // a parameter of the query begins here
	inParameter               // in a parameter that stays
	inTokenValue              // in a parameter that goes
)

// rewritten is a body that is being rewritten. It decides in steps: each says how many unread bytes are passed on as
// they are, how many after those are dropped, and what is written then.
type rewritten struct {
	rw  *Rewriter
	src io.ReadCloser
	own string

	mu      sync.Mutex // guards the next two, and the giving back of buf
	reading bool
	closed  bool

	buf  *[rewriteBuffer]byte // nil before the first Read and after the last
	r, w int                  // buf[r:w] is unread
	err  error                // how src ended

	pass, drop int
	write      []byte

	at        place
	odd       bool    // an odd number of backslashes stands right before the unread bytes, if elsewhere
	separator [6]byte // what stands before the parameter that begins, not yet written: ?, & or ;, also as an escape
	sepLen    int
	sepChar   rune
	wrote     bool // some parameter of this query was passed on

	quoted        []byte // own, made when first needed
	quotedEscaped []byte // own with escaped slashes
}

func (b *rewritten) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := b.begin(); err != nil {
		return 0, err
	}
	defer b.end()
	for n < len(p) {
		switch {
		case b.pass > 0:
			c := copy(p[n:], b.buf[b.r:b.r+b.pass])
			n += c
			b.r += c
			b.pass -= c
		case b.drop > 0:
			b.r += b.drop
			b.drop = 0
		case len(b.write) > 0:
			c := copy(p[n:], b.write)
			n += c
			b.write = b.write[c:]
		case b.step():
		case n > 0:
			return n, nil
		case b.err != nil:
			return 0, b.err
		case !b.fill():
			return 0, nil // as src did
		}
	}
	return n, nil
}

// Close closes src, which ends a Read that waits for it.
func (b *rewritten) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	if !b.reading {
		b.letGo()
	}
	b.mu.Unlock()
	return b.src.Close()
}

func (b *rewritten) begin() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errBodyClosed
	}
	if b.buf == nil {
		if b.err != nil {
			return b.err
		}
		b.buf = rewritePool.Get().(*[rewriteBuffer]byte)
	}
	b.reading = true
	return nil
}

// end gives the buffer back when nobody needs it any more: only here and in a Close that meets no Read.
func (b *rewritten) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = false
	if b.closed || b.err != nil && b.r == b.w && len(b.write) == 0 {
		b.letGo()
	}
}

func (b *rewritten) letGo() {
	if b.buf != nil {
		rewritePool.Put(b.buf)
		b.buf = nil
	}
}

// fill reads more. The bytes kept back move to the front first; they are few.
func (b *rewritten) fill() bool {
	b.w = copy(b.buf[:], b.buf[b.r:b.w])
	b.r = 0
	n, err := b.src.Read(b.buf[b.w:])
	b.w += n
	b.err = err
	return n > 0 || err != nil
}

// final tells that nothing follows the unread bytes.
func (b *rewritten) final() bool { return b.err != nil }

// step decides about unread bytes. It is false when it needs more of them.
func (b *rewritten) step() bool {
	s := b.buf[b.r:b.w]
	switch b.at {
	case elsewhere:
		return len(s) > 0 && b.seek(s)
	case inPath:
		return len(s) > 0 && b.walkPath(s)
	case atName:
		return b.judgeName(s)
	default:
		return len(s) > 0 && b.walkParameter(s)
	}
}

// seek looks for the next string that begins with a base. It hunts for the colon of the scheme: colons are rarer than
// quotes, the processor finds them many bytes at a time, and no case needs to be minded for it.
func (b *rewritten) seek(s []byte) bool {
	for i := 0; ; {
		j := bytes.IndexByte(s[i:], ':')
		if j < 0 {
			break
		}
		i += j + 1
		quote := quoteOfScheme(s[:i-1])
		if quote < 0 || b.escaped(s, quote) {
			continue
		}
		n, v := b.rw.match(s[quote+1:])
		switch {
		case v == matches:
			b.found(quote+1, n, s[i] == '\\')
			return true
		case v == unclear && !b.final():
			return b.keepFrom(quote)
		}
	}
	if quote := quoteOfTail(s); quote >= 0 && !b.final() && !b.escaped(s, quote) {
		return b.keepFrom(quote)
	}
	b.odd = b.escaped(s, len(s))
	b.pass = len(s)
	return true
}

// found is called with a base of n bytes at the unread byte i.
func (b *rewritten) found(i, n int, escapeSlash bool) {
	b.at = inPath
	switch {
	case b.own == "":
		b.pass = i + n
		return
	case escapeSlash:
		if b.quotedEscaped == nil {
			b.quotedEscaped = quoteOwn(b.own, true)
		}
		b.write = b.quotedEscaped
	default:
		if b.quoted == nil {
			b.quoted = quoteOwn(b.own, false)
		}
		b.write = b.quoted
	}
	b.pass, b.drop = i, n
}

// keepFrom passes on what comes before a quote that may begin a match.
func (b *rewritten) keepFrom(quote int) bool {
	if quote == 0 {
		return false
	}
	b.odd = false
	b.pass = quote
	return true
}

// escaped tells whether an odd number of backslashes stands right before s[i].
func (b *rewritten) escaped(s []byte, i int) bool {
	n := 0
	for n < i && s[i-1-n] == '\\' {
		n++
	}
	return n%2 == 1 != (n == i && b.odd)
}

// quoteOfScheme returns where the quote of `"http` or `"https` stands when s ends so, else -1.
func quoteOfScheme(s []byte) int {
	i := len(s) - 1
	if i > 0 && lower(s[i]) == 's' {
		i--
	}
	i -= len("http")
	if i < 0 || s[i] != '"' || !beginsScheme(s[i+1:]) {
		return -1
	}
	return i
}

// quoteOfTail returns where a quote stands that may become that of `"http:` or `"https:` when more comes, else -1.
func quoteOfTail(s []byte) int {
	from := max(0, len(s)-len(`"https`))
	i := from + bytes.LastIndexByte(s[from:], '"')
	if i < from || !beginsScheme(s[i+1:]) {
		return -1
	}
	return i
}

// beginsScheme tells whether "https" begins with s.
func beginsScheme(s []byte) bool {
	for i, c := range s {
		if lower(c) != "https"[i] {
			return false
		}
	}
	return true
}

// walkPath goes to the query, or out of the URL.
func (b *rewritten) walkPath(s []byte) bool {
	for i := 0; ; {
		i += dull(s[i:])
		c, size := character(s[i:], b.final())
		switch {
		case size == 0:
			b.pass = i
			return i > 0
		case c == '?':
			b.pass = i
			b.hold(s[i:i+size], c)
			b.wrote = false
			return true
		case c == atEnd || c == '#':
			b.leave(i, size)
			return true
		}
		i += size
	}
}

// telling are the bytes inside a URL that may mean something to us.
var telling = [256]bool{'"': true, '\\': true, '?': true, '#': true, '&': true, ';': true}

// dull counts the bytes at the beginning of s that mean nothing to us.
func dull(s []byte) int {
	for i, c := range s {
		if telling[c] {
			return i
		}
	}
	return len(s)
}

// hold takes a separator out of the stream until it is known whether the parameter after it stays.
func (b *rewritten) hold(raw []byte, c rune) {
	b.sepLen = copy(b.separator[:], raw)
	b.sepChar = c
	b.drop = len(raw)
	b.at = atName
}

// leave goes out of the URL with the character that ends it: a URL has no parameters behind its fragment's #.
func (b *rewritten) leave(i, size int) {
	b.pass = i + size
	b.at, b.odd = elsewhere, false
}

// mostName is how long a name can be that is "token": each letter percent-encoded, the k as the three bytes of a
// Kelvin sign, see isToken.
const mostName = 3 * (len("token") + 2)

// judgeName reads the name of a parameter, and writes the separator before it if the parameter stays.
func (b *rewritten) judgeName(s []byte) bool {
	var room [mostName + utf8.UTFMax]byte
	name := room[:0]
	for i := 0; ; {
		c, size := character(s[i:], b.final())
		switch {
		case size == 0 && c != atEnd:
			return false // at most six bytes for each of the name
		case c == atEnd || c == '#' || c == '=' || c == '&' || c == ';':
			if isToken(string(name)) {
				b.drop = i
				b.at = inTokenValue
			} else {
				b.stay()
			}
			return true
		case size == 1:
			name = append(name, s[i])
		default:
			name = utf8.AppendRune(name, c)
		}
		if len(name) > mostName || lower(name[0]) != 't' && name[0] != '%' {
			b.stay()
			return true
		}
		i += size
	}
}

func (b *rewritten) stay() {
	b.write = b.separator[:b.sepLen]
	b.wrote = true
	b.at = inParameter
}

// walkParameter goes to the next parameter or out of the query. What a token's value took is dropped; the separator
// that stays is the one that StripQuery keeps.
func (b *rewritten) walkParameter(s []byte) bool {
	goes := b.at == inTokenValue
	for i := 0; ; {
		i += dull(s[i:])
		c, size := character(s[i:], b.final())
		switch {
		case size == 0, c == atEnd, c == '#':
			if goes && i > 0 {
				b.drop = i
				return true
			}
			if size == 0 {
				b.pass = i
				return i > 0
			}
			b.leave(i, size)
			return true
		case c == '&' || c == ';':
			if !goes {
				b.pass = i
				b.hold(s[i:i+size], c)
			} else if b.wrote && b.sepChar != '&' {
				b.hold(s[i:i+size], c)
				b.drop += i
			} else {
				b.drop = i + size
				b.at = atName
			}
			return true
		}
		i += size
	}
}
