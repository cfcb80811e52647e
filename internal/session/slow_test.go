package session

import (
	"testing"
	"time"
)

func TestALoginSlowerThanTheLifetimeIsAFailureAndNotRepeatedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) {
			c.Lifetime, c.RenewBefore, c.LoginTimeout = 2*time.Second, time.Second, 10*time.Second
		})
		gate := r.issuer.block()
		time.AfterFunc(3*time.Second, func() { gate <- nil })
		_, err := r.Take(t.Context(), Use{})
		failed := errorAs[*FailedError](t, err)
		if failed.RetryAfter < time.Second {
			t.Errorf("retry after %v", failed.RetryAfter)
		}
		r.wantLogins(t, 1)
		_, err = r.Take(t.Context(), Use{})
		errorAs[*PausedError](t, err)
		r.wantLogins(t, 1)
	})
}
