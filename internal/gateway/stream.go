package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/store"
)

// The WebSocket of a stream: binary messages carry RFB as a plain stream of bytes, in both directions, cut anywhere. A
// text message "ping…" of the viewer is answered with "pong…", for it to measure the way to the server.
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
	endExpired     = &streamEnd{4001, "expired"}     // the session's time is over
	endStopped     = &streamEnd{4002, "stopped"}     // the builder is stopping or stopped
	endImaging     = &streamEnd{4003, "imaging"}     // an image is being made of the builder
	endUnreachable = &streamEnd{4004, "unreachable"} // the machine's display does not answer, or went away: worth another try
	endDeleted     = &streamEnd{4005, "deleted"}
	endFailed      = &streamEnd{4006, "failed"}
	endStarting    = &streamEnd{4007, "starting"} // the builder is on its way to RUNNING
	endAddress     = &streamEnd{4008, "address"}  // the access endpoints do not let the address in
	endCrowded     = &streamEnd{4009, "crowded"}  // too many streams of this builder are open
	endSimulated   = &streamEnd{4010, "simulated"}

	endRestart = &streamEnd{websocket.StatusServiceRestart, "restarting"} // the server goes down
	endLost    = &streamEnd{websocket.StatusGoingAway, "lost"}            // the browser does not answer
	endClosed  = &streamEnd{websocket.StatusNormalClosure, "closed"}      // the browser closed
)

// The bounds of a stream.
const (
	maxStreams    = 16       // of one builder at a time
	maxMessage    = 1 << 20  // from the browser, in bytes
	bufferSize    = 64 << 10 // each way
	pingAfter     = 10 * time.Second
	pingTimeout   = 15 * time.Second // a dead peer is given up after pingAfter + pingTimeout
	dialTimeout   = 10 * time.Second
	maxEcho       = 64 // bytes of a "ping…" message
	pingPrefix    = "ping"
	pongPrefix    = "pong"
	lookAfterLost = time.Second // how soon to look again when the store could not be read
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// endFor gives the end that the state of a builder means for its streams; nil when it may be streamed.
func (g *Gateway) endFor(b *appstream.ImageBuilder) *streamEnd {
	switch b.State {
	case appstream.BuilderRunning:
		if g.Dialer == nil {
			return endSimulated
		}
		return nil
	case appstream.BuilderSnapshotting:
		return endImaging
	case appstream.BuilderStopping, appstream.BuilderStopped:
		return endStopped
	case appstream.BuilderFailed:
		return endFailed
	case appstream.BuilderDeleting:
		return endDeleted
	}
	return endStarting
}

// stream relays the display. Who may not have a session gets an HTTP error; who has one gets a WebSocket, and if there is
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
	if !g.enter(v.builder.ID) {
		ws.Close(g.whyFull())
		return
	}
	defer g.leave(v.builder.ID)

	// The request's context is of no use once the connection is taken over; the stream ends with the gateway or by itself.
	ctx, end := context.WithCancelCause(g.closed)
	defer end(nil)
	s := &stream{ws: ws, echo: make(chan []byte, 1), end: end}
	g.Hooks.StreamOpened()
	started := time.Now()
	g.serve(ctx, s, v)
	g.Hooks.StreamClosed(s.reason, time.Since(started), s.sent.Load(), s.received.Load())
	g.Log.InfoContext(ctx, "gateway: stream closed", "builder", v.builder.ARN(), "source", v.source, "reason", s.reason,
		"lasted", time.Since(started).Round(time.Millisecond), "sent", s.sent.Load(), "received", s.received.Load())
}

// sameHost tells whether a page of this host opened the WebSocket: browsers let any page open one, with cookies.
func sameHost(r *http.Request) bool {
	origin, err := url.Parse(r.Header.Get("Origin"))
	return err == nil && origin.Host != "" && strings.EqualFold(origin.Host, r.Host)
}

// enter counts a stream of a builder; false when there are too many or the gateway is closed.
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

// A stream is one WebSocket and one connection to a display.
type stream struct {
	ws      *websocket.Conn
	display *agentapi.DisplayConn
	echo    chan []byte // what the viewer sent to get it back
	end     context.CancelCauseFunc

	heard          atomic.Int64 // when the browser was last heard of, in ns since 1970
	sent, received atomic.Int64 // bytes
	reason         string       // of the end
}

// serve runs a stream from dialing to its end.
func (g *Gateway) serve(ctx context.Context, s *stream, v visit) {
	// The watch comes before the look, so that no change falls between them.
	watch, unwatch := context.WithCancel(ctx)
	defer unwatch()
	changes := g.Store.Watch(watch)

	var all sync.WaitGroup
	opened := make(chan struct{})
	all.Go(func() { // dialing takes time; that the browser goes away must be seen meanwhile
		if why, _ := g.check(ctx, v); why != nil {
			s.end(why)
			return
		}
		dial, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		agent := g.agent(v.builder.ID)
		defer agent.Close()
		display, err := agent.Display(dial)
		if err != nil {
			if ctx.Err() == nil {
				g.Log.WarnContext(ctx, "gateway: reach the display", "builder", v.builder.ARN(), "err", err)
			}
			s.end(endUnreachable)
			return
		}
		defer display.Close()
		defer context.AfterFunc(ctx, func() { display.Close() })() // frees whoever waits for it
		s.display = display
		close(opened)
		g.Log.InfoContext(ctx, "gateway: stream opened", "builder", v.builder.ARN(), "source", v.source)
		s.down(ctx)
	})
	all.Go(func() { s.up(ctx, opened) })
	all.Go(func() { s.keepAlive(ctx) })

	g.attend(ctx, s, v, changes)

	why := endLost
	errors.As(context.Cause(ctx), &why)
	s.reason = why.reason
	if why == endLost {
		s.ws.CloseNow()
	} else {
		s.ws.Close(why.code, why.reason)
	}
	all.Wait()
}

