// Package gateway is the browser's side of a stream. It takes the streaming URL that the API gave out, keeps a session in a
// cookie, serves the viewer, and relays the display of an image builder's machine over a WebSocket.
//
//	GET  /authenticate?parameters=…&signature=…  the streaming URL: checks the ticket, sets the cookie, 303 to the next
//	GET  /stream/{id}                            the viewer, or a page that says why there is nothing to see
//	GET  /stream/{id}/info[?after=V][&image=N]   what is known about the builder, as JSON; with after, when it differs from V
//	GET  /stream/{id}/applications               the catalogue that an image of the builder would have
//	GET  /stream/{id}/ws                         the display: RFB in binary messages (stream.go)
//	POST /stream/{id}/image                      makes an image of the builder
//	POST /stream/{id}/disconnect                 ends the session
//	GET  /icons/{name}                           icons of applications
//	GET  /assets/{file}                          the built viewer (internal/web)
//
// {id} is the ID of the builder's record. A session belongs to one record, so any number of builders can be open in the tabs
// of one browser. Nothing about sessions is kept on the server; they survive its restart.
//
// Tickets, cookies and addresses with a query are secrets and are never logged.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"sync"
	"time"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/proxy"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/ticket"
	"github.com/oriel-project/oriel/internal/web"
)

// Config is what a Gateway is made of. Store, Signer and CreateImage are required.
type Config struct {
	Store  store.Store
	Signer *ticket.Signer
	// Dialer reaches the agents; nil for a provider whose machines have no display.
	Dialer compute.Dialer
	// CreateImage makes an image of a running builder. Its context carries the appstream.Caller: the account and region of the
	// builder, the principal ImageBuilder-ARN/admin and the browser's address. The message of an *appstream.Error is shown
	// in the form; any other error is logged and shown as an internal one.
	CreateImage func(context.Context, NewImage) error

	// Sessions keeps the sessions of people on fleets; *service.Service is it. Nil: tickets of type END_USER are refused.
	Sessions Sessions

	// Endpoints gives the networks behind each streaming VPC endpoint. A builder that names endpoints (AccessEndpoints) can be
	// reached from these only; an endpoint that is not listed admits nobody.
	Endpoints map[string][]netip.Prefix
	// TrustedProxies are the reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
	TrustedProxies proxy.Trusted
	// Icons holds the PNG icons of applications (internal/blob); nil when there are none. Get's error for an unknown name is
	// blob.ErrNotFound.
	Icons interface {
		Get(name string) ([]byte, error)
	}

	Log   *slog.Logger // nil: slog.Default
	Hooks Hooks
}

// Sessions is what the gateway asks of whoever keeps people's sessions.
type Sessions interface {
	// OpenSession gives a person the session that he has on the fleet, or a new one. Its errors of type *appstream.Error have texts for
	// the person; their kind InsufficientCapacity means that another try may succeed.
	OpenSession(ctx context.Context, c ticket.Claims, locale string) (session appstream.Session, existing bool, err error)
	// SessionConnected and SessionDisconnected note whether a browser shows a session.
	SessionConnected(ctx context.Context, id string) error
	SessionDisconnected(ctx context.Context, id string) error
	// EndSession ends a session at its person's wish.
	EndSession(ctx context.Context, id string) error
}

// Hooks are told what happens, for metrics. They must return quickly and may be nil.
type Hooks struct {
	StreamOpened func()
	// StreamClosed gets the reason of the end, how long the stream lasted, and the bytes sent to and received from the browser.
	StreamClosed func(reason string, lasted time.Duration, sent, received int64)
	// Refused gets why a ticket, a session or an address was not accepted: invalid, expired, address, origin, limit.
	Refused func(reason string)
}

// NewImage is what the viewer's form asks for. It has been checked against the limits of the API.
type NewImage struct {
	Builder   string // the image builder's name
	BuilderID string // the ID of its record: an image of a later builder of the same name is not meant

	Name, DisplayName, Description string
	UseLatestAgentVersion          bool
}

// Gateway is the http.Handler. Close ends its streams, which http.Server.Shutdown does not do.
type Gateway struct {
	Config
	mux     *http.ServeMux
	pages   *pages
	refused *limiter
	origins *http.CrossOriginProtection

	streams   sync.WaitGroup
	mu        sync.Mutex
	open      map[string]int // streams by record ID
	closed    context.Context
	closeWith context.CancelCauseFunc
}

