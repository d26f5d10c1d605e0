package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/coder/websocket"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/ticket"
)

// dialStream opens the WebSocket of "hello" as a viewer does.
func (w *world) dialStream(client *http.Client, change func(http.Header)) (*websocket.Conn, *http.Response, error) {
	header := http.Header{"Cookie": {w.cookies(client)}, "Origin": {w.server.URL}}
	if change != nil {
		change(header)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	ws, resp, err := websocket.Dial(ctx, w.server.URL+"/stream/"+testID+"/ws", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: &http.Transport{}}, HTTPHeader: header, Subprotocols: []string{"binary"}})
	if err == nil {
		ws.SetReadLimit(1 << 20)
	}
	return ws, resp, err
}

func (w *world) openStream() *websocket.Conn {
	w.t.Helper()
	ws, _, err := w.dialStream(w.signedIn(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { ws.CloseNow() })
	return ws
}

// readAll collects binary messages until there are n bytes.
func readAll(t *testing.T, ws *websocket.Conn, n int) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all []byte
	for len(all) < n {
		kind, data, err := ws.Read(ctx)
		if err != nil {
			t.Fatalf("after %d of %d bytes: %v", len(all), n, err)
		}
		if kind != websocket.MessageBinary {
			t.Fatalf("got the text %q", data)
		}
		all = append(all, data...)
	}
	return all
}

// wantEnd reads until the stream ends and checks why.
func wantEnd(t *testing.T, ws *websocket.Conn, want *streamEnd) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		_, _, err := ws.Read(ctx)
		if err == nil {
			continue
		}
		closed, ok := errors.AsType[websocket.CloseError](err)
		if !ok || closed.Code != want.code || closed.Reason != want.reason {
			t.Errorf("the stream ended with %v, want %d %s", err, want.code, want.reason)
		}
		return
	}
}

func TestStreamRelaysBothWays(t *testing.T) {
	w := newWorld(t, agentFunc(func(display net.Conn) {
		io.WriteString(display, "RFB 003.008\n")
		echo(display)
	}), nil)
	ws := w.openStream()
	if ws.Subprotocol() != "binary" {
		t.Errorf("the subprotocol is %q", ws.Subprotocol())
	}
	if got := readAll(t, ws, 12); string(got) != "RFB 003.008\n" {
		t.Errorf("the greeting is %q", got)
	}
	sent := make([]byte, 3<<20) // more than all buffers on the way
	rand.Read(sent)
	go func() {
		for chunk := range slices.Chunk(sent, 100_000) {
			if err := ws.Write(t.Context(), websocket.MessageBinary, chunk); err != nil {
				t.Errorf("write: %v", err)
				return
			}
		}
	}()
	if got := readAll(t, ws, len(sent)); !bytes.Equal(got, sent) {
		t.Error("what came back is not what was sent")
	}
	if err := ws.Write(t.Context(), websocket.MessageText, []byte("ping 7")); err != nil {
		t.Fatal(err)
	}
	if kind, data, err := ws.Read(t.Context()); err != nil || kind != websocket.MessageText || string(data) != "pong 7" {
		t.Errorf("the ping was answered with %v %q, %v", kind, data, err)
	}
	for _, strange := range []string{"", "hello", strings.Repeat("ping", 1000)} { // no answer, no harm
		if err := ws.Write(t.Context(), websocket.MessageText, []byte(strange)); err != nil {
			t.Fatal(err)
		}
	}
	if err := ws.Write(t.Context(), websocket.MessageBinary, []byte("still here")); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, ws, 10); string(got) != "still here" {
		t.Errorf("got %q", got)
	}
	ws.Close(websocket.StatusNormalClosure, "")
	if end := <-w.closed; end.reason != "closed" || end.received != int64(len(sent)+10) || end.sent != int64(len(sent)+22) {
		t.Errorf("the hook was told of %+v", end)
	}
}

// A browser that does not read holds the display back instead of filling the server's memory.
func TestStreamHoldsTheDisplayBack(t *testing.T) {
	written := make(chan int, 1<<20)
	w := newWorld(t, agentFunc(func(display net.Conn) {
		chunk := make([]byte, 64<<10)
		for {
			n, err := display.Write(chunk)
			if err != nil {
				return
			}
			written <- n
		}
	}), nil)
	ws := w.openStream()
	total, quiet := 0, time.NewTimer(patience)
	for waiting := true; waiting; {
		select {
		case n := <-written:
			total += n
			quiet.Reset(500 * time.Millisecond) // the sockets are full when nothing moves for so long
		case <-quiet.C:
			waiting = false
		}
	}
	if total == 0 || total > 32<<20 {
		t.Errorf("the display could write %d bytes that nobody read", total)
	}
	readAll(t, ws, total+1) // reading sets it going again
}

func TestStreamEndsWhenTheDisplayDoes(t *testing.T) {
	w := newWorld(t, agentFunc(func(display net.Conn) { io.WriteString(display, "last words") }), nil)
	ws := w.openStream()
	if got := readAll(t, ws, 10); string(got) != "last words" {
		t.Errorf("got %q", got)
	}
	wantEnd(t, ws, endUnreachable)
}

