package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/appstream"
)

func TestClock(t *testing.T) {
	start := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	type step struct {
		now, input time.Duration
		say        []streamNotice
		end        *streamEnd
		next       time.Duration
	}
	for _, tt := range []struct {
		name   string
		maxEnd time.Duration
		idle   time.Duration
		steps  []step
	}{
		{"no idle timeout", time.Hour, 0, []step{{now: 1, input: 1, next: 55 * time.Minute}, {now: 55 * time.Minute, say: []streamNotice{{Notice: "ending", In: 300}}}}},
		{"comes late", 2 * time.Minute, 0, []step{{now: 0, say: []streamNotice{{Notice: "ending", In: 120}}}, {now: time.Minute}}},
		{"longer after all", time.Hour, 0, []step{{now: 56 * time.Minute, say: []streamNotice{{Notice: "ending", In: 240}}}}},
		{"idle", 100 * time.Hour, 20 * time.Minute, []step{
			{now: 0, input: 1, next: 19*time.Minute + 1},
			{now: 19*time.Minute + 1, input: 10 * time.Minute, next: 29 * time.Minute}, // there was input meanwhile
			{now: 29 * time.Minute, input: 10 * time.Minute, say: []streamNotice{{Notice: "idle", In: 60}}, next: 30 * time.Minute},
			{now: 29*time.Minute + 30*time.Second, input: 29*time.Minute + 30*time.Second, say: []streamNotice{{Notice: "active"}}, next: 48*time.Minute + 30*time.Second},
			{now: 48*time.Minute + 30*time.Second, input: 29*time.Minute + 30*time.Second, say: []streamNotice{{Notice: "idle", In: 60}}, next: 49*time.Minute + 30*time.Second},
			{now: 49*time.Minute + 30*time.Second, input: 29*time.Minute + 30*time.Second, end: endIdle},
		}},
		{"a short idle timeout", 100 * time.Hour, time.Minute, []step{{now: 0, input: 1, next: 30*time.Second + 1}, {now: 31 * time.Second, input: 1, say: []streamNotice{{Notice: "idle", In: 30}}, next: time.Minute + 1}}},
	} {
		var c clock
		for n, s := range tt.steps {
			var input time.Time
			if s.input != 0 {
				input = at(s.input)
			}
			say, end, next := c.tell(at(s.now), at(tt.maxEnd), tt.idle, input)
			want := never
			if s.next != 0 {
				want = at(s.next)
			}
			if s.end != nil {
				want, next = never, never
			}
			if diff := cmp.Diff(s.say, say); diff != "" || end != s.end || !next.Equal(want) {
				t.Errorf("%s, step %d: end %v, next %s, want %s: %s", tt.name, n, end, next, want, diff)
			}
		}
	}
}

// A person at a browser, who sends and hears WebSocket messages over a pipe.
type personAtBrowser struct {
	net.Conn
	mu      sync.Mutex
	notices []string
	at      []time.Duration // when they came
	closed  chan struct{}
}

// listen answers pings and takes note of text messages until the stream ends.
func (p *personAtBrowser) listen(start time.Time) {
	defer close(p.closed)
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(p, head); err != nil {
			return
		}
		length := int(head[1] & 0x7f)
		if length == 126 {
			var long [2]byte
			if _, err := io.ReadFull(p, long[:]); err != nil {
				return
			}
			length = int(binary.BigEndian.Uint16(long[:]))
		}
		payload := make([]byte, length)
		if _, err := io.ReadFull(p, payload); err != nil {
			return
		}
		switch head[0] & 0xf {
		case 1:
			p.mu.Lock()
			p.notices, p.at = append(p.notices, string(payload)), append(p.at, time.Since(start).Round(time.Second))
			p.mu.Unlock()
		case 8:
			p.send(0x88, payload)
			return
		case 9:
			p.send(0x8a, payload)
		}
	}
}

func (p *personAtBrowser) send(kind byte, payload []byte) {
	p.Write(append([]byte{kind, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...))
}

// watchSession has a person watch the session in a bubble. do is what he does; the reason of the stream's end is returned.
func watchSession(t *testing.T, change func(*appstream.Session), do func(*personAtBrowser)) (reason string, lasted time.Duration, p *personAtBrowser, helper *people) {
	ended := make(chan string, 1)
	memory := newMemory()
	helper = &people{store: memory}
	session := aSession()
	change(&session)
	memory.sessions[testSession] = session
	heard, say := make(chan []byte, 1000), make(chan []byte)
	defer close(say) // the display goes when it is over
	g, err := New(Config{Store: memory, Signer: newWorldSigner(t), Log: slog.New(slog.DiscardHandler), Sessions: helper, Dialer: agent{display: screen(say, heard), session: http.NotFoundHandler()},
		CreateImage: func(context.Context, NewImage) error { return nil },
		Hooks:       Hooks{StreamClosed: func(reason string, _ time.Duration, _, _ int64) { ended <- reason }}})
	if err != nil {
		t.Fatal(err)
	}
	c := personClaims()
	c.RecordID, c.Expires = testSession, session.MaxEnd.Add(afterwards)
	cookie, err := g.Signer.Session(c)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	bubble(t, g, testSession, "oriel-"+testSession+"="+cookie, func(browser net.Conn) {
		head := make([]byte, 4096)
		if n, err := browser.Read(head); err != nil || !strings.Contains(string(head[:n]), "101 Switching") {
			t.Fatalf("the handshake was answered with %q, %v", head[:n], err)
		}
		p = &personAtBrowser{Conn: browser, closed: make(chan struct{})}
		go p.listen(start)
		if session.State == appstream.SessionActive { // no viewer speaks before the display
			p.send(0x82, viewerHello)
		}
		if do != nil {
			go do(p)
		}
	})
	reason = <-ended
	lasted = time.Since(start)
	<-p.closed
	// The display ends with the stream, and the gateway after it.
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return reason, lasted, p, helper
}

func TestIdleStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reason, lasted, p, _ := watchSession(t, func(s *appstream.Session) { s.IdleTimeout = 20 * time.Minute }, func(p *personAtBrowser) {
			time.Sleep(10 * time.Minute)
			p.send(0x82, []byte{5, 0, 0, 1, 0, 1}) // the pointer moves
			time.Sleep(5 * time.Minute)
			p.send(0x82, []byte{3, 1, 0, 0, 0, 0, 0, 9, 0, 9}) // asking for a picture is no input
			p.send(0x81, []byte("ping"))
			time.Sleep(14*time.Minute + 30*time.Second)
			p.send(0x82, []byte{4, 1, 0, 0, 0, 0, 0, 65}) // a key, half a minute before the end
		})
		if want := 49*time.Minute + 30*time.Second; reason != "idle" || lasted.Round(time.Second) != want {
			t.Errorf("the stream ended with %q after %s, want %s", reason, lasted, want)
		}
		notices := slices.DeleteFunc(slices.Clone(p.notices), func(s string) bool { return s == "pong" })
		want := []string{`{"notice":"idle","in":60}`, `{"notice":"active"}`, `{"notice":"idle","in":60}`}
		if diff := cmp.Diff(want, notices); diff != "" {
			t.Errorf("%s, at %v", diff, p.at)
		}
	})
}

func TestPersonIsWarnedOfTheSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The session is the engine's to end; when nobody does, the cookie's time ends the stream.
		reason, lasted, p, _ := watchSession(t, func(s *appstream.Session) { s.MaxEnd = time.Now().Add(time.Hour) }, nil)
		if reason != "expired" || lasted.Round(time.Second) != time.Hour+afterwards {
			t.Errorf("the stream ended with %q after %s", reason, lasted)
		}
		if len(p.notices) != 1 || p.notices[0] != `{"notice":"ending","in":300}` || p.at[0] != 55*time.Minute {
			t.Errorf("got %v at %v", p.notices, p.at)
		}
	})
}

func TestSessionThatNeverBecomesActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reason, lasted, _, people := watchSession(t, func(s *appstream.Session) { s.State = appstream.SessionPending }, nil)
		if reason != "starting" || lasted.Round(time.Second) != pendingTime {
			t.Errorf("the stream ended with %q after %s", reason, lasted)
		}
		if notes := people.noted(); len(notes) != 0 {
			t.Errorf("noted %v", notes)
		}
	})
}

// The service hears where a person is, also when he goes on from elsewhere without having left.
func TestConnectionsAreNotedWithTheirAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &people{store: newMemory()}
		g, err := New(Config{Store: p.store, Signer: newWorldSigner(t), Log: slog.New(slog.DiscardHandler), Sessions: p, CreateImage: func(context.Context, NewImage) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		home, train := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::1")
		for _, source := range []netip.Addr{home, home, train} { // each takes the session over from the one before
			g.enter("s")
			g.presence.come("s")
			g.presence.show("s", source)
			synctest.Wait()
		}
		for range 3 {
			g.presence.leave("s", true)
			g.leave("s")
			synctest.Wait()
		}
		g.enter("s")
		g.presence.come("s")
		g.presence.show("s", train)
		synctest.Wait()
		g.presence.leave("s", true)
		g.leave("s")
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"connected s", "connected s", "disconnected s", "connected s", "disconnected s"}, p.noted()); diff != "" {
			t.Error(diff)
		}
		if want := []netip.Addr{home, train, train}; !slices.Equal(p.sources, want) {
			t.Errorf("connections were from %v, want %v", p.sources, want)
		}
	})
}

// What the service cannot take is said again until it can, and what has changed meanwhile is not said at all.
func TestConnectionsAreNotedDespiteErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &people{store: newMemory(), noteErr: errors.New("the disk is on fire")}
		g, err := New(Config{Store: p.store, Signer: newWorldSigner(t), Log: slog.New(slog.DiscardHandler), Sessions: p, CreateImage: func(context.Context, NewImage) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		set := func(err error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.noteErr = err
		}
		want := func(notes ...string) {
			t.Helper()
			synctest.Wait()
			if diff := cmp.Diff(notes, p.noted()); diff != "" {
				t.Error(diff)
			}
		}
		g.enter("s")
		g.presence.come("s")
		want()
		g.presence.show("s", netip.Addr{})
		want("connected failed s")
		time.Sleep(noteAgain)
		want("connected failed s", "connected failed s")
		g.presence.leave("s", true) // it was never known to be connected
		time.Sleep(time.Minute)
		want("connected failed s", "connected failed s")
		set(nil)
		g.presence.come("s")
		g.presence.show("s", netip.Addr{})
		want("connected failed s", "connected failed s", "connected s")
		set(errors.New("again"))
		g.presence.leave("s", true)
		want("connected failed s", "connected failed s", "connected s", "disconnected failed s")
		set(nil)
		time.Sleep(noteAgain)
		want("connected failed s", "connected failed s", "connected s", "disconnected failed s", "disconnected s")
		if len(g.presence.seen) != 0 {
			t.Errorf("kept %v", g.presence.seen)
		}
		// A gateway that closes tries once more, and is not held up.
		g.presence.come("s")
		g.presence.show("s", netip.Addr{})
		synctest.Wait()
		set(errors.New("again"))
		g.presence.leave("s", true)
		g.leave("s")
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if notes := p.noted(); notes[len(notes)-1] != "disconnected failed s" {
			t.Errorf("noted %v", notes)
		}
	})
}
