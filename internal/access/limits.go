package access

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Limits are how much a client may ask for. The zero Limits has no bound.
type Limits struct {
	// PerSecond calls, and Burst of them at once; 0 for no bound.
	PerSecond float64
	Burst     int
	// Concurrent calls under way; 0 for no bound.
	Concurrent int
	// Body is the most bytes of a call's body; 0 for no bound.
	Body int64
}

// ParseRate reads a rate as in "20/s" or "600/m burst 40", given as words. A burst that is not given is what the rate
// allows in a second, at least 1.
func ParseRate(words []string) (perSecond float64, burst int, err error) {
	const expected = "expected calls per second, minute or hour, as in `rate 20/s` or `rate 600/m burst 40`"
	if len(words) != 1 && (len(words) != 3 || words[1] != "burst") {
		return 0, 0, fmt.Errorf("reading a rate: %s", expected)
	}
	count, unit, _ := strings.Cut(words[0], "/")
	n, err := strconv.ParseFloat(count, 64)
	per := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	if err != nil || per == 0 || !(n > 0) || math.IsInf(n, 0) || strings.ContainsAny(count, "xXpP_") {
		return 0, 0, fmt.Errorf("reading a rate: %q; %s", words[0], expected)
	}
	perSecond = n / per
	burst = int(max(1, math.Ceil(min(perSecond, math.MaxInt32))))
	if len(words) == 3 {
		if burst, err = strconv.Atoi(words[2]); err != nil || burst < 1 {
			return 0, 0, fmt.Errorf("reading a rate: burst %q: expected a number above zero; %s", words[2], expected)
		}
	}
	return perSecond, burst, nil
}

// usage is what a client has of its limits at the moment.
type usage struct {
	limiter *rate.Limiter // nil for no bound
	running atomic.Int64
}

// concurrentRetry is how long a caller should wait that met the bound of calls under way.
const concurrentRetry = time.Second

// Enter begins a call of the client, unless that is over its limits: then it returns when to try again and which bound
// was met. Every call that was begun is ended with Leave.
func (c *Client) Enter() (retryAfter time.Duration, why string, ok bool) {
	if n := c.usage.running.Add(1); c.Limits.Concurrent > 0 && n > int64(c.Limits.Concurrent) {
		c.usage.running.Add(-1)
		return concurrentRetry, "max_concurrent", false
	}
	if c.usage.limiter != nil {
		// Not with Reserve: one that is cancelled does not give back what was
		// reserved after it, and refusals would use up the rate.
		if now := time.Now(); !c.usage.limiter.AllowN(now, 1) {
			c.usage.running.Add(-1)
			missing := max(1-c.usage.limiter.TokensAt(now), 0)
			return time.Duration(missing / c.Limits.PerSecond * float64(time.Second)), "rate", false
		}
	}
	return 0, "", true
}

// Leave ends a call that Enter began.
func (c *Client) Leave() { c.usage.running.Add(-1) }

func (c *Client) limit() {
	if c.Limits.PerSecond > 0 {
		c.usage.limiter = rate.NewLimiter(rate.Limit(c.Limits.PerSecond), c.Limits.Burst)
	}
}
