package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/ticket"
)

// A memory is as much of a store as the gateway uses.
type memory struct {
	store.Store
	mu       sync.Mutex
	builders map[string]appstream.ImageBuilder
	images   map[appstream.Key]appstream.Image
	packager *appstream.AppBlockBuilder // nil when there is none
	block    *appstream.AppBlock
	sessions map[string]appstream.Session
	fleets   map[string]appstream.Fleet
	instance *appstream.Instance // nil when there is none
	made     *appstream.Composition
	stacks   map[appstream.Key]appstream.Stack
	themes   map[appstream.Key]appstream.Theme
	watchers map[chan store.Change]bool
	broken   error // what View returns
}

func newMemory() *memory {
	return &memory{builders: map[string]appstream.ImageBuilder{}, images: map[appstream.Key]appstream.Image{}, watchers: map[chan store.Change]bool{},
		sessions: map[string]appstream.Session{}, fleets: map[string]appstream.Fleet{}, stacks: map[appstream.Key]appstream.Stack{}, themes: map[appstream.Key]appstream.Theme{}}
}

func (m *memory) View(ctx context.Context, fn func(store.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return m.broken
	}
	return fn(memoryTx{m: m})
}

func (m *memory) Watch(ctx context.Context) <-chan store.Change {
	in, out := make(chan store.Change, 64), make(chan store.Change)
	m.mu.Lock()
	m.watchers[in] = true
	m.mu.Unlock()
	go func() {
		defer close(out)
		defer func() {
			m.mu.Lock()
			delete(m.watchers, in)
			m.mu.Unlock()
		}()
		for {
			select {
			case c := <-in:
				select {
				case out <- c:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// put writes a record and publishes c, or the change itself when c is nil.
func (m *memory) put(rec appstream.Record, publish *store.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	head := rec.Head()
	head.Version++
	switch rec := rec.(type) {
	case *appstream.ImageBuilder:
		m.builders[rec.ID] = *rec
	case *appstream.AppBlockBuilder:
		m.packager = new(*rec)
	case *appstream.AppBlock:
		m.block = new(*rec)
	case *appstream.Image:
		m.images[rec.Key] = *rec
	case *appstream.Session:
		m.sessions[rec.ID] = *rec
	case *appstream.Fleet:
		m.fleets[rec.ID] = *rec
	case *appstream.Instance:
		m.instance = new(*rec)
	case *appstream.Composition:
		m.made = new(*rec)
	case *appstream.Stack:
		m.stacks[rec.Key] = *rec
	case *appstream.Theme:
		m.themes[rec.Key] = *rec
	}
	if publish == nil {
		publish = &store.Change{Key: head.Key, ID: head.ID, Version: head.Version, State: head.State}
	}
	for w := range m.watchers {
		w <- *publish
	}
}

func (m *memory) remove(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := m.builders[id].Key
	if session, ok := m.sessions[id]; ok {
		key = session.Key
	}
	delete(m.builders, id)
	delete(m.sessions, id)
	for w := range m.watchers {
		w <- store.Change{Key: key, ID: id, Removed: true}
	}
}

type memoryTx struct {
	store.Tx
	m *memory
}

func (t memoryTx) Find(id string, rec appstream.Record) error {
	ok := false
	switch rec := rec.(type) {
	case *heading:
		if b, found := t.m.builders[id]; found {
			*rec, ok = heading{b.Meta}, true
		} else if t.m.packager != nil && t.m.packager.ID == id {
			*rec, ok = heading{t.m.packager.Meta}, true
		}
	case *appstream.AppBlockBuilder:
		if t.m.packager != nil && t.m.packager.ID == id {
			*rec, ok = *t.m.packager, true
		}
	case *appstream.ImageBuilder:
		*rec, ok = t.m.builders[id]
	case *appstream.Session:
		*rec, ok = t.m.sessions[id]
	case *appstream.Fleet:
		*rec, ok = t.m.fleets[id]
	case *appstream.Instance:
		if t.m.instance != nil && t.m.instance.ID == id {
			*rec, ok = *t.m.instance, true
		}
	case *appstream.Composition:
		if t.m.made != nil && t.m.made.ID == id {
			*rec, ok = *t.m.made, true
		}
	case *appstream.Image:
		for _, i := range t.m.images {
			if i.ID == id {
				*rec, ok = i, true
			}
		}
	}
	if !ok {
		return store.ErrNotFound
	}
	return nil
}

func (t memoryTx) Get(key appstream.Key, rec appstream.Record) error {
	ok := false
	switch rec := rec.(type) {
	case *appstream.AppBlock:
		if t.m.block != nil && t.m.block.Key == key {
			*rec, ok = *t.m.block, true
		}
	case *appstream.Image:
		*rec, ok = t.m.images[key]
	case *appstream.Stack:
		*rec, ok = t.m.stacks[key]
	case *appstream.Theme:
		*rec, ok = t.m.themes[key]
	}
	if !ok {
		return store.ErrNotFound
	}
	return nil
}

// An agent is a Dialer to as much of an agent as the gateway uses: each display stream is given to display.
type agent struct {
	display      func(net.Conn)
	applications []agentapi.Application
	session      http.Handler // what is asked about sessions, but for their displays
}

// agentFunc is an agent with a display and an odd catalogue.
func agentFunc(display func(net.Conn)) agent {
	return agent{display: display, applications: []agentapi.Application{
		{Name: "mousepad", DisplayName: "Mousepad", IconPNG: pngMagic},
		{Name: "x", DisplayName: strings.Repeat("é", 200), IconPNG: []byte("<svg>")},
	}}
}

// Dial connects to the agent.
func (a agent) Dial(ctx context.Context, id string) (net.Conn, error) {
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		r := bufio.NewReader(there)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		switch path := req.URL.Path; {
		case path == "/v1/display", a.session != nil && strings.HasSuffix(path, "/display"):
			io.WriteString(there, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: rfb\r\n\r\n")
			a.display(&bufferedConn{Conn: there, r: r})
		case a.session != nil && strings.HasPrefix(path, "/v1/sessions/"):
			answer := &rawAnswer{to: there, header: http.Header{"Connection": {"close"}}}
			a.session.ServeHTTP(answer, req)
			answer.WriteHeader(http.StatusOK)
		case path == "/v1/applications":
			body, err := json.Marshal(map[string]any{"applications": a.applications})
			if err != nil {
				return
			}
			fmt.Fprintf(there, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		default:
			io.WriteString(there, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		}
	}()
	return here, nil
}

// rawAnswer writes an answer that ends with its connection.
type rawAnswer struct {
	to      io.Writer
	header  http.Header
	written bool
}

func (a *rawAnswer) Header() http.Header { return a.header }

func (a *rawAnswer) WriteHeader(status int) {
	if !a.written {
		a.written = true
		fmt.Fprintf(a.to, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
		a.header.Write(a.to)
		io.WriteString(a.to, "\r\n")
	}
}

func (a *rawAnswer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.to.Write(p)
}

type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// unreachable is a Dialer to machines that do not answer.
type unreachable struct{}

func (unreachable) Dial(context.Context, string) (net.Conn, error) {
	return nil, errors.New("connection refused")
}

// echo sends back what it gets.
func echo(display net.Conn) { io.Copy(display, display) }

const (
	testAccount = "123456789012"
	testRegion  = "us-west-2"
	testID      = "ib-1"
)

// A world is a gateway with all around it.
type world struct {
	t      *testing.T
	store  *memory
	signer *ticket.Signer
	gate   *Gateway
	server *httptest.Server
	log    *lockedBuffer

	mu      sync.Mutex
	made    []NewImage         // what CreateImage was asked for
	caller  appstream.Caller   // by whom
	makeErr error              // what it answers
	people  *people            // who keeps the sessions
	full    []appstream.Key    // fleets on which there was no place
	refused map[string]int     // how often the hook was told of what
	closed  chan streamSummary // what the hook was told at the end of streams
}

type streamSummary struct {
	reason         string
	sent, received int64
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// patience is how long a test waits for what must come. It is not a measure of anything: a busy machine may stand still for seconds.
const patience = time.Minute

// newWorld serves a gateway with the RUNNING builder "hello" (testID). change may alter its Config.
func newWorld(t *testing.T, dial compute.Dialer, change func(*Config)) *world {
	t.Helper()
	return serveWorld(t, httptest.NewServer, dial, change)
}

// inMemory serves without sockets, for tests in a bubble.
func inMemory(t *testing.T) func(http.Handler) *httptest.Server {
	return func(h http.Handler) *httptest.Server {
		s := httptest.NewTestServer(t, h)
		s.Client() // sets the URL
		return s
	}
}

func serveWorld(t *testing.T, serve func(http.Handler) *httptest.Server, dial compute.Dialer, change func(*Config)) *world {
	t.Helper()
	signer, err := ticket.NewSigner(bytes.Repeat([]byte{7}, ticket.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: newMemory(), signer: signer, log: &lockedBuffer{}, refused: map[string]int{}, closed: make(chan streamSummary, 64)}
	w.people = &people{store: w.store}
	config := Config{Store: w.store, Signer: signer, Dialer: dial, Sessions: w.people,
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		CreateImage: func(ctx context.Context, in NewImage) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.made, w.caller = append(w.made, in), appstream.CallerFrom(ctx)
			return w.makeErr
		},
		Hooks: Hooks{
			Refused: func(why string) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.refused[why]++
			},
			NoCapacity: func(fleet appstream.Key) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.full = append(w.full, fleet)
			},
			StreamClosed: func(reason string, _ time.Duration, sent, received int64) {
				w.closed <- streamSummary{reason, sent, received}
			},
		}}
	if change != nil {
		change(&config)
	}
	if w.gate, err = New(config); err != nil {
		t.Fatal(err)
	}
	w.server = serve(w.gate)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := w.gate.Close(ctx); err != nil {
			t.Errorf("close the gateway: %v", err)
		}
		w.server.Close()
		// Nothing secret is ever logged, whatever the test did.
		for _, secret := range []string{"parameters", "signature", "authenticate?", "oriel-ib", "oriel-s-", "for your eyes only"} {
			if strings.Contains(w.log.String(), secret) {
				t.Errorf("the log contains %q:\n%s", secret, w.log)
			}
		}
	})
	w.put(nil)
	return w
}

// put writes the builder "hello" after change.
func (w *world) put(change func(*appstream.ImageBuilder)) {
	w.store.mu.Lock()
	b, ok := w.store.builders[testID]
	w.store.mu.Unlock()
	if !ok {
		b = appstream.ImageBuilder{Meta: appstream.Meta{
			Key: appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounImageBuilder, Name: "hello"}, ID: testID, State: appstream.BuilderRunning}}
		b.View = types.ImageBuilder{ImageArn: new("arn:aws:appstream:us-west-2::image/oriel-debian-12"), InstanceType: new("stream.standard.medium"),
			Platform: "DEBIAN_12", AppstreamAgentVersion: new("11-21-2026"),
			NetworkAccessConfiguration: &types.NetworkAccessConfiguration{EniPrivateIpAddress: new("10.90.0.2")}}
	}
	if change != nil {
		change(&b)
	}
	w.store.put(&b, nil)
}

func (w *world) setState(state string) {
	w.put(func(b *appstream.ImageBuilder) { b.State = state })
}

func (w *world) claims() ticket.Claims {
	return ticket.Claims{Type: ticket.TypeAdmin, Account: testAccount, Region: testRegion, Builder: "hello", RecordID: testID,
		UserID: ticket.UserAdmin, Expires: time.Now().Add(time.Hour)}
}

// url gives a streaming URL.
func (w *world) url(c ticket.Claims) string {
	w.t.Helper()
	address, err := w.signer.URL(w.server.URL, c)
	if err != nil {
		w.t.Fatal(err)
	}
	return address
}

// browser gives a client with a cookie jar that does not follow redirects.
func (w *world) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return &http.Client{Jar: jar, Transport: w.server.Client().Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// signedIn gives a client with a session for "hello".
func (w *world) signedIn() *http.Client {
	w.t.Helper()
	client := w.browser()
	if status, _, _ := w.get(client, w.url(w.claims())); status != http.StatusSeeOther {
		w.t.Fatalf("the streaming URL was answered with %d", status)
	}
	return client
}

// get fetches an address; one that begins with / is on the server.
func (w *world) get(client *http.Client, address string) (int, http.Header, string) {
	w.t.Helper()
	req, err := http.NewRequest("GET", w.on(address), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.do(client, req)
}

func (w *world) on(address string) string {
	if strings.HasPrefix(address, "/") {
		return w.server.URL + address
	}
	return address
}

func (w *world) do(client *http.Client, req *http.Request) (int, http.Header, string) {
	w.t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

// cookies gives the header by which client shows that it may see "hello".
func (w *world) cookies(client *http.Client) string { return w.cookiesFor(client, testID) }

func (w *world) cookiesFor(client *http.Client, id string) string {
	u, err := url.Parse(w.server.URL + "/stream/" + id)
	if err != nil {
		w.t.Fatal(err)
	}
	var list []string
	for _, c := range client.Jar.Cookies(u) {
		list = append(list, c.Name+"="+c.Value)
	}
	return strings.Join(list, "; ")
}