// check looks whether the stream of a visit may be; a nil end if so. The error says that it cannot be told now.
func (g *Gateway) check(ctx context.Context, v visit) (*streamEnd, error) {
	b, err := g.find(ctx, v.builder.ID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return endDeleted, nil
	case err != nil:
		return nil, err
	case !g.admits(&b, v.source):
		return endAddress, nil
	}
	return g.endFor(&b), nil
}

// attend watches over a stream until it ends, and ends it when its session or the builder's RUNNING is over.
func (g *Gateway) attend(ctx context.Context, s *stream, v visit, changes <-chan store.Change) {
	expiry := time.NewTimer(time.Until(v.claims.Expires))
	defer expiry.Stop()
	again := time.NewTimer(lookAfterLost)
	defer again.Stop()
	for {
		why, err := g.check(ctx, v)
		if why != nil {
			s.end(why)
			return
		}
		if err == nil {
			again.Stop()
		} else {
			again.Reset(lookAfterLost)
		}
		for wait := true; wait; {
			select {
			case <-ctx.Done():
				return
			case <-expiry.C:
				s.end(endExpired)
				return
			case <-again.C:
				wait = false
			case c, ok := <-changes:
				if !ok {
					changes = nil // the store is closed, or the stream
				}
				wait = ok && c.ID != v.builder.ID && !c.Lagged || !ok
			}
		}
	}
}

// down copies what the display says to the browser. It reads only as fast as the browser takes, which holds the display back.
func (s *stream) down(ctx context.Context) {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for {
		n, err := s.display.Read(buffer[:])
		if n > 0 && ctx.Err() == nil { // nothing is shown after the end
			// Not with ctx: a write that is given up kills the connection, and the close code could not be sent any more.
			if werr := s.ws.Write(context.Background(), websocket.MessageBinary, buffer[:n]); werr != nil {
				s.end(endLost)
				return
			}
			s.sent.Add(int64(n))
		}
		if err != nil {
			s.end(endUnreachable)
			return
		}
	}
}

// up copies what the browser says to the display. It begins at once, because pongs and the close are only seen by reading.
func (s *stream) up(ctx context.Context, opened <-chan struct{}) {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for {
		kind, message, err := s.ws.Reader(context.Background())
		if err != nil {
			s.end(gone(err))
			return
		}
		s.hear()
		if kind == websocket.MessageText {
			s.reply(message)
			continue
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return
		}
		for {
			n, err := message.Read(buffer[:])
			if n > 0 {
				s.hear()
				s.received.Add(int64(n))
				if _, err := s.display.Write(buffer[:n]); err != nil {
					s.end(endUnreachable)
					return
				}
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				s.end(gone(err))
				return
			}
		}
	}
}

// gone tells a browser that closed from one that was lost.
func gone(err error) *streamEnd {
	switch websocket.CloseStatus(err) {
	case websocket.StatusNormalClosure, websocket.StatusGoingAway, websocket.StatusNoStatusRcvd:
		return endClosed
	}
	return endLost
}

// reply has a "ping…" sent back. One that comes before the last one is on its way is dropped: it must not hold the input up.
func (s *stream) reply(message io.Reader) {
	text, err := io.ReadAll(io.LimitReader(message, maxEcho+1))
	io.Copy(io.Discard, message) // the next message begins after the end of this one
	if err != nil || len(text) > maxEcho || !strings.HasPrefix(string(text), pingPrefix) {
		return
	}
	select {
	case s.echo <- text:
	default:
	}
}

func (s *stream) hear() { s.heard.Store(time.Now().UnixNano()) }

// keepAlive asks a browser that has been silent for pingAfter for a sign of life, and ends the stream if none comes. Any
// message counts as one: on a slow line a pong waits behind the frames that are under way.
func (s *stream) keepAlive(ctx context.Context) {
	s.hear()
	timer := time.NewTimer(pingAfter)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case text := <-s.echo:
			turn, cancel := context.WithTimeout(ctx, pingTimeout) // frames may be under way
			err := s.ws.Write(turn, websocket.MessageText, append([]byte(pongPrefix), text[len(pingPrefix):]...))
			cancel()
			if err != nil && ctx.Err() == nil && s.silent() >= pingTimeout {
				s.end(endLost)
				return
			}
		case <-timer.C:
			if quiet := s.silent(); quiet < pingAfter {
				timer.Reset(pingAfter - quiet)
				continue
			}
			asked, cancel := context.WithTimeout(ctx, pingTimeout)
			err := s.ws.Ping(asked)
			cancel()
			switch {
			case err == nil:
				s.hear()
			case ctx.Err() != nil:
				return
			case s.silent() >= pingTimeout:
				s.end(endLost)
				return
			}
			timer.Reset(pingAfter)
		}
	}
}

// silent is how long the browser has not been heard of.
func (s *stream) silent() time.Duration { return time.Since(time.Unix(0, s.heard.Load())) }

// dialer makes the connections to one machine's agent.
func dialer(d compute.Dialer, id string) agentapi.Dialer {
	return func(ctx context.Context) (net.Conn, error) { return d.Dial(ctx, id) }
}
