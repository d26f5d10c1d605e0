package gateway

import (
	"bufio"
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
)

// The WebSocket of a session's sound: each binary message is one Opus packet of agentapi.SoundFrame. It belongs to the stream that
// shows the session, and ends with it; a newer one takes its place.
const soundProtocol = "opus"

// soundQueue is how much sound may wait for a browser that is slow: half a second. More would be heard too late, so it is dropped.
const soundQueue = int(500 * time.Millisecond / agentapi.SoundFrame)

// sound relays the sound of a session.
func (g *Gateway) sound(w http.ResponseWriter, r *http.Request, v visit, session *appstream.Session) {
	if !sameHost(r) {
		g.Hooks.Refused("origin")
		g.refuse(w, r, noticeForeign)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{soundProtocol}, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // it has been answered
	}
	defer ws.CloseNow()
	if ws.Subprotocol() != soundProtocol {
		ws.Close(websocket.StatusProtocolError, "subprotocol")
		return
	}
	ctx, done := g.listen(session.ID)
	if ctx == nil {
		ws.Close(endUnreachable.code, endUnreachable.reason) // there is no picture that it could belong to
		return
	}
	defer done()
	// Reading sees that the browser goes away. It has a context of its own: one that ends would take the connection with it, and
	// the close code could not be sent.
	ws.SetReadLimit(1)
	reading := ws.CloseRead(context.Background())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(reading, cancel)()

	agent := g.agent(session.InstanceID)
	defer agent.Close()
	// over says why nothing more is heard.
	over := func() {
		if ctx.Err() != nil {
			ws.Close(websocket.StatusNormalClosure, "the stream ended")
		} else {
			ws.Close(endUnreachable.code, endUnreachable.reason)
		}
	}
	sound, err := agent.Session(session.ID).Sound(ctx)
	if err != nil {
		if ctx.Err() == nil {
			g.Log.WarnContext(ctx, "gateway: hear the session", "session", session.ID, "err", err)
		}
		over()
		return
	}
	defer sound.Close()

	packets := make(chan []byte, soundQueue)
	go func() {
		defer close(packets)
		in := agentapi.NewPacketReader(bufio.NewReader(sound))
		for {
			packet, err := in.Next()
			if err != nil {
				return
			}
			select {
			case packets <- bytes.Clone(packet):
			default: // the browser is behind: it hears a gap
			}
		}
	}()
	for {
		select {
		case packet, ok := <-packets:
			if !ok {
				over()
				return
			}
			turn, cancel := context.WithTimeout(context.Background(), pingTimeout)
			err := ws.Write(turn, websocket.MessageBinary, packet)
			cancel()
			if err != nil {
				return
			}
		case <-ctx.Done():
			over()
			return
		}
	}
}

// listen gives a listener of a session the time that he has: until its stream ends or another listener comes; nil when no stream shows it.
func (g *Gateway) listen(id string) (ctx context.Context, done func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.current[id]
	if s == nil || s.ctx.Err() != nil {
		return nil, nil
	}
	if s.hush != nil {
		s.hush()
	}
	ctx, hush := context.WithCancel(s.ctx)
	s.hush = hush
	g.streams.Add(1) // the gateway waits for the stream still, so it can wait for this
	return ctx, func() {
		hush()
		g.streams.Done()
	}
}
