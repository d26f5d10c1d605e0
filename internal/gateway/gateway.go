// Package gateway is the browser's side of a stream. It takes the streaming URL that the API gave out, admits the browser with a
// cookie, serves the viewer, and relays the display of a machine over a WebSocket. What is visited (visit.go) is an image builder
// or a person's session on a fleet. For both:
//
//	GET  /authenticate?parameters=…&signature=…  the streaming URL: checks the ticket, sets the cookie, 303 to the next
//	GET  /stream/{id}                            the viewer, or a page that says why there is nothing to see; with lang=de, in German from now on
//	GET  /stream/{id}/info[?after=V]             what is known, as JSON; with after, when it differs from V
//	GET  /stream/{id}/ws[?tz=Europe/Berlin]      the display: RFB in binary messages (stream.go)
//	GET  /icons/{name}                           icons of applications, and pictures of themes
//	GET  /assets/{file}                          the built viewer (internal/web)
//
// For an image builder (builder.go, info.go):
//
//	GET  /stream/{id}/info[?after=V][&image=N]   tells of an image too
//	GET  /stream/{id}/applications               the catalogue that an image of the builder would have
//	POST /stream/{id}/image                      makes an image of the builder
//	POST /stream/{id}/disconnect                 takes the cookie away
//
// For an app block builder (appblockbuilder.go):
//
//	POST /stream/{id}/package                    makes the package of its app block
//	POST /stream/{id}/disconnect                 takes the cookie away
//
// For a session (session.go):
//
//	POST   /stream/{id}/end                      ends it
//	POST   /stream/{id}/launch                   starts an application of the catalogue
//	GET    /stream/{id}/windows[?after=V]        the windows that can be switched to
//	POST   /stream/{id}/windows/{window}         activates or closes one
//	GET    /stream/{id}/sound                    the sound (sessionsound.go)
//	GET    /stream/{id}/folders/{path...}        a folder of the session's files; PUT makes one
//	GET    /stream/{id}/files/{path...}          a file; PUT writes it, DELETE removes it or an empty folder
//	GET    /stream/{id}/prints[?after=V]         what was printed
//	GET    /stream/{id}/prints/{print}           a printed document; DELETE removes it
//
// What a session's stack does not allow is refused here, not in the page: files, printing, and texts of the clipboard, which a filter
// takes out of the stream (internal/rfb).
//
// {id} is the ID of the record. A cookie is good for one record, so any number can be open in the tabs of one browser.
// Nothing about cookies is kept on the server; they survive its restart.
//
// Tickets, cookies and addresses with a query are secrets and are never logged.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

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
	// CreatePackage makes the package of a running app block builder, in the same way. Nil: it cannot be made here.
	CreatePackage func(ctx context.Context, appBlockBuilder string) error

	// Sessions keeps the sessions of people on fleets; *service.Service is it. Nil: tickets of type END_USER are refused.
	Sessions Sessions

	// Endpoints gives the networks behind each streaming VPC endpoint. A builder that names endpoints (AccessEndpoints) can be
	// reached from these only; an endpoint that is not listed admits nobody.
	Endpoints map[string][]netip.Prefix
	// TrustedProxies are the reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
	TrustedProxies proxy.Trusted
	// Icons holds icons of applications and pictures of themes (internal/blob); nil when there are none. Get's error for an unknown name is
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
	// SessionConnected and SessionDisconnected note whether a browser shows a session, and where it is.
	SessionConnected(ctx context.Context, id string, source netip.Addr) error
	SessionDisconnected(ctx context.Context, id string) error
	// ApplicationLaunched notes that a person has launched an application of the catalogue.
	ApplicationLaunched(ctx context.Context, id, application string) error
	// EndSession ends a session at its person's wish.
	EndSession(ctx context.Context, id string) error
}

