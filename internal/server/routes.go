package server

import (
	"context"
	_ "embed"
	"errors"
	"html/template"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/proxy"
	"github.com/oriel-project/oriel/internal/store"
)

// routes is everything that is served on the one port.
func (s *Server) routes(wire http.Handler) http.Handler {
	mux := http.NewServeMux()
	operations := s.behindProxy(wire)
	mux.Handle("POST /{$}", operations)
	mux.Handle("POST /service/", operations)
	streams := s.logged(s.gateway)
	for _, path := range []string{"/authenticate", "/stream/", "/icons/", "/assets/"} {
		mux.Handle(path, streams)
	}
	mux.Handle("/portal", s.logged(s.portal))
	mux.Handle("/portal/", s.logged(s.portal))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", s.ready.serve)
	if s.cfg.Metrics == "" {
		mux.Handle("GET /metrics", s.metrics.Handler())
	}
	mux.HandleFunc("/", s.landing)
	return mux
}

func writeText(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write([]byte(text))
}

//go:embed landing.html
var landingText string

var landingPage = template.Must(template.New("landing").Parse(landingText))

// landing says what this is, to someone who opens the address in a browser, and that there is no such page at every other path.
func (s *Server) landing(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.NotFound(w, r)
		return
	}
	url := s.cfg.PublicURL
	if url == "" {
		url = "http://" + r.Host
		if r.TLS != nil {
			url = "https://" + r.Host
		}
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	missing := r.URL.Path != "/"
	if missing {
		w.WriteHeader(http.StatusNotFound)
	}
	err := landingPage.Execute(w, struct {
		Missing              bool
		URL, Region, Version string
	}{missing, strings.TrimSuffix(url, "/"), s.cfg.Region[0], s.cfg.Version})
	if err != nil {
		s.log.Debug("landing page", "err", err) // the browser has gone
	}
}

// logged writes a line for each request. It has the path, which names records, and never the query, which may be a ticket.
func (s *Server) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, answer := time.Now(), &statusWriter{ResponseWriter: w}
		next.ServeHTTP(answer, r)
		log := s.log.Info
		if strings.HasPrefix(r.URL.Path, "/assets/") || strings.HasPrefix(r.URL.Path, "/icons/") {
			log = s.log.Debug
		}
		log("page", "method", r.Method, "path", r.URL.Path, "status", answer.status, "source", proxy.Trusted(s.cfg.TrustedProxies).Source(r), "took", time.Since(start))
	})
}

// statusWriter remembers the status. http.ResponseController and WebSockets find the real writer by Unwrap.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 || w.status < 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// secureKey is the key of a request's context under which behindProxy says whether the client speaks HTTPS.
type secureKey struct{}

// secure tells whether a client speaks HTTPS.
func secure(r *http.Request) bool {
	if s, ok := r.Context().Value(secureKey{}).(bool); ok {
		return s
	}
	return r.TLS != nil
}

// behindProxy tells the API the client's address, and whether it speaks HTTPS, when a trusted proxy stands between.
func (s *Server) behindProxy(next http.Handler) http.Handler {
	if len(s.cfg.TrustedProxies) == 0 {
		return next
	}
	trusted := proxy.Trusted(s.cfg.TrustedProxies)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		source, https := trusted.Source(r), trusted.Secure(r)
		r = r.WithContext(context.WithValue(r.Context(), secureKey{}, https)) // a copy
		r.RemoteAddr = netip.AddrPortFrom(source, 0).String()
		next.ServeHTTP(w, r)
	})
}

// readiness answers /readyz. It is asked often and by many, so that an answer is good for a second, and a check that hangs is
// not waited for long.
type readiness struct {
	checks []check

	mu   sync.Mutex
	at   time.Time
	ok   bool
	text string
}

type check struct {
	name string
	run  func(context.Context) error
}

const (
	readyFor  = time.Second     // how long an answer is good
	readyWait = 2 * time.Second // how long a check may take
)

func (c *readiness) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) > readyFor {
		c.ask(context.WithoutCancel(r.Context()))
	}
	status := http.StatusOK
	if !c.ok {
		status = http.StatusServiceUnavailable
	}
	writeText(w, status, c.text)
}

// ask runs the checks at the same time.
func (c *readiness) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	results := make([]error, len(c.checks))
	var wg sync.WaitGroup
	for i, check := range c.checks {
		wg.Go(func() { results[i] = check.run(ctx) })
	}
	wg.Wait()
	c.ok, c.text = true, ""
	for i, check := range c.checks {
		result := "ok"
		if results[i] != nil {
			c.ok, result = false, results[i].Error()
		}
		c.text += check.name + ": " + result + "\n"
	}
	c.at = time.Now()
}

func (s *Server) checkStore(ctx context.Context) error {
	return s.store.View(ctx, func(tx store.Tx) error {
		_, err := tx.Setting(settingInstallation)
		return err
	})
}

// checkProvider says no more than that there is no reaching it: the log and "oriel doctor" have the details, which are
// nothing for everyone.
func (s *Server) checkProvider(ctx context.Context) error {
	_, err := s.provider.List(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, compute.ErrUnavailable), ctx.Err() != nil:
		s.log.Warn("not ready", "err", err)
		return errors.New("it does not answer; oriel doctor says more")
	}
	s.log.Warn("not ready", "err", err)
	return errors.New("it has a fault; the log says more")
}
