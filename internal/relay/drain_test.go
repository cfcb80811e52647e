package relay

import (
	"io"
	"strings"
	"testing"
)

func TestDrainReadsTheRestAndEndsAllAttempts(t *testing.T) {
	for _, limit := range []int{0, 3, 100} {
		src := strings.NewReader("hello world")
		b := NewBody(io.NopCloser(src), limit)
		first, err := b.Attempt()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(first, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		if b.Ended() {
			t.Error("ended before its end")
		}
		b.Drain()
		if src.Len() != 0 || !b.Ended() {
			t.Errorf("limit %d: %d bytes are left", limit, src.Len())
		}
		if n, err := first.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
			t.Errorf("limit %d: the attempt got %d bytes and %v", limit, n, err)
		}
		if _, err := b.Attempt(); err == nil {
			t.Errorf("limit %d: there can be another attempt", limit)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDrainComesAfterAReadThatIsUnderWay(t *testing.T) {
	in, out := io.Pipe()
	b := NewBody(in, 100)
	first, err := b.Attempt()
	if err != nil {
		t.Fatal(err)
	}
	ended, drained := make(chan struct{}), make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, first)
		close(ended)
	}()
	if _, err := out.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	go func() {
		b.Drain()
		close(drained)
	}()
	for range 5 {
		if _, err := out.Write([]byte(" world")); err != nil {
			t.Fatal(err)
		}
	}
	_ = out.Close()
	<-drained
	<-ended
	if !b.Ended() {
		t.Error("the source was not read to its end")
	}
}
