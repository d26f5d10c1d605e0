package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/rfb"
	"github.com/oriel-project/oriel/internal/store"
)

// The WebSocket of a stream: binary messages carry RFB as a plain stream of bytes, in both directions, cut anywhere. A
// text message "ping…" of the viewer is answered with "pong…", for it to measure the way to the server. Other text messages
// to the viewer of a session are a streamNotice each, in JSON.
//
// A stream ends as soon as its reason to be is gone. The close code tells the viewer what happened and the close
// reason is the same in one word, for logs.
const subprotocol = "binary"

// streamEnd is why a stream ended.
type streamEnd struct {
	code   websocket.StatusCode
	reason string
}

func (e *streamEnd) Error() string { return "the stream ended: " + e.reason }

var (
	endExpired     = &streamEnd{4001, "expired"}     // the cookie's time is over
	endStopped     = &streamEnd{4002, "stopped"}     // the builder is stopping or stopped
	endImaging     = &streamEnd{4003, "imaging"}     // an image is being made of the builder
	endUnreachable = &streamEnd{4004, "unreachable"} // the machine's display does not answer, or went away: worth another try
	endDeleted     = &streamEnd{4005, "deleted"}
	endFailed      = &streamEnd{4006, "failed"}
	endStarting    = &streamEnd{4007, "starting"} // the builder is on its way to RUNNING, or the session to ACTIVE for longer than pendingTime
	endAddress     = &streamEnd{4008, "address"}  // the access endpoints do not let the address in
	endCrowded     = &streamEnd{4009, "crowded"}  // too many streams of this builder or session are open
	endSimulated   = &streamEnd{4010, "simulated"}
	endEnded       = &streamEnd{4011, "ended"}     // the session is over: /info says why
	endElsewhere   = &streamEnd{4012, "elsewhere"} // the session is shown by a newer stream
	endIdle        = &streamEnd{4013, "idle"}      // nothing was typed or moved for the session's idle timeout

	endProtocol = &streamEnd{websocket.StatusProtocolError, "protocol"}    // one side of a session said what cannot be followed
	endRestart  = &streamEnd{websocket.StatusServiceRestart, "restarting"} // the server goes down
	endLost     = &streamEnd{websocket.StatusGoingAway, "lost"}            // the browser does not answer
	endClosed   = &streamEnd{websocket.StatusNormalClosure, "closed"}      // the browser closed
)

// The bounds of a stream.
const (
	maxStreams    = 16       // of one builder or session at a time
	maxMessage    = 1 << 20  // from the browser, in bytes
	bufferSize    = 64 << 10 // each way, while something flows
	sipSize       = 2 << 10  // from a display that is at rest
	restAfter     = time.Second
	pingAfter     = 10 * time.Second
	pingTimeout   = 15 * time.Second // a dead peer is given up after pingAfter + pingTimeout
	dialTimeout   = 10 * time.Second
	pendingTime   = 5 * time.Minute // that a stream waits for its session to be ACTIVE
	maxEcho       = 64              // bytes of a "ping…" message
	maxNotices    = 8               // that wait to be sent
	pingPrefix    = "ping"
	pongPrefix    = "pong"
	lookAfterLost = time.Second // how soon to look again when the store could not be read
)

