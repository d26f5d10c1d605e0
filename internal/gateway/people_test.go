package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/coder/websocket"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/ticket"
)

const (
	testSession = "s-1"
	testFleet   = "fleet-1"
)

// people keeps sessions as the service does.
type people struct {
	store *memory

	mu        sync.Mutex
	err       error // of OpenSession and EndSession
	places    int   // how many sessions can be opened; 0: any number
	existing  bool
	opened    []ticket.Claims
	callers   []string // who opened and ended sessions, and from where
	locales   []string
	notes     []string // what was noted of connections
	noteErr   error
	sources   []netip.Addr // of connections
	launches  []string
	launchErr error
}

func (p *people) OpenSession(ctx context.Context, c ticket.Claims, locale string) (s appstream.Session, existing bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opened, p.locales = append(p.opened, c), append(p.locales, locale)
	p.called(ctx, "open")
	if p.err != nil {
		return s, false, p.err
	}
	if p.places > 0 && len(p.opened) > p.places {
		return s, false, appstream.Errorf(appstream.InsufficientCapacity, "All places are taken.")
	}
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	return p.store.sessions[testSession], p.existing, nil
}

func (p *people) called(ctx context.Context, what string) {
	c := appstream.CallerFrom(ctx)
	p.callers = append(p.callers, fmt.Sprint(what, " ", c.Principal, " ", c.Source))
}

func (p *people) note(what, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.noteErr != nil {
		what += " failed"
	}
	p.notes = append(p.notes, what+" "+id)
	return p.noteErr
}

func (p *people) SessionConnected(_ context.Context, id string, source netip.Addr) error {
	p.mu.Lock()
	if p.noteErr == nil {
		p.sources = append(p.sources, source)
	}
	p.mu.Unlock()
	return p.note("connected", id)
}

func (p *people) ApplicationLaunched(_ context.Context, id, application string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.launches = append(p.launches, id+" "+application)
	return p.launchErr
}
func (p *people) SessionDisconnected(_ context.Context, id string) error {
	return p.note("disconnected", id)
}

func (p *people) EndSession(ctx context.Context, id string) error {
	p.mu.Lock()
	err := p.err
	p.called(ctx, "end")
	p.mu.Unlock()
	if err == nil {
		p.store.put(ended(p.store, appstream.EndByUser), nil)
	}
	return err
}

func (p *people) launched() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.launches)
}

func (p *people) noted() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.notes)
}

// ended gives the session after its end.
func ended(m *memory, code appstream.EndCode) *appstream.Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sessions[testSession]
	s.State, s.EndCode = appstream.SessionExpired, code
	return &s
}

// allowed is what a stack allows that does not say otherwise.
var allowed = appstream.Rules{CopyIn: true, CopyOut: true, Upload: true, Download: true, Print: true, TimeZone: true}

func aSession() appstream.Session {
	return appstream.Session{
		Meta: appstream.Meta{Key: appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounSession, Name: "studio/x/" + testSession},
			ID: testSession, State: appstream.SessionActive},
		Fleet: "studio", FleetID: testFleet, Stack: "Design", Title: "The design studio", UserID: "grace@example.com", InstanceID: "i-1", View: types.StreamViewDesktop,
		Rules: allowed, AwayTimeout: 15 * time.Minute, MaxEnd: time.Now().Add(8 * time.Hour)}
}

// newStudio is a world with the ACTIVE session testSession on the fleet "studio" by the stack "Design". change may alter it.
func newStudio(t *testing.T, dial compute.Dialer, change func(*appstream.Session)) *world {
	t.Helper()
	return serveStudio(t, httptest.NewServer, dial, change)
}

func serveStudio(t *testing.T, serve func(http.Handler) *httptest.Server, dial compute.Dialer, change func(*appstream.Session)) *world {
	t.Helper()
	w := serveWorld(t, serve, dial, func(c *Config) { c.Icons = iconStore{"paint.png": "\x89PNG\r\n\x1a\n"} })
	w.store.put(&appstream.Fleet{Meta: appstream.Meta{Key: appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounFleet, Name: "studio"},
		ID: testFleet, State: appstream.FleetRunning}, ImageID: "img-1"}, nil)
	w.store.put(&appstream.Image{Meta: appstream.Meta{Key: appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounImage, Name: "paint"}, ID: "img-1"},
		View:  types.Image{Applications: []types.Application{{Name: new("paint"), DisplayName: new("Paint")}, {Name: new("xterm")}}},
		Icons: map[string]string{"paint": "paint.png"}}, nil)
	w.store.put(&appstream.Stack{Meta: appstream.Meta{Key: appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounStack, Name: "Design"}, ID: "st-1"}}, nil)
	w.seat(change)
	return w
}

// seat writes the session after change.
func (w *world) seat(change func(*appstream.Session)) {
	w.store.mu.Lock()
	s, ok := w.store.sessions[testSession]
	w.store.mu.Unlock()
	if !ok {
		s = aSession()
	}
	if change != nil {
		change(&s)
	}
	w.store.put(&s, nil)
}

func personClaims() ticket.Claims {
	return ticket.Claims{Type: ticket.TypeEndUser, Account: testAccount, Region: testRegion, RecordID: testFleet, UserID: "grace@example.com",
		Fleet: "studio", Stack: "Design", Context: "for your eyes only", Expires: time.Now().Add(time.Minute)}
}