// New makes a Gateway.
func New(c Config) (*Gateway, error) {
	if c.Store == nil || c.Signer == nil || c.CreateImage == nil {
		return nil, errors.New("gateway: Store, Signer and CreateImage are required")
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Hooks.StreamOpened == nil {
		c.Hooks.StreamOpened = func() {}
	}
	if c.Hooks.StreamClosed == nil {
		c.Hooks.StreamClosed = func(string, time.Duration, int64, int64) {}
	}
	if c.Hooks.Refused == nil {
		c.Hooks.Refused = func(string) {}
	}
	g := &Gateway{Config: c, mux: http.NewServeMux(), pages: newPages(), refused: newLimiter(),
		origins: http.NewCrossOriginProtection(), open: make(map[string]int)}
	g.closed, g.closeWith = context.WithCancelCause(context.Background())

	g.mux.HandleFunc("GET /authenticate", g.authenticate)
	g.mux.HandleFunc("GET /stream/{id}", g.withBuilder(g.view))
	g.mux.HandleFunc("GET /stream/{id}/info", g.withBuilder(g.info))
	g.mux.HandleFunc("GET /stream/{id}/applications", g.withBuilder(g.applications))
	g.mux.HandleFunc("GET /stream/{id}/ws", g.withBuilder(g.stream))
	g.mux.HandleFunc("POST /stream/{id}/image", g.withBuilder(g.createImage))
	g.mux.HandleFunc("POST /stream/{id}/disconnect", g.disconnect)
	g.mux.HandleFunc("GET /icons/{name}", g.icon)
	g.mux.Handle("GET /assets/", web.Handler())
	g.mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { g.refuse(w, r, noticeUnknown) })
	return g, nil
}

// ServeHTTP answers a request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store") // what may be cached says so itself
	g.mux.ServeHTTP(w, r)
}

// Everything comes from this server. data: images are the frames and cursors that noVNC decodes.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Close ends all streams, tells their viewers that the server restarts, and waits for them or for ctx.
func (g *Gateway) Close(ctx context.Context) error {
	g.mu.Lock()
	g.closeWith(endRestart)
	g.mu.Unlock()
	done := make(chan struct{})
	go func() {
		g.streams.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A visit is a request that has shown a session for a builder that is there and may be reached from where it comes.
type visit struct {
	claims  ticket.Claims
	builder appstream.ImageBuilder
	source  netip.Addr
}

var recordID = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// withBuilder lets h have only requests with a session, from an allowed address, for a builder that exists.
func (g *Gateway) withBuilder(h func(http.ResponseWriter, *http.Request, visit)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := visit{source: g.TrustedProxies.Source(r)}
		id := r.PathValue("id")
		if !recordID.MatchString(id) {
			g.refuse(w, r, noticeUnknown)
			return
		}
		var err error
		if v.claims, err = g.session(r, id); err != nil {
			if errors.Is(err, ticket.ErrExpired) {
				g.Hooks.Refused("expired")
				g.refuse(w, r, noticeSessionOver)
			} else {
				g.Hooks.Refused("invalid")
				g.refuse(w, r, noticeNoSession)
			}
			return
		}
		switch v.builder, err = g.find(r.Context(), id); {
		case errors.Is(err, store.ErrNotFound):
			g.refuse(w, r, noticeDeleted)
		case err != nil:
			g.fault(w, r, "read the image builder", err)
		case !g.admits(&v.builder, v.source):
			g.Hooks.Refused("address")
			g.refuse(w, r, noticeAddress)
		default:
			h(w, r, v)
		}
	}
}

func (g *Gateway) find(ctx context.Context, id string) (b appstream.ImageBuilder, err error) {
	err = g.Store.View(ctx, func(tx store.Tx) error { return tx.Find(id, &b) })
	return b, err
}

// agent gives a client for the agent of a machine. The caller closes it.
func (g *Gateway) agent(id string) *agentapi.Client {
	return agentapi.NewClient(dialer(g.Dialer, id))
}

// fault answers an error that is ours.
func (g *Gateway) fault(w http.ResponseWriter, r *http.Request, what string, err error) {
	if r.Context().Err() != nil {
		return // the browser has gone
	}
	g.Log.ErrorContext(r.Context(), "gateway: "+what, "err", err)
	g.refuse(w, r, noticeFault)
}
