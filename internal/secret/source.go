package secret

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
)

// Kind says where a secret comes from.
type Kind int

// The kinds of source.
const (
	Literal Kind = iota // the text itself, visible to everyone who can read the config
	Env                 // {env.NAME}, read once, at load
	File                // {file.PATH}, watched
)

// maxBytes bounds what is read of a secret file: more than any password or
// token needs, less than hurts.
const maxBytes = 64 << 10

// Spec is what an operator wrote in place of a secret.
type Spec struct {
	Kind Kind
	// Name is the variable or the path; empty for a literal.
	Name string
	// Header says that the secret is sent as the value of a header, which
	// carries less than a secret may hold.
	Header  bool
	literal Value
}

// requestFilePrefix is what Caddy's site-block shorthand makes of
// "{file.name}" when the name has no slash in it.
const requestFilePrefix = "{http.request.uri.path.file."

// Parse reads text as a whole-value placeholder, {file.PATH} or {env.NAME};
// anything else is a literal, braces included.
func Parse(text string) (Spec, error) {
	if text == "" {
		return Spec{}, errors.New("reading secret: it is empty; write {file./path/to/secret} or {env.NAME}")
	}
	if name, ok := placeholder(text, requestFilePrefix); ok {
		return Spec{}, fmt.Errorf("reading secret: {file.%s} names a file without a folder; "+
			"write its absolute path, as in {file./run/secrets/%s}", name, name)
	}
	if name, ok := placeholder(text, "{file."); ok {
		path, err := filepath.Abs(name)
		if err != nil {
			return Spec{}, fmt.Errorf("reading secret: finding the folder of %q: %w", name, err)
		}
		return Spec{Kind: File, Name: path}, nil
	}
	if name, ok := placeholder(text, "{env."); ok {
		return Spec{Kind: Env, Name: name}, nil
	}
	return Spec{Kind: Literal, literal: New(text)}, nil
}

func placeholder(text, prefix string) (string, bool) {
	name, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(name, "}")
	return name, ok && name != "" && !strings.ContainsAny(name, "{}")
}

// processKey makes identities of literals worthless outside this process.
var processKey = func() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: crypto/rand.Read ends the process instead
	return key
}()

// Fingerprint tells values apart within this process and says nothing about
// them outside of it.
func Fingerprint(parts ...string) string {
	mac := hmac.New(sha256.New, processKey)
	for _, p := range parts {
		fmt.Fprintf(mac, "%d:", len(p))
		mac.Write([]byte(p))
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// Identity names the source, never its value: two specs with the same
// identity read the same thing. It is fit for a map key and for a log line.
func (s Spec) Identity() string {
	switch s.Kind {
	case File:
		return "file:" + s.Name
	case Env:
		return "env:" + s.Name
	}
	return "literal:" + Fingerprint(s.literal.Reveal())
}

// String names the source for messages to the operator.
func (s Spec) String() string {
	switch s.Kind {
	case File:
		return "file " + s.Name
	case Env:
		return "environment variable " + s.Name
	}
	return "the config itself"
}

// held is one value of a source; a change makes the next version.
type held struct {
	value   Value
	version uint64
}

// Source yields the current value of a secret. It is safe for concurrent use,
// and Current does no I/O.
type Source struct {
	Spec
	now   atomic.Pointer[held]
	file  *file
	close sync.Once
}

// Open reads the secret for the first time; variables and files are trimmed, see
// Trim. A file is watched until Close; report hears of every later change and
// trouble, mostly from the watcher's goroutine; it must return quickly, must
// not open, recheck or close a source, and may be nil. A variable or a file
// that is missing or empty is an error that names it, and so is any text that
// is not UTF-8 or holds a control character or, for a Header, more than ASCII;
// a file that another source of this process has read keeps its last good
// value, and report hears why.
func (s Spec) Open(report func(Event)) (*Source, error) {
	src := &Source{Spec: s}
	switch s.Kind {
	case Env:
		text := Trim(os.Getenv(s.Name))
		if text == "" {
			return nil, fmt.Errorf("reading secret: environment variable %s is unset or empty", s.Name)
		}
		if err := check(text, s.Header); err != nil {
			return nil, fmt.Errorf("reading secret: %s: %w", s, err)
		}
		src.now.Store(&held{value: New(text), version: 1})
	case File:
		f, err := watch(use{s.Name, s.Header}, src, report)
		if err != nil {
			return nil, err
		}
		src.file = f
	case Literal:
		if err := check(s.literal.Reveal(), s.Header); err != nil {
			return nil, fmt.Errorf("reading secret: %s: %w", s, err)
		}
		src.now.Store(&held{value: s.literal, version: 1})
	}
	return src, nil
}

// Fixed is a source whose value never changes.
func Fixed(v Value) *Source {
	src := &Source{Spec: Spec{Kind: Literal, literal: v}}
	src.now.Store(&held{value: v, version: 1})
	return src
}

// Current returns the value in force and its version, which grows by one with
// each change.
func (s *Source) Current() (Value, uint64) {
	h := s.now.Load()
	return h.value, h.version
}

// Recheck reads a file again now, and waits for a moment where there is something
// new in it that may still be written: for the time after a refusal, when a newer
// password may lie there.
func (s *Source) Recheck() {
	if s.file != nil {
		s.file.recheck()
	}
}

// Close ends the watch. The last value stays readable.
func (s *Source) Close() {
	s.close.Do(func() {
		if s.file != nil {
			s.file.unwatch(s)
		}
	})
}
