package relay

import (
	"sync"
	"testing"
)

// Not even for a moment.
func TestAReservationThatFailsDisturbsNobody(t *testing.T) {
	m := NewMemory(8 << 10)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				m.reserve(1<<20, false) // never fits
			}
		}
	})
	refused, over := 0, 0
	for range 1_000_000 {
		if m.Used() > 8<<10 {
			over++
		}
		if m.reserve(4<<10, false) {
			m.giveBack(4 << 10)
		} else {
			refused++
		}
	}
	close(stop)
	wg.Wait()
	if refused > 0 || over > 0 {
		t.Errorf("refused %d times with all of the memory free; seen over the limit %d times", refused, over)
	}
}
