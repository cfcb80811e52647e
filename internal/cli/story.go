package cli

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// story tells the emulator's events from the gateway's side: which login is a
// renewal, and which session a call went on as. Only the count may be read
// from elsewhere than the timeline.
type story struct {
	session  int       // of the last login; 0 when it has ended
	since    time.Time // that login
	renewals atomic.Int64
}

func newStory() *story { return new(story) }

func (s *story) renewed() int { return int(s.renewals.Load()) }

func (s *story) describe(e emulator.Event) line {
	switch e.Kind {
	case emulator.KindLogin:
		old := s.session
		if time.Since(s.since) > demoLifetime {
			old = 0 // it had ended already, over a machine's sleep for example
		}
		s.session, s.since = e.Session, time.Now()
		if old == 0 {
			return line{"login", green, fmt.Sprintf("the gateway logged in, and has session %d", e.Session)}
		}
		s.renewals.Add(1)
		return line{"renewal", cyan, fmt.Sprintf("the gateway has session %d in place of session %d; no call waited for it", e.Session, old)}
	case emulator.KindLogout:
		if e.Session == s.session {
			s.session = 0
			return line{"log-out", yellow, fmt.Sprintf("the gateway logged session %d out", e.Session)}
		}
		return line{"log-out", yellow, fmt.Sprintf("the gateway logged session %d out, once its last call had ended", e.Session)}
	case emulator.KindCall:
		return line{"call", plain, request(e) + fmt.Sprintf("  sent on as session %d", e.Session)}
	case emulator.KindRestart:
		s.session = 0
	}
	return describeEvent(e)
}
