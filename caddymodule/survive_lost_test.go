package caddymodule_test

import "testing"

// both makes the account have a session at each of the two machines, of which
// the second is in use.
func both(t *testing.T) (machines []*machine, g *gateway) {
	t.Helper()
	machines = pair(t)
	g = startGateway(t, surviveSite(machines, wireUser(t)))
	wantReply(t, g.get(surviveGet), 200, "")
	wireFaults(t, machines[0].Emulator, "calls=503x3")
	for range 3 {
		wantReply(t, g.get(surviveGet), 503, "")
	}
	wantReply(t, g.get(surviveGet), 200, "")
	if n := len(machines[1].calls()); n != 1 {
		t.Fatalf("%d calls arrived at the second endpoint", n)
	}
	return machines, g
}

// The token that the other endpoint's session still has is as old as what ended
// the first one.
func TestSessionsLostAtBothEndpointsFailNoCallWhereOneTakesALogin(t *testing.T) {
	machines, g := both(t)
	for _, m := range machines {
		m.Restart()
	}
	wireFaults(t, machines[1].Emulator, "login=503")
	wantReply(t, g.get(surviveGet), 200, "")
	if a, b := machines[0].Stats(), machines[1].Stats(); a.Logins != 2 || b.Logins != 1 || b.FailedLogins != 1 {
		t.Errorf("the first endpoint saw %+v, the second %+v", a, b)
	}
}

// Nobody is told to wait for one endpoint where another may be back sooner.
func TestAnEndpointThatIsNotWaitedForIsNotAnsweredWithAPause(t *testing.T) {
	machines, g := both(t)
	machines[0].Restart()
	wireFaults(t, machines[0].Emulator, "login=503")
	machines[1].off()
	for range 3 {
		got := g.get(surviveGet)
		got.wantOwn(t, 502, "ctmgate.upstream_unreachable")
		if after := got.header.Get("Retry-After"); after != "" {
			t.Errorf("Retry-After is %q", after)
		}
	}
	machines[1].on()
	wantReply(t, g.get(surviveGet), 200, "")
}