func TestStreamEndsTheDisplayWhenTheBrowserIsLost(t *testing.T) {
	over := make(chan error, 1)
	w := newWorld(t, agentFunc(func(display net.Conn) {
		io.WriteString(display, "here")
		_, err := io.Copy(io.Discard, display)
		over <- err
	}), nil)
	ws := w.openStream()
	readAll(t, ws, 4) // a browser that is lost before has no display
	ws.CloseNow()
	<-over
	if end := <-w.closed; end.reason != "lost" {
		t.Errorf("the hook was told of %+v", end)
	}
}

func TestStreamToAnUnreachableMachine(t *testing.T) {
	w := newWorld(t, unreachable{}, nil)
	wantEnd(t, w.openStream(), endUnreachable)
}

func TestStreamRefused(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	for _, tt := range []struct {
		name   string
		change func(http.Header)
		status int
	}{
		{"no session", func(h http.Header) { h.Del("Cookie") }, http.StatusUnauthorized},
		{"no origin", func(h http.Header) { h.Del("Origin") }, http.StatusForbidden},
		{"another site", func(h http.Header) { h.Set("Origin", "https://evil.example") }, http.StatusForbidden},
		{"a sandbox", func(h http.Header) { h.Set("Origin", "null") }, http.StatusForbidden},
		{"another port", func(h http.Header) { h.Set("Origin", "http://127.0.0.1:1") }, http.StatusForbidden},
	} {
		ws, resp, err := w.dialStream(w.signedIn(), tt.change)
		if err == nil {
			ws.CloseNow()
			t.Errorf("%s: the stream was opened", tt.name)
		} else if resp == nil || resp.StatusCode != tt.status {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestStreamEndsWithTheBuildersRunning(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*world)
		want   *streamEnd
	}{
		{"stopped", func(w *world) { w.setState(appstream.BuilderStopping) }, endStopped},
		{"image", func(w *world) { w.setState(appstream.BuilderSnapshotting) }, endImaging},
		{"rebooted", func(w *world) { w.setState(appstream.BuilderRebooting) }, endStarting},
		{"failed", func(w *world) { w.setState(appstream.BuilderFailed) }, endFailed},
		{"deleted", func(w *world) { w.setState(appstream.BuilderDeleting) }, endDeleted},
		{"gone", func(w *world) { w.store.remove(testID) }, endDeleted},
		{"stopped while changes were missed", func(w *world) {
			w.store.mu.Lock()
			b := w.store.builders[testID]
			w.store.mu.Unlock()
			b.State = appstream.BuilderStopped
			w.store.put(&b, &store.Change{Lagged: true})
		}, endStopped},
		{"endpoints", func(w *world) {
			w.put(func(b *appstream.ImageBuilder) {
				b.View.AccessEndpoints = []types.AccessEndpoint{{VpceId: new("vpce-1")}}
			})
		}, endAddress},
		{"server", func(w *world) { go w.gate.Close(context.Background()) }, endRestart},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, agentFunc(echo), nil)
			ws := w.openStream()
			if err := ws.Write(t.Context(), websocket.MessageBinary, []byte("x")); err != nil {
				t.Fatal(err)
			}
			readAll(t, ws, 1)
			// A change of something else does nothing.
			w.store.put(&appstream.ImageBuilder{Meta: appstream.Meta{ID: "ib-2", State: appstream.BuilderFailed}}, nil)
			tt.change(w)
			wantEnd(t, ws, tt.want)
			if end := <-w.closed; end.reason != tt.want.reason {
				t.Errorf("the hook was told of %+v", end)
			}
		})
	}
}

func TestStreamOfABuilderThatIsNotRunning(t *testing.T) {
	for state, want := range map[string]*streamEnd{
		appstream.BuilderPending: endStarting, appstream.BuilderStopped: endStopped, appstream.BuilderFailed: endFailed,
	} {
		w := newWorld(t, agentFunc(echo), nil)
		w.setState(state)
		wantEnd(t, w.openStream(), want)
	}
	wantEnd(t, newWorld(t, nil, nil).openStream(), endSimulated)
}

