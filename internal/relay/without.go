package relay

import (
	"bytes"
	"io"
	"net/url"
	"strings"
)

// without is a body from which a token goes, wherever it is the value of a parameter.
type without struct {
	src     io.ReadCloser
	needles func() [][]byte // spellings of `token=` and the token, where no printer finds them
	held    []byte          // read, and perhaps the beginning of one
	small   []byte          // in the place of a reader's own memory that has no room for one
	rest    []byte          // of small
	err     error           // how src ended
}

// Without gives the body src without token=VALUE, for VALUE the token in plain, percent-encoded or inside JSON: URLs that
// a Rewriter does not know as the API's, and prose, may have it too. Bytes are passed on as they come; kept back are only
// those that may begin such a parameter, and they come before the error or the end of src. Close only closes src.
func Without(src io.ReadCloser, token string) io.ReadCloser {
	if token == "" {
		return src
	}
	var needles [][]byte
	for _, text := range parameterOf(token) {
		needles = append(needles, []byte(text))
	}
	return &without{src: src, needles: func() [][]byte { return needles }}
}

// WithoutToken is Without for a text that is there as a whole.
func WithoutToken(text, token string) string {
	if token == "" {
		return text
	}
	for _, parameter := range parameterOf(token) {
		text = strings.ReplaceAll(text, parameter, "")
	}
	return text
}

// parameterOf returns the spellings of a token as a parameter, none of which contains another.
func parameterOf(token string) []string {
	spellings := []string{"token=" + token}
	for _, other := range []string{url.QueryEscape(token), url.PathEscape(token), strings.ReplaceAll(token, "/", `\/`)} {
		fresh := true
		for _, known := range spellings {
			fresh = fresh && "token="+other != known
		}
		if fresh {
			spellings = append(spellings, "token="+other)
		}
	}
	return spellings
}

func (w *without) Close() error { return w.src.Close() }

func (w *without) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(w.rest) == 0 && w.err == nil {
		into := p
		if least := 2 * w.longest(); len(p) < least {
			if w.small == nil {
				w.small = make([]byte, least)
			}
			into = w.small
		}
		n := w.fill(into)
		if len(p) < len(into) {
			w.rest = into[:n]
		} else if n > 0 {
			return n, w.ended()
		}
	}
	n := copy(p, w.rest)
	w.rest = w.rest[n:]
	return n, w.ended()
}

// ended is the error of src, once all that came before it was passed on.
func (w *without) ended() error {
	if len(w.rest) > 0 {
		return nil
	}
	return w.err
}

// fill reads once into p, which has room for two needles, and returns how many bytes of it are to be passed on.
func (w *without) fill(p []byte) int {
	n := copy(p, w.held)
	more, err := w.src.Read(p[n:])
	w.err = err
	text := p[:n+more]
	for _, needle := range w.needles() {
		text = remove(text, needle)
	}
	w.held = w.held[:0]
	if err == nil {
		keep := w.unclear(text)
		w.held = append(w.held, text[len(text)-keep:]...)
		text = text[:len(text)-keep]
	}
	return len(text)
}

func (w *without) longest() (most int) {
	for _, needle := range w.needles() {
		most = max(most, len(needle))
	}
	return most
}

// remove takes every needle out of text, in place.
func remove(text, needle []byte) []byte {
	at := bytes.Index(text, needle)
	if at < 0 {
		return text
	}
	kept := text[:at]
	for rest := text[at+len(needle):]; ; {
		if at = bytes.Index(rest, needle); at < 0 {
			return append(kept, rest...)
		}
		kept = append(kept, rest[:at]...)
		rest = rest[at+len(needle):]
	}
}

// unclear is how many bytes at the end of text may begin a needle.
func (w *without) unclear(text []byte) int {
	tail := text[max(0, len(text)-w.longest()+1):]
	for {
		at := bytes.IndexByte(tail, 't')
		if at < 0 {
			return 0
		}
		tail = tail[at:]
		for _, needle := range w.needles() {
			if bytes.HasPrefix(needle, tail) {
				return len(tail)
			}
		}
		tail = tail[1:]
	}
}
