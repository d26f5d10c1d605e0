package gateway

import (
	"context"
	"encoding/json/v2"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// relay opens the display and has it shown until the stream ends.
func (g *Gateway) relay(s *stream, now subject) {
	dial, cancel := context.WithTimeout(s.ctx, dialTimeout)
	defer cancel()
	agent := g.agent(now.machine())
	defer agent.Close()
	if s.session != nil && s.session.Rules.TimeZone && s.timeZone != "" {
		if err := agent.Session(s.session.ID).SetTimeZone(dial, s.timeZone); err != nil && dial.Err() == nil {
			g.Log.WarnContext(s.ctx, "gateway: set the time zone", "session", s.session.ID, "err", err)
		}
	}
	display, err := now.display(dial, agent)
	if err != nil {
		if s.ctx.Err() == nil {
			g.Log.WarnContext(s.ctx, "gateway: reach the display", "resource", now.head().ARN(), "err", err)
		}
		s.end(endUnreachable)
		return
	}
	defer display.Close()
	defer context.AfterFunc(s.ctx, func() { display.Close() })() // frees whoever waits for it
	s.display = display
	s.noteInput() // who opens a stream is there
	close(s.open)
	s.stir()
	if s.session != nil {
		g.presence.show(s.session.ID, s.visit.source)
	}
	g.Log.InfoContext(s.ctx, "gateway: stream opened", "resource", now.head().ARN(), "source", s.visit.source)
	s.down()
}

// Write sends what the display says to the browser.
func (s *stream) Write(p []byte) (int, error) {
	if s.ctx.Err() != nil { // nothing is shown after the end
		return len(p), nil
	}
	// Not with ctx: a write that is given up kills the connection, and the close code could not be sent any more.
	if err := s.ws.Write(context.Background(), websocket.MessageBinary, p); err != nil {
		s.end(endLost)
		return 0, err
	}
	s.sent.Add(int64(len(p)))
	return len(p), nil
}

// show passes what the display says on.
func (s *stream) show(p []byte) error {
	if s.filter == nil {
		_, err := s.Write(p)
		return err
	}
	err := s.filter.FromDisplay(s, p)
	if err != nil {
		s.end(endProtocol) // if the browser was not the reason
	}
	return err
}

// tell passes what the browser says on.
func (s *stream) tell(p []byte) *streamEnd {
	if s.filter == nil {
		if _, err := s.display.Write(p); err != nil {
			return endUnreachable
		}
		return nil
	}
	if err := s.filter.FromViewer(toDisplay{s}, p); err != nil {
		return endProtocol // if the display was not the reason
	}
	return nil
}

// toDisplay ends the stream when the display does not take what it gets.
type toDisplay struct{ s *stream }

func (t toDisplay) Write(p []byte) (int, error) {
	n, err := t.s.display.Write(p)
	if err != nil {
		t.s.end(endUnreachable)
	}
	return n, err
}

// down copies what the display says to the browser. It reads only as fast as the browser takes, which holds the display back.
// A display that has been at rest for restAfter is waited for with a small buffer.
func (s *stream) down() {
	var sip [sipSize]byte
	for {
		_ = s.display.SetReadDeadline(time.Time{})
		n, err := s.display.Read(sip[:])
		if n > 0 {
			if s.show(sip[:n]) != nil {
				return
			}
		}
		if err == nil {
			err = s.flow()
		}
		if err != nil {
			s.end(endUnreachable)
			return
		}
	}
}

// flow copies while something flows: nil when the display is at rest.
func (s *stream) flow() error {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for {
		if s.display.SetReadDeadline(time.Now().Add(restAfter)) != nil {
			return nil // it has been closed; reading says so
		}
		n, err := s.display.Read(buffer[:])
		if n > 0 {
			if err := s.show(buffer[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		}
	}
}

// up copies what the browser says to the display. It begins at once, because pongs and the close are only seen by reading.
func (s *stream) up() {
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
		case <-s.open:
		case <-s.ctx.Done():
			return
		}
		if end := s.pass(message); end != nil {
			s.end(end)
			return
		}
	}
}

// pass copies one message to the display.
func (s *stream) pass(message io.Reader) *streamEnd {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for {
		n, err := message.Read(buffer[:])
		if n > 0 {
			s.hear()
			s.received.Add(int64(n))
			if end := s.tell(buffer[:n]); end != nil {
				return end
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return gone(err)
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

// keepAlive sends the text messages, and asks a browser that has been silent for pingAfter for a sign of life: it ends the stream
// if none comes. Any message counts as one: on a slow line a pong waits behind the frames that are under way. The browser of
// a session is asked even if it is not silent, to measure the way to it.
func (s *stream) keepAlive() {
	s.hear()
	timer := time.NewTimer(pingAfter)
	defer timer.Stop()
	for {
		var text []byte
		select {
		case <-s.ctx.Done():
			return
		case asked := <-s.echo:
			text = append([]byte(pongPrefix), asked[len(pingPrefix):]...)
		case n := <-s.notices:
			text, _ = json.Marshal(n) // strings and numbers
		case <-timer.C:
			if quiet := s.silent(); quiet < pingAfter && s.session == nil {
				timer.Reset(pingAfter - quiet)
				continue
			}
			asked, cancel := context.WithTimeout(s.ctx, pingTimeout)
			began := time.Now()
			err := s.ws.Ping(asked)
			cancel()
			switch {
			case err == nil:
				s.roundTrip.Store(int64(time.Since(began)))
				s.hear()
			case s.ctx.Err() != nil:
				return
			case s.silent() >= pingTimeout:
				s.end(endLost)
				return
			}
			timer.Reset(pingAfter)
			continue
		}
		turn, cancel := context.WithTimeout(s.ctx, pingTimeout) // frames may be under way
		err := s.ws.Write(turn, websocket.MessageText, text)
		cancel()
		if err != nil && s.ctx.Err() == nil && s.silent() >= pingTimeout {
			s.end(endLost)
			return
		}
	}
}

// silent is how long the browser has not been heard of.
func (s *stream) silent() time.Duration { return time.Since(time.Unix(0, s.heard.Load())) }
