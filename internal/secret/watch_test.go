package secret

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// watched is a source over a file in a folder of the test, and what it told.
type watched struct {
	*Source
	path   string
	mu     sync.Mutex
	events []Event
}

func (w *watched) hear(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// heard returns the events so far, and forgets them.
func (w *watched) heard() (events []Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	events, w.events = w.events, nil
	return events
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string) *watched {
	t.Helper()
	w := &watched{path: path}
	src, err := Spec{Kind: File, Name: path}.Open(w.hear)
	if err != nil {
		t.Fatal(err)
	}
	w.Source = src
	t.Cleanup(w.Close)
	return w
}

func watchNew(t *testing.T, content string) *watched {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	write(t, path, content)
	return open(t, path)
}

func (w *watched) want(t *testing.T, text string, version uint64) {
	t.Helper()
	if v, got := w.Current(); v.Reveal() != text || got != version {
		t.Fatalf("got %q, version %d; want %q, version %d", v.Reveal(), got, text, version)
	}
}

// looks lets the watcher look n more times. The clock of a bubble starts on a
// full second, as do the watcher's looks.
func looks(n int) {
	<-time.After(time.Duration(n)*interval + interval/2 - time.Duration(time.Now().UnixNano())%interval)
	synctest.Wait()
}

func TestAChangedFileIsInForceWithinTwoIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchNew(t, "one")
		w.want(t, "one", 1)
		write(t, w.path, "second\n")
		looks(1)
		w.want(t, "one", 1) // a first look does not prove that the writer has finished
		looks(1)
		w.want(t, "second", 2)
		if events := w.heard(); len(events) != 1 || !events[0].Changed || events[0].Err != nil || events[0].Path != w.path {
			t.Errorf("heard %+v, want one change", events)
		}
		looks(10)
		w.want(t, "second", 2)
		if events := w.heard(); len(events) != 0 {
			t.Errorf("heard %+v of a file that is left alone", events)
		}
	})
}

func TestAHalfWrittenFileIsNotPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchNew(t, "one")
		for _, half := range []string{"s", "se", "sec", "seco"} {
			write(t, w.path, half)
			looks(1)
			w.want(t, "one", 1)
		}
		write(t, w.path, "second")
		looks(1)
		w.want(t, "one", 1)
		looks(1)
		w.want(t, "second", 2)
	})
}

func TestAChangeThatIsTakenBackIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchNew(t, "one")
		write(t, w.path, "other")
		looks(1)
		write(t, w.path, "one")
		looks(3)
		for _, same := range []string{"one\n", "\xef\xbb\xbfone\r\n"} {
			write(t, w.path, same)
			looks(3)
		}
		w.want(t, "one", 1)
		if events := w.heard(); len(events) != 0 {
			t.Errorf("heard %+v", events)
		}
	})
}

func TestTroubleKeepsTheLastGoodValueAndIsToldOnce(t *testing.T) {
	for name, row := range map[string]struct {
		spoil func(path string) error
		words string
	}{
		"emptied":   {func(path string) error { return os.WriteFile(path, nil, 0o600) }, "the file is empty"},
		"blank":     {func(path string) error { return os.WriteFile(path, []byte("\n\n"), 0o600) }, "the file is empty"},
		"removed":   {os.Remove, "no such file"},
		"a folder":  {func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, "is a folder"},
		"too large": {func(path string) error { return os.Truncate(path, maxBytes+1) }, "larger than 64 KiB"},
		"a dangling link": {func(path string) error {
			return errors.Join(os.Remove(path), os.Symlink(path+".none", path))
		}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watchNew(t, canary)
				if err := row.spoil(w.path); err != nil {
					t.Fatal(err)
				}
				looks(5)
				w.want(t, canary, 1)
				w.Recheck()
				w.want(t, canary, 1)
				events := w.heard()
				if len(events) != 1 || events[0].Err == nil || events[0].Changed || !strings.Contains(events[0].Err.Error(), row.words) ||
					!strings.Contains(events[0].Err.Error(), w.path) {
					t.Fatalf("heard %+v, want %q once, with the path", events, row.words)
				}
				wantHidden(t, "event", events[0].Err.Error())
				if err := os.RemoveAll(w.path); err != nil {
					t.Fatal(err)
				}
				looks(1)
				_ = w.heard() // trouble of another kind, for some
				write(t, w.path, canary)
				looks(2)
				w.want(t, canary, 1)
				if events := w.heard(); len(events) != 1 || events[0].Err != nil || events[0].Changed {
					t.Errorf("heard %+v, want that the file is readable again", events)
				}
			})
		})
	}
}

func TestRecoveryWithANewValueIsOneEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchNew(t, "one")
		write(t, w.path, "")
		looks(2)
		write(t, w.path, "second")
		looks(2)
		w.want(t, "second", 2)
		events := w.heard()
		if len(events) != 2 || events[0].Err == nil || events[1].Err != nil || !events[1].Changed {
			t.Errorf("heard %+v, want trouble and a change", events)
		}
	})
}

func TestAnAtomicRenameIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchNew(t, "one")
		before, err := os.Stat(w.path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, w.path+".new", "two") // of the same size, and made to look as old
		if err := errors.Join(os.Chtimes(w.path+".new", before.ModTime(), before.ModTime()), os.Rename(w.path+".new", w.path)); err != nil {
			t.Fatal(err)
		}
		looks(2)
		w.want(t, "two", 2)
	})
}

func TestAKubernetesSwapIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		// As the kubelet does it: password -> ..data/password, ..data -> ..2026_11_21.
		publish := func(version, content string) {
			t.Helper()
			folder := filepath.Join(dir, version)
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(folder, "password"), content)
			if err := errors.Join(os.Symlink(version, filepath.Join(dir, "..data_tmp")),
				os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))); err != nil {
				t.Fatal(err)
			}
		}
		publish("..1", "one")
		path := filepath.Join(dir, "password")
		if err := os.Symlink(filepath.Join("..data", "password"), path); err != nil {
			t.Fatal(err)
		}
		w := open(t, path)
		w.want(t, "one", 1)
		publish("..2", "two")
		if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
			t.Fatal(err)
		}
		looks(2)
		w.want(t, "two", 2)
		if events := w.heard(); len(events) != 1 || !events[0].Changed {
			t.Errorf("heard %+v, want one change", events)
		}
	})
}

func TestRecheckTakesANewValueAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchNew(t, "one")
		w.Recheck()
		w.want(t, "one", 1)
		write(t, w.path, "second")
		w.Recheck()
		w.want(t, "second", 2)
		looks(3)
		w.want(t, "second", 2)
		if events := w.heard(); len(events) != 1 {
			t.Errorf("heard %+v, want one change", events)
		}
	})
}

// Neither after a refusal nor at a reload is half a password taken for one.
func TestRecheckDoesNotTakeWhatIsStillWritten(t *testing.T) {
	for name, recheck := range map[string]func(t *testing.T, w *watched){
		"recheck":        func(_ *testing.T, w *watched) { w.Recheck() },
		"another source": func(t *testing.T, w *watched) { open(t, w.path) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watchNew(t, "one")
				write(t, w.path, "seco")
				time.AfterFunc(closeLook/2, func() { write(t, w.path, "second") })
				recheck(t, w)
				w.want(t, "one", 1)
				looks(2)
				w.want(t, "second", 2)
			})
		})
	}
}

func TestSeveralSourcesShareAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := watchNew(t, "one")
		b := open(t, a.path)
		if len(watcher.files) != 1 || a.file != b.file {
			t.Errorf("%d files are watched, want one", len(watcher.files))
		}
		write(t, a.path, "second")
		looks(2)
		a.want(t, "second", 2)
		b.want(t, "second", 2)
		if !slices.Equal(a.heard(), b.heard()) {
			t.Error("the sources heard different things")
		}
		a.Close()
		a.Close()
		write(t, b.path, "third")
		looks(2)
		a.want(t, "second", 2) // closed: stays readable, and as it was
		b.want(t, "third", 3)
		if events := a.heard(); len(events) != 0 {
			t.Errorf("a closed source heard %+v", events)
		}
	})
}

func TestASourceOpenedLaterStartsFromWhatLiesThereNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := watchNew(t, "one")
		write(t, a.path, "second")
		b := open(t, a.path) // a reload, before the watcher has looked
		b.want(t, "second", 2)
		a.want(t, "second", 2)
	})
}

func TestASourceOpenedInTroubleKeepsTheLastGoodValueAndHearsOfIt(t *testing.T) {
	for name, looked := range map[string]int{"that is known": 2, "that nobody has seen yet": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := watchNew(t, "one")
				write(t, a.path, "")
				looks(looked)
				b := open(t, a.path)
				b.want(t, "one", 1)
				looks(3)
				for who, w := range map[string]*watched{"first": a, "second": b} {
					if events := w.heard(); len(events) != 1 || !errors.Is(events[0].Err, errEmpty) {
						t.Errorf("the %s source heard %+v, want the trouble once", who, events)
					}
				}
			})
		})
	}
}

func TestTheWatcherEndsWithTheLastClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the bubble fails when a goroutine is left
		for range 3 {
			a, b := watchNew(t, "one"), watchNew(t, "two")
			looks(1)
			a.Close()
			if watcher.stop == nil {
				t.Error("the watcher ended while a file was left")
			}
			b.Close()
			if watcher.stop != nil || len(watcher.files) != 0 {
				t.Error("the watcher goes on with nothing to watch")
			}
			b.want(t, "two", 1)
		}
	})
}

func TestSourcesAreSafeForConcurrentUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	write(t, path, "0")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				src, err := Spec{Kind: File, Name: path}.Open(func(Event) {})
				if err != nil {
					t.Error(err)
					return
				}
				if i == 0 {
					_ = os.WriteFile(path+".new", []byte(time.Now().String()), 0o600)
					_ = os.Rename(path+".new", path)
				}
				src.Recheck()
				if v, version := src.Current(); v.Empty() || version == 0 {
					t.Error("a source without a value")
				}
				src.Close()
			}
		})
	}
	wg.Wait()
	if watcher.stop != nil {
		t.Error("the watcher goes on with nothing to watch")
	}
}