func TestTooManyStreams(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	for range maxStreams { // each is known to be under way before the next comes
		ws := w.openStream()
		if err := ws.Write(t.Context(), websocket.MessageBinary, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ws.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wantEnd(t, w.openStream(), endCrowded)
}

func TestStreamWithoutTheSubprotocol(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	client := w.signedIn()
	ws, _, err := websocket.Dial(t.Context(), w.server.URL+"/stream/"+testID+"/ws", &websocket.DialOptions{
		HTTPHeader: http.Header{"Cookie": {w.cookies(client)}, "Origin": {w.server.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	wantEnd(t, ws, &streamEnd{websocket.StatusProtocolError, "subprotocol"})
}

// bubble serves the gateway to one viewer over a pipe, so that time can be made to pass. read is called for what the viewer gets.
func bubble(t *testing.T, w *Gateway, id, cookie string, read func(net.Conn)) (server chan struct{}) {
	browser, gate := net.Pipe()
	server = make(chan struct{})
	s := &http.Server{Handler: w}
	l := &oneConn{conn: gate, done: make(chan struct{})}
	go func() {
		s.Serve(l)
		close(server)
	}()
	t.Cleanup(func() {
		browser.Close()
		close(l.done)
		<-server
	})
	io.WriteString(browser, "GET /stream/"+id+"/ws HTTP/1.1\r\nHost: x\r\nOrigin: http://x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: binary\r\nCookie: "+cookie+"\r\n\r\n")
	read(browser)
	return server
}

type oneConn struct {
	conn net.Conn
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{} }

// A viewer that says nothing more, without closing, is given up within 30 seconds; a session ends with its time.
func TestStreamEndsInTime(t *testing.T) {
	for _, tt := range []struct {
		name     string
		reads    bool // the viewer takes what comes, and answers pings
		validity time.Duration
		at       time.Duration // when it must be over
		reason   string
	}{
		{"dead viewer", false, time.Hour, 30 * time.Second, "lost"},
		{"session over", true, 10 * time.Minute, 10*time.Minute + 20*time.Second, "expired"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan string, 1)
				over := make(chan struct{})
				signer := newWorldSigner(t)
				memory := newMemory()
				memory.builders[testID] = appstream.ImageBuilder{Meta: appstream.Meta{ID: testID, State: appstream.BuilderRunning}}
				g, err := New(Config{Store: memory, Signer: signer, Dialer: agentFunc(echo),
					CreateImage: func(context.Context, NewImage) error { return nil },
					Hooks:       Hooks{StreamClosed: func(reason string, _ time.Duration, _, _ int64) { ended <- reason }}})
				if err != nil {
					t.Fatal(err)
				}
				c := (&world{}).claims()
				c.Expires = time.Now().Add(tt.validity)
				session, err := signer.Session(c)
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				bubble(t, g, testID, "oriel-"+testID+"="+session, func(browser net.Conn) {
					head := make([]byte, 4096)
					if n, err := browser.Read(head); err != nil || !strings.Contains(string(head[:n]), "101 Switching") {
						t.Fatalf("the handshake was answered with %q, %v", head[:n], err)
					}
					go func() {
						defer close(over)
						if tt.reads {
							answerPings(browser)
						}
					}()
				})
				if reason := <-ended; reason != tt.reason {
					t.Errorf("the stream ended with %q, want %q", reason, tt.reason)
				}
				if lasted := time.Since(start); lasted > tt.at || tt.reads && lasted < tt.validity {
					t.Errorf("the stream ended after %s", lasted)
				}
				<-over
			})
		})
	}
}

// answerPings is the least a WebSocket client does: small control frames come, masked pongs and the close go back.
func answerPings(c net.Conn) {
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		payload := make([]byte, head[1]&0x7f)
		if _, err := io.ReadFull(c, payload); err != nil {
			return
		}
		answer := byte(0x8a) // pong
		if head[0]&0xf == 8 {
			answer = 0x88
		}
		c.Write(append([]byte{answer, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...))
		if answer == 0x88 {
			return
		}
	}
}

// BenchmarkStream is the way of a frame from the agent's connection to a viewer, over loopback: 64 KiB an operation.
func BenchmarkStream(b *testing.B) {
	chunk := make([]byte, 64<<10)
	signer, err := ticket.NewSigner(make([]byte, ticket.KeySize))
	if err != nil {
		b.Fatal(err)
	}
	records := newMemory()
	records.builders[testID] = appstream.ImageBuilder{Meta: appstream.Meta{ID: testID, State: appstream.BuilderRunning}}
	g, err := New(Config{Store: records, Signer: signer, CreateImage: func(context.Context, NewImage) error { return nil },
		Log: slog.New(slog.DiscardHandler), Dialer: agentFunc(func(display net.Conn) {
			for {
				if _, err := display.Write(chunk); err != nil {
					return
				}
			}
		})})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(g)
	defer server.Close()
	defer g.Close(context.Background())
	c := (&world{}).claims()
	session, err := signer.Session(c)
	if err != nil {
		b.Fatal(err)
	}
	ws, _, err := websocket.Dial(b.Context(), server.URL+"/stream/"+testID+"/ws", &websocket.DialOptions{Subprotocols: []string{"binary"},
		HTTPHeader: http.Header{"Cookie": {"oriel-" + testID + "=" + session}, "Origin": {server.URL}}})
	if err != nil {
		b.Fatal(err)
	}
	defer ws.CloseNow()
	ws.SetReadLimit(1 << 20)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	buffer := make([]byte, len(chunk))
	for left := 0; b.Loop(); left += len(chunk) {
		for left > 0 {
			_, r, err := ws.Reader(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			for err == nil {
				var n int
				n, err = r.Read(buffer)
				left -= n
			}
		}
	}
}