// Hooks are told what happens, for metrics. They must return quickly and may be nil.
type Hooks struct {
	StreamOpened func()
	// StreamClosed gets the reason of the end, how long the stream lasted, and the bytes sent to and received from the browser.
	StreamClosed func(reason string, lasted time.Duration, sent, received int64)
	// Refused gets why a ticket, a cookie or an address was not accepted: invalid, expired, address, origin, limit.
	Refused func(reason string)
	// NoCapacity gets the fleet on which a person found no place.
	NoCapacity func(fleet appstream.Key)
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
	pages   map[string]*pages // by language
	refused *limiter
	origins *http.CrossOriginProtection

	news     news
	presence presence

	streams   sync.WaitGroup
	mu        sync.Mutex
	open      map[string]int     // streams by record ID
	current   map[string]*stream // of sessions, each has one
	calls     map[string]int     // that sessions' agents are being asked, by record ID
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
	if c.CreatePackage == nil {
		c.CreatePackage = func(context.Context, string) error {
			return appstream.Errorf(appstream.OperationNotPermitted, "Packages cannot be made here.")
		}
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
	if c.Hooks.NoCapacity == nil {
		c.Hooks.NoCapacity = func(appstream.Key) {}
	}
	g := &Gateway{Config: c, mux: http.NewServeMux(), pages: newPages(), refused: newLimiter(),
		origins: http.NewCrossOriginProtection(), open: make(map[string]int), current: make(map[string]*stream), calls: make(map[string]int)}
	g.presence = presence{g: g, seen: make(map[string]*attendance)}
	g.closed, g.closeWith = context.WithCancelCause(context.Background())

	g.mux.HandleFunc("GET /authenticate", g.authenticate)
	g.mux.HandleFunc("GET /stream/{id}", g.inLanguage(g.visiting(g.view)))
	g.mux.HandleFunc("GET /stream/{id}/info", g.visiting(g.info))
	g.mux.HandleFunc("GET /stream/{id}/ws", g.visiting(g.stream))

	g.mux.HandleFunc("GET /stream/{id}/applications", g.onBuilder(g.applications))
	g.mux.HandleFunc("POST /stream/{id}/image", g.onBuilder(g.createImage))
	g.mux.HandleFunc("POST /stream/{id}/package", g.onAppBlockBuilder(g.createPackage))
	g.mux.HandleFunc("POST /stream/{id}/disconnect", g.disconnect)

	g.mux.HandleFunc("POST /stream/{id}/end", g.onSession(g.endSession))
	g.mux.HandleFunc("POST /stream/{id}/launch", g.calling(anybody, g.launch))
	g.mux.HandleFunc("GET /stream/{id}/windows", g.calling(anybody, g.windows))
	g.mux.HandleFunc("POST /stream/{id}/windows/{window}", g.calling(anybody, g.window))
	g.mux.HandleFunc("GET /stream/{id}/sound", g.onSession(g.sound))
	g.mux.HandleFunc("GET /stream/{id}/folders/{path...}", g.calling(files, g.onFolder(g.folder)))
	g.mux.HandleFunc("PUT /stream/{id}/folders/{path...}", g.calling(upload, g.onFolder(g.makeFolder)))
	g.mux.HandleFunc("GET /stream/{id}/files/{path...}", g.calling(download, g.onFile(g.getFile)))
	g.mux.HandleFunc("PUT /stream/{id}/files/{path...}", g.calling(upload, g.onFile(g.putFile)))
	g.mux.HandleFunc("DELETE /stream/{id}/files/{path...}", g.calling(upload, g.onFile(g.removeFile)))
	g.mux.HandleFunc("GET /stream/{id}/prints", g.calling(printing, g.prints))
	g.mux.HandleFunc("GET /stream/{id}/prints/{print}", g.calling(printing, g.onPrint(g.getPrint)))
	g.mux.HandleFunc("DELETE /stream/{id}/prints/{print}", g.calling(printing, g.onPrint(g.removePrint)))

	g.mux.HandleFunc("GET /icons/{name}", g.icon)
	g.mux.Handle("GET /assets/", web.Handler())
	g.mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { g.refuse(w, r, noticeUnknown) })
	return g, nil
}

// ServeHTTP answers a request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy+"'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store") // what may be cached says so itself
	g.mux.ServeHTTP(w, r)
}

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
