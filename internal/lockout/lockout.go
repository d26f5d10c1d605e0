// Package lockout slows down those who guess: after a few attempts that did not succeed, the next ones have to wait, longer each time. What is counted is a
// name, of a user or of an address; whether anything of that name exists does not matter, so that nothing can be learned from it.
package lockout

import (
	"net/netip"
	"sync"
	"time"
)

// Guard counts attempts by name. It may be used concurrently. Nothing is kept over a restart.
type Guard struct {
	// Free is how many attempts may fail before the first wait.
	Free int
	// First is the first wait; each is twice the one before, up to Most.
	First, Most time.Duration
	// Forget is how long after its last attempt a name is forgotten.
	Forget time.Duration
	// Size is how many names are remembered.
	Size int

	mu   sync.Mutex
	seen map[string]*record
}

type record struct {
	failed int
	until  time.Time // no attempt before
	last   time.Time
}

// Try takes note of an attempt, which counts as failed until it is taken back: of many at the same time none slips through. It gives how long to wait
// when the attempt may not be made; then it does not count.
func (g *Guard) Try(name string, now time.Time) (wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.seen[name]
	if r != nil && now.Before(r.until) {
		return r.until.Sub(now)
	}
	if r == nil || now.Sub(r.last) > g.Forget {
		g.makeRoom(now)
		r = &record{}
		g.seen[name] = r
	}
	r.failed, r.last = r.failed+1, now
	if over := r.failed - g.Free; over >= 0 {
		r.until = now.Add(min(g.First<<min(over, 20), g.Most))
	}
	return 0
}

// Forgive takes one attempt back: it succeeded, or was not made.
func (g *Guard) Forgive(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.seen[name]; r != nil {
		r.until = time.Time{}
		if r.failed--; r.failed <= 0 {
			delete(g.seen, name)
		}
	}
}

// Clear forgets all attempts of a name.
func (g *Guard) Clear(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.seen, name)
}

// makeRoom forgets names when there are too many: those whose time is over, else the one that has failed least. Whoever is guessing is not among these.
func (g *Guard) makeRoom(now time.Time) {
	if g.seen == nil {
		g.seen = map[string]*record{}
	}
	if len(g.seen) < g.Size {
		return
	}
	least := ""
	for name, r := range g.seen {
		if now.Sub(r.last) > g.Forget {
			delete(g.seen, name)
		} else if least == "" || r.failed < g.seen[least].failed || r.failed == g.seen[least].failed && r.last.Before(g.seen[least].last) {
			least = name
		}
	}
	if len(g.seen) >= g.Size {
		delete(g.seen, least)
	}
}

// Address gives the name of an address: that of IPv4, and of IPv6 the network of one subscriber, who has all addresses in it.
func Address(source netip.Addr) string {
	bits := 32
	if source.Is6() {
		bits = 64
	}
	p, _ := source.Prefix(bits)
	return p.String()
}