// timeZone is the name of one, like Europe/Berlin or America/Argentina/Buenos_Aires.
var timeZone = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_+-]{0,31}(?:/[A-Za-z][A-Za-z0-9_+-]{0,31}){0,2}$`)

// stream relays the display. Who may not have a stream gets an HTTP error; who may gets a WebSocket, and if there is
// nothing to stream its close code says why.
func (g *Gateway) stream(w http.ResponseWriter, r *http.Request, v visit) {
	if !sameHost(r) {
		g.Hooks.Refused("origin")
		g.refuse(w, r, noticeForeign)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{subprotocol}, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // it has been answered
	}
	ws.SetReadLimit(maxMessage)
	if ws.Subprotocol() != subprotocol {
		ws.Close(websocket.StatusProtocolError, "subprotocol")
		return
	}
	id := v.subject.head().ID
	if !g.enter(id) {
		ws.Close(g.whyFull())
		return
	}
	defer g.leave(id)

	// The request's context is of no use once the connection is taken over; the stream ends with the gateway or by itself.
	ctx, end := context.WithCancelCause(g.closed)
	defer end(nil)
	s := &stream{ws: ws, visit: v, ctx: ctx, end: end, opened: time.Now(), open: make(chan struct{}), echo: make(chan []byte, 1),
		notices: make(chan streamNotice, maxNotices), stirred: make(chan struct{}, 1)}
	if session, ok := v.subject.(seat); ok {
		if s.session = session.Session; timeZone.MatchString(r.URL.Query().Get("tz")) {
			s.timeZone = r.URL.Query().Get("tz")
		}
		s.filter = rfb.NewFilter(rules(session.Rules), rfb.Events{Input: s.active, Refused: s.refusedText})
		g.takeOver(id, s)
		defer g.giveUp(id, s)
	}
	g.Hooks.StreamOpened()
	g.serve(s)
	lasted := time.Since(s.opened)
	g.Hooks.StreamClosed(s.reason, lasted, s.sent.Load(), s.received.Load())
	g.Log.InfoContext(ctx, "gateway: stream closed", "resource", v.subject.head().ARN(), "source", v.source, "reason", s.reason,
		"lasted", lasted.Round(time.Millisecond), "sent", s.sent.Load(), "received", s.received.Load())
}

// sameHost tells whether a page of this host opened the WebSocket: browsers let any page open one, with cookies.
func sameHost(r *http.Request) bool {
	origin, err := url.Parse(r.Header.Get("Origin"))
	return err == nil && origin.Host != "" && strings.EqualFold(origin.Host, r.Host)
}

// enter counts a stream of a record; false when there are too many or the gateway is closed.
func (g *Gateway) enter(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[id] >= maxStreams || g.closed.Err() != nil {
		return false
	}
	g.open[id]++
	g.streams.Add(1)
	return true
}

func (g *Gateway) leave(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[id]--; g.open[id] == 0 {
		delete(g.open, id)
	}
	g.streams.Done()
}

func (g *Gateway) whyFull() (websocket.StatusCode, string) {
	if g.closed.Err() != nil {
		return endRestart.code, endRestart.reason
	}
	return endCrowded.code, endCrowded.reason
}

// takeOver makes s the stream of its session: a person has one, and the newer is the one that he looks at.
func (g *Gateway) takeOver(id string, s *stream) {
	g.presence.come(id)
	g.mu.Lock()
	older := g.current[id]
	g.current[id] = s
	g.mu.Unlock()
	if older != nil {
		older.end(endElsewhere)
	}
}

func (g *Gateway) giveUp(id string, s *stream) {
	g.mu.Lock()
	if g.current[id] == s {
		delete(g.current, id)
	}
	g.mu.Unlock()
	select {
	case <-s.open:
		g.presence.leave(id, true)
	default:
		g.presence.leave(id, false)
	}
}

// A stream is one WebSocket and one connection to a display.
type stream struct {
	ws       *websocket.Conn
	visit    visit
	session  *appstream.Session // as it was when the stream came; nil for a builder's
	timeZone string             // of the browser; "" if it does not say
	ctx      context.Context    // of the stream: it is over when that is
	end      context.CancelCauseFunc
	opened   time.Time

	filter  *rfb.Filter // of a session's stream; nil for a builder's
	display *agentapi.DisplayConn
	hush    context.CancelFunc // ends its sound; guarded by Gateway.mu
	open    chan struct{}      // closed when display is there

	echo    chan []byte       // what the viewer sent to get it back
	notices chan streamNotice // to the viewer
	stirred chan struct{}     // there was input while the person was warned of being idle, or the display was opened
	input   atomic.Int64      // when there last was some, or the display was opened, in ns since opened; 0: not yet
	warned  atomic.Bool       // of being idle

	heard          atomic.Int64 // when the browser was last heard of, in ns since 1970
	roundTrip      atomic.Int64 // of the last ping, in ns
	sent, received atomic.Int64 // bytes
	reason         string       // of the end
}

// serve runs a stream from its beginning to its end. At rest it has three goroutines besides the caller's: one that
// waits for the display, one that waits for the browser, and one that asks it for signs of life.
func (g *Gateway) serve(s *stream) {
	// Following comes before the look, so that no change falls between them.
	changed, unfollow := g.news.follow(g.Store, s.visit.subject.head().ID)
	defer unfollow()

	var all sync.WaitGroup
	all.Go(s.up) // at once: that the browser goes away must be seen while the display is waited for
	all.Go(s.keepAlive)
	g.attend(s, changed, func(now subject) { all.Go(func() { g.relay(s, now) }) })

	why := endLost
	errors.As(context.Cause(s.ctx), &why)
	s.reason = why.reason
	if why == endLost {
		s.ws.CloseNow()
	} else {
		s.ws.Close(why.code, why.reason)
	}
	all.Wait()
}

// check reads the subject of a visit, and gives the end that its being as it is means for a stream. The error says that it
// cannot be told now.
func (g *Gateway) check(ctx context.Context, v visit) (now subject, ready bool, end *streamEnd, err error) {
	now, err = g.find(ctx, v.claims)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, false, v.subject.gone(), nil
	case err != nil:
		return nil, false, nil, err
	case !g.admits(now.endpoints(), v.source):
		return nil, false, endAddress, nil
	}
	ready, end = now.streamable(g.Dialer != nil)
	return now, ready, end, nil
}

// attend watches over a stream until it ends: begins to relay when there is something to stream, and ends it when the time of
// its cookie or its session is over, or what it shows is no longer to be seen. One timer waits for whatever is next.
func (g *Gateway) attend(s *stream, changed <-chan struct{}, relay func(subject)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	pending := time.Now().Add(pendingTime)
	look := time.Now() // when to read the record
	begun := false
	var clock clock
	var maxEnd time.Time
	for {
		now := time.Now()
		if !now.Before(look) {
			subject, ready, end, err := g.check(s.ctx, s.visit)
			look = never
			switch {
			case err != nil:
				look = now.Add(lookAfterLost)
			case end != nil:
				s.end(end)
				return
			case ready && !begun:
				begun = true
				relay(subject)
			}
			if session, ok := subject.(seat); ok {
				maxEnd = session.MaxEnd
			}
		}
		next := s.visit.claims.Expires
		if !now.Before(next) {
			s.end(endExpired)
			return
		}
		if !begun {
			if !now.Before(pending) {
				s.end(endStarting)
				return
			}
			next = earlier(next, pending)
		} else if s.session != nil {
			again, end := s.tick(&clock, now, maxEnd)
			if end != nil {
				s.end(end)
				return
			}
			next = earlier(next, again)
		}
		timer.Reset(time.Until(earlier(next, look)))
		select {
		case <-s.ctx.Done():
			return
		case <-changed:
			look = now
		case <-s.stirred:
		case <-timer.C:
		}
	}
}

// tick asks the clock of a session's stream, and says what it has to say.
func (s *stream) tick(c *clock, now, maxEnd time.Time) (next time.Time, end *streamEnd) {
	for {
		input := s.input.Load()
		var last time.Time
		if input != 0 {
			last = s.opened.Add(time.Duration(input))
		}
		say, end, next := c.tell(now, maxEnd, s.session.IdleTimeout, last)
		for _, n := range say {
			s.say(n)
		}
		s.warned.Store(c.idling)
		if s.input.Load() == input || !c.idling { // input that did not see the warning is seen here
			return next, end
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// say has a notice sent to the viewer. One that finds too many before it is dropped.
func (s *stream) say(n streamNotice) {
	select {
	case s.notices <- n:
	default:
	}
}

// stir has attend look at the clock.
func (s *stream) stir() {
	select {
	case s.stirred <- struct{}{}:
	default:
	}
}

// noteInput counts from the stream's beginning, so that nobody is idle because the clock was set.
func (s *stream) noteInput() { s.input.Store(max(1, int64(time.Since(s.opened)))) }

func rules(r appstream.Rules) rfb.Rules {
	return rfb.Rules{CopyIn: r.CopyIn, CopyOut: r.CopyOut, CopyInMax: r.CopyInMax, CopyOutMax: r.CopyOutMax}
}

// refusedText tells the person that a text of the clipboard did not pass.
func (s *stream) refusedText(d rfb.Direction, r rfb.Reason) {
	n := streamNotice{Notice: "clipboard", Direction: string(d), Reason: string(r)}
	switch {
	case r == rfb.Length && d == rfb.In:
		n.Max = s.session.Rules.CopyInMax
	case r == rfb.Length:
		n.Max = s.session.Rules.CopyOutMax
	}
	s.say(n)
}

// active notes input of the person.
func (s *stream) active() {
	s.noteInput()
	if s.warned.Load() {
		s.stir()
	}
}

// dialer makes the connections to one machine's agent.
func dialer(d compute.Dialer, id string) agentapi.Dialer {
	return func(ctx context.Context) (net.Conn, error) { return d.Dial(ctx, id) }
}
