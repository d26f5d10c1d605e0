package gateway

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// How soon a note about a connection is tried again when the service could not take it, and how long one try may take.
const (
	noteAgain    = time.Second
	noteSeldom   = 30 * time.Second
	notePatience = 15 * time.Second
)

// presence notes with the service whether browsers show the sessions. It says what has changed, until it has been heard: on
// one note hangs the session's disconnect timeout. What a crash keeps it from saying, the service forgets when it starts.
type presence struct {
	g    *Gateway
	mu   sync.Mutex
	seen map[string]*attendance // by session
}

// attendance is what is known of one session.
type attendance struct {
	here   int        // streams, from the first word of the browser
	shown  int        // of these, those whose display is open
	source netip.Addr // of the browser of the newest of those
	told   bool       // what the service has heard last
	where  netip.Addr // that it has heard last
	saying bool       // a goroutine tells it
}

// news tells whether the service has not heard all.
func (a *attendance) news() bool {
	return a.connected() != a.told || a.told && a.source != a.where
}

// connected tells whether the session counts as connected. A stream that takes another's place keeps it so before its own display is open.
func (a *attendance) connected() bool { return a.shown > 0 || a.told && a.here > 0 }

// come, show and leave note that a stream of the session is there, that its display is open (once), and that it ended.
func (p *presence) come(id string)                    { p.change(id, 1, 0, netip.Addr{}) }
func (p *presence) show(id string, source netip.Addr) { p.change(id, 0, 1, source) }
func (p *presence) leave(id string, shown bool) {
	if shown {
		p.change(id, -1, -1, netip.Addr{})
	} else {
		p.change(id, -1, 0, netip.Addr{})
	}
}

func (p *presence) change(id string, here, shown int, source netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.seen[id]
	if a == nil {
		a = new(attendance)
		p.seen[id] = a
	}
	a.here += here
	a.shown += shown
	if source.IsValid() {
		a.source = source
	}
	switch {
	case a.saying:
	case a.news():
		a.saying = true
		p.g.streams.Go(func() { p.say(id, a) })
	case a.here == 0:
		delete(p.seen, id)
	}
}

// say brings the service up to date. When the gateway closes it tries once more, and no more.
func (p *presence) say(id string, a *attendance) {
	pause := noteAgain
	for {
		p.mu.Lock()
		want, source := a.connected(), a.source
		if !a.news() {
			a.saying = false
			if a.here == 0 {
				delete(p.seen, id)
			}
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()

		last := p.g.closed.Err() != nil
		ctx, cancel := context.WithTimeout(context.Background(), notePatience)
		var err error
		if want {
			err = p.g.Sessions.SessionConnected(ctx, id, source)
		} else {
			err = p.g.Sessions.SessionDisconnected(ctx, id)
		}
		cancel()
		if err == nil || last {
			p.mu.Lock()
			a.told, a.where = want, source
			p.mu.Unlock()
		}
		if err == nil {
			pause = noteAgain
			continue
		}
		p.g.Log.Warn("gateway: note a connection", "session", id, "connected", want, "err", err)
		if last {
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-p.g.closed.Done():
		}
		timer.Stop()
		pause = min(2*pause, noteSeldom)
	}
}
