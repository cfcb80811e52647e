package secret

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// interval is the time between two looks at a file. Two looks that agree
// publish a change, so that it is in force within two intervals.
const interval = time.Second

// Event tells the owner of a source what happened to its file.
type Event struct {
	Path string
	// Err is nil when a new value is in force, or the file is readable again;
	// else it says why the last good value is kept.
	Err error
	// Changed is set when a new value is in force.
	Changed bool
}

// use is a path and what its content is for: one that is no good in a header
// may still be a good password.
type use struct {
	path   string
	header bool
}

// file is one watched path, shared by every source that names it for the same
// use.
type file struct {
	use

	mu        sync.Mutex
	sources   map[*Source]func(Event)
	info      os.FileInfo // of the last content that was settled
	published *held
	pending   *Value // seen once, waiting for a second look
	troubled  error  // the trouble that was last reported
}

// watcher is the one goroutine of the process that looks at secret files. It
// runs while there is something to watch.
var watcher struct {
	mu    sync.Mutex
	files map[use]*file
	stop  chan struct{}
	done  chan struct{}
}

func watch(of use, src *Source, report func(Event)) (*file, error) {
	f, known, err := join(of, src, report)
	if err != nil || !known {
		return f, err
	}
	before := f.trouble()
	// A reload must start from what lies there now, not from what the previous
	// config last saw.
	f.recheck()
	if now := f.trouble(); now != nil && now == before && report != nil { //nolint:errorlint // the very same: not told anew
		// The others have been told; the new config has to know as well.
		report(Event{Path: of.path, Err: now})
	}
	return f, nil
}

// join makes src one of the sources of its file, which may be known already.
func join(of use, src *Source, report func(Event)) (f *file, known bool, err error) {
	watcher.mu.Lock()
	defer watcher.mu.Unlock()
	f, known = watcher.files[of]
	if !known {
		f = &file{use: of, sources: make(map[*Source]func(Event))}
		value, info, err := of.read()
		if err != nil {
			return nil, false, err
		}
		f.info, f.published = info, &held{value: value, version: 1}
	}
	f.mu.Lock()
	f.sources[src] = report
	src.now.Store(f.published)
	f.mu.Unlock()
	if known {
		return f, true, nil
	}
	if watcher.files == nil {
		watcher.files = make(map[use]*file)
	}
	watcher.files[of] = f
	if watcher.stop == nil {
		watcher.stop, watcher.done = make(chan struct{}), make(chan struct{})
		go run(watcher.stop, watcher.done)
	}
	return f, false, nil
}

// unwatch takes a source off its file, and ends the watcher with the last one.
func (f *file) unwatch(src *Source) {
	watcher.mu.Lock()
	f.mu.Lock()
	delete(f.sources, src)
	left := len(f.sources)
	f.mu.Unlock()
	if left == 0 {
		delete(watcher.files, f.use)
	}
	var done chan struct{}
	if len(watcher.files) == 0 && watcher.stop != nil {
		close(watcher.stop)
		done = watcher.done
		watcher.stop, watcher.done = nil, nil
	}
	watcher.mu.Unlock()
	if done != nil {
		<-done
	}
}

func run(stop, done chan struct{}) {
	defer close(done)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		watcher.mu.Lock()
		files := make([]*file, 0, len(watcher.files))
		for _, f := range watcher.files {
			files = append(files, f)
		}
		watcher.mu.Unlock()
		for _, f := range files {
			f.look(false)
		}
	}
}

// closeLook is the time between the two looks of a recheck: what waits for it is
// a login.
const closeLook = 100 * time.Millisecond

// recheck looks at once, whatever the file's date says, and again shortly
// after, if there is something new.
func (f *file) recheck() {
	if !f.look(true) {
		return
	}
	timer := time.NewTimer(closeLook)
	defer timer.Stop()
	<-timer.C
	f.look(true)
}

func (f *file) trouble() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.troubled
}

// look compares the file with what is published, and tells whether there is
// something new in it that is not. Two looks must agree, since a writer may be
// half way. Sure reads the file also where its date is as before.
func (f *file) look(sure bool) (pending bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pending == nil && f.troubled == nil && !sure {
		info, err := os.Stat(f.path)
		if err == nil && os.SameFile(info, f.info) && info.ModTime().Equal(f.info.ModTime()) && info.Size() == f.info.Size() {
			return false
		}
	}
	value, info, err := f.read()
	switch {
	case err != nil:
		f.pending = nil
		if f.troubled == nil || err.Error() != f.troubled.Error() {
			f.troubled = err
			f.tell(Event{Path: f.path, Err: err})
		}
	case value.Equal(f.published.value):
		f.settle(info, false)
	case f.pending != nil && f.pending.Equal(value):
		f.published = &held{value: value, version: f.published.version + 1}
		for src := range f.sources {
			src.now.Store(f.published)
		}
		f.settle(info, true)
	default:
		f.pending = &value
	}
	return f.pending != nil
}

func (f *file) settle(info os.FileInfo, changed bool) {
	recovered := f.troubled != nil
	f.info, f.pending, f.troubled = info, nil, nil
	if changed || recovered {
		f.tell(Event{Path: f.path, Changed: changed})
	}
}

func (f *file) tell(e Event) {
	for _, report := range f.sources {
		if report != nil {
			report(e)
		}
	}
}

// read returns the content of a secret file, trimmed, if it is good. Errors
// never hold content.
func (u use) read() (Value, os.FileInfo, error) {
	// Opening a pipe would wait for its writer.
	info, err := os.Stat(u.path)
	if err == nil && info.IsDir() {
		return Value{}, nil, fmt.Errorf("reading secret: %s is a folder, expected a file", u.path)
	}
	if err == nil && !info.Mode().IsRegular() {
		return Value{}, nil, fmt.Errorf("reading secret: %s is no ordinary file", u.path)
	}
	if err != nil {
		return Value{}, nil, fmt.Errorf("reading secret: %w", err)
	}
	r, err := os.Open(u.path)
	if err != nil {
		return Value{}, nil, fmt.Errorf("reading secret: %w", err)
	}
	defer r.Close()
	if info, err = r.Stat(); err != nil {
		return Value{}, nil, fmt.Errorf("reading secret: %w", err)
	}
	content, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return Value{}, nil, fmt.Errorf("reading secret: %w", err)
	}
	if len(content) > maxBytes {
		return Value{}, nil, fmt.Errorf("reading secret: %s is larger than %d KiB, expected a password or a token", u.path, maxBytes>>10)
	}
	text := Trim(string(content))
	if text == "" {
		return Value{}, nil, fmt.Errorf("reading secret: %s: %w", u.path, errEmpty)
	}
	if err := check(text, u.header); err != nil {
		return Value{}, nil, fmt.Errorf("reading secret: %s: %w", u.path, err)
	}
	return New(text), info, nil
}