// seated gives a client with the cookie of testSession.
func (w *world) seated() *http.Client {
	w.t.Helper()
	client := w.browser()
	if status, header, body := w.get(client, w.url(personClaims())); status != http.StatusSeeOther || header.Get("Location") != "/stream/"+testSession {
		w.t.Fatalf("the streaming URL was answered with %d to %q:\n%s", status, header.Get("Location"), body)
	}
	return client
}

// show opens the WebSocket of testSession as a viewer does.
func (w *world) show(query string) *websocket.Conn {
	w.t.Helper()
	return w.socket(w.seated(), "/ws"+query, "binary")
}

func (w *world) socket(client *http.Client, path, protocol string) *websocket.Conn {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, w.server.URL+"/stream/"+testSession+path, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: &http.Transport{}}, Subprotocols: []string{protocol},
		HTTPHeader: http.Header{"Cookie": {w.cookiesFor(client, testSession)}, "Origin": {w.server.URL}}})
	if err != nil {
		w.t.Fatal(err)
	}
	ws.SetReadLimit(1 << 20)
	w.t.Cleanup(func() { ws.CloseNow() })
	return ws
}

// The beginnings of a stream of RFB: what the display says, and the viewer.
var (
	displayHello = slices.Concat([]byte("RFB 003.008\n\x01\x01\x00\x00\x00\x00\x03\x20\x02\x58"),
		[]byte{32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0}, []byte("\x00\x00\x00\x04desk"))
	viewerHello = []byte("RFB 003.008\n\x01\x01")
)

// screen is a display whose messages are those that come from say; what it is told goes to heard.
func screen(say <-chan []byte, heard chan<- []byte) func(net.Conn) {
	return func(display net.Conn) {
		go func() {
			for {
				buffer := make([]byte, 4096)
				n, err := display.Read(buffer)
				if n > 0 {
					heard <- buffer[:n]
				}
				if err != nil {
					return
				}
			}
		}()
		if _, err := display.Write(displayHello); err != nil {
			return
		}
		for message := range say {
			if _, err := display.Write(message); err != nil {
				return
			}
		}
	}
}

// machine is what an instance's agent answers about its session, and a display that says only its beginning.
type machine struct {
	mu    sync.Mutex
	calls []string
	file  []byte        // what was written last
	sound chan []byte   // packets
	slow  chan struct{} // closed: news are there
	down  bool          // it does not answer
	heard chan []byte   // by the display
	say   chan []byte   // by the display
}

func newMachine() *machine {
	return &machine{sound: make(chan []byte, 16), slow: make(chan struct{}), heard: make(chan []byte, 1024), say: make(chan []byte, 16)}
}

// Dial makes machine a compute.Dialer.
func (m *machine) Dial(ctx context.Context, id string) (net.Conn, error) {
	m.mu.Lock()
	down := m.down
	m.mu.Unlock()
	if down || id != "i-1" {
		return nil, fmt.Errorf("machine %s does not answer", id)
	}
	return agent{display: screen(m.say, m.heard), session: m}.Dial(ctx, id)
}

func (m *machine) called() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.calls)
}

func (m *machine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/sessions/"+testSession)
	body, _ := io.ReadAll(r.Body)
	m.mu.Lock()
	m.calls = append(m.calls, r.Method+" "+path+" "+string(body[:min(len(body), 80)]))
	if r.Method == "PUT" && strings.HasPrefix(path, "/files/") {
		m.file = body
	}
	m.mu.Unlock()
	say := func(text string) {
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		io.WriteString(w, text)
	}
	switch {
	case path == "/windows":
		if r.URL.Query().Get("after") != "" {
			<-m.slow
		}
		say(`{"version":"w1","windows":[{"id":7,"title":"` + strings.Repeat("t", 300) + `","active":true}]}`)
	case path == "/launch" && bytes.Contains(body, []byte("unknown")):
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"message":"There is no application unknown."}`)
	case path == "/launch" && bytes.Contains(body, []byte("early")):
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, `{"message":%q}`, agentapi.ErrDisplayDown)
	case r.Method == "GET" && path == "/folders/":
		say(`{"path":"/etc","files":[{"name":"a.txt","size":3},{"name":"../b"},{"name":"c/d"}],"free":9}`)
	case r.Method == "GET" && path == "/files/short":
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "not all")
	case r.Method == "GET" && strings.HasPrefix(path, "/files/"):
		say("<script>alert(1)</script>")
	case r.Method == "PUT" && path == "/files/full":
		w.WriteHeader(http.StatusInsufficientStorage)
		io.WriteString(w, `{"message":"The disk is full."}`)
	case r.Method == "DELETE" && path == "/files/gone":
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"message":%q}`, agentapi.ErrNoSession)
	case r.Method == "GET" && path == "/prints":
		say(`{"version":"p1","prints":[{"id":"one","title":"Größe \"1\"","size":4},{"id":"../x","title":"evil"}]}`)
	case r.Method == "GET" && path == "/prints/one":
		say("%PDF")
	case path == "/sound":
		w.WriteHeader(http.StatusOK)
		for packet := range m.sound {
			if _, err := w.Write(append([]byte{byte(len(packet) >> 8), byte(len(packet))}, packet...)); err != nil {
				return
			}
		}
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}
