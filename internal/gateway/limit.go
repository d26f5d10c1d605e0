package gateway

import (
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

// How many refused tickets of one address are answered in full and logged: ten at once, then one each five seconds. A genuine
// ticket is never held back; signatures cannot be guessed, so this only keeps noise out of the log.
const (
	refusedBurst = 10
	refusedRate  = rate.Limit(0.2)
	maxAddresses = 4096
)

// limiter counts refusals by address.
type limiter struct {
	mu   sync.Mutex
	seen map[netip.Prefix]*rate.Limiter
}

func newLimiter() *limiter { return &limiter{seen: make(map[netip.Prefix]*rate.Limiter)} }

// allow takes note of a refusal and tells whether the address is still within its limit.
func (l *limiter) allow(a netip.Addr) bool {
	bits := 32
	if a.Is6() {
		bits = 64 // what one subscriber gets
	}
	who, _ := a.Prefix(bits)
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.seen[who]
	if one == nil {
		if len(l.seen) >= maxAddresses {
			clear(l.seen) // forgetting is harmless, growing is not
		}
		one = rate.NewLimiter(refusedRate, refusedBurst)
		l.seen[who] = one
	}
	return one.Allow()
}
