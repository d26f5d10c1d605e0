// Package server puts Oriel together. It is the only package that knows every other: it builds them from the configuration,
// connects them, and serves everything on one port.
//
//	POST / and /service/…                      the API (internal/api, internal/service)
//	/authenticate /stream/ /icons/ /assets/    streams (internal/gateway)
//	/portal                                    where users of the pool sign in (internal/portal)
//	/healthz /readyz /metrics                  for those who run it
//	GET /                                      a page that says what this is
//
// In the data directory, which nobody else may read, are oriel.db, credentials (the server's own access key), secrets.key (which opens the
// secrets in the database), blobs, objects, and what the provider keeps.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/oriel-project/oriel/internal/api"
	"github.com/oriel-project/oriel/internal/attend"
	"github.com/oriel-project/oriel/internal/blob"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/config"
	"github.com/oriel-project/oriel/internal/gateway"
	"github.com/oriel-project/oriel/internal/password"
	"github.com/oriel-project/oriel/internal/portal"
	"github.com/oriel-project/oriel/internal/reconcile"
	"github.com/oriel-project/oriel/internal/seal"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/store/sqlite"
	"github.com/oriel-project/oriel/internal/telemetry"
	"github.com/oriel-project/oriel/internal/theme"
)

// Config is what a server is made of.
type Config struct {
	config.Config              // checked: Config.Check has returned nil
	Version       string       // for the page, the metrics and clients
	Log           *slog.Logger // required
}

// Server is a server that has everything it needs open. Make it with Open.
type Server struct {
	cfg      Config
	log      *slog.Logger
	root     api.Key
	store    store.Store
	provider compute.Provider
	service  *service.Service
	gateway  *gateway.Gateway
	portal   *portal.Portal
	engine   *reconcile.Engine
	attend   *attend.Attendant // nil when machines have no agents
	metrics  *telemetry.Metrics
	ready    readiness
	cert     *certificate // nil without TLS

	archives archives
	blobs    *blob.Dir

	http, metricsHTTP         *http.Server
	unused                    unused        // connections of http
	listener, metricsListener net.Listener  // the second is nil when metrics are beside the API
	ending                    chan struct{} // closed when requests shall not wait for anything any more
	drain                     time.Duration // drainTime
	closers                   []func() error
}

// signInsAtOnce is how many passwords are checked at the same time. Each check takes 19 MiB of memory.
const signInsAtOnce = 4

// How long the start waits for the provider's public images, and a shutdown for requests and streams that are under way, and then for passes of the engine.
const (
	sweepTime = 10 * time.Second
	drainTime = 5 * time.Second
	stopTime  = 20 * time.Second
)

// Open opens the data directory, connects everything and takes the port, but does not serve yet. The error says what is in
// the way: another server on the same directory, a port that is taken, a missing file.
func Open(ctx context.Context, cfg Config) (s *Server, err error) {
	s = &Server{cfg: cfg, log: cfg.Log, ending: make(chan struct{}), drain: drainTime}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
			s = nil
		}
	}()
	if err := privateDir(cfg.Data); err != nil {
		return s, err
	}
	db, err := sqlite.Open(ctx, filepath.Join(cfg.Data, "oriel.db"))
	if err != nil {
		return s, err
	}
	s.store = db
	s.closers = append(s.closers, db.Close)
	if s.blobs, err = blob.Open(filepath.Join(cfg.Data, "blobs")); err != nil {
		return s, err
	}
	kept, err := openArchives(ctx, cfg.Config)
	if err != nil {
		return s, err
	}
	s.archives = kept
	secrets, err := seal.Ensure(filepath.Join(cfg.Data, "secrets.key"))
	if err != nil {
		return s, err
	}
	files, err := openObjects(ctx, cfg.Config)
	if err != nil {
		return s, err
	}
	s.closers = append(s.closers, files.Close)
	installation, signer, err := s.settings(ctx)
	if err != nil {
		return s, err
	}
	if err := s.openProvider(installation); err != nil {
		return s, err
	}
	s.metrics = telemetry.NewMetrics(cfg.Version, s.population)
	s.ready.checks = []check{{"store", s.checkStore}, {"provider " + cfg.Provider, s.checkProvider}}

	sizes, software := cfg.Sizes(), cfg.Catalogue()
	operations := service.Config{Store: s.store, Blobs: s.blobs, Objects: files, Secrets: secrets, Passwords: password.New(password.Advised, signInsAtOnce), Archives: kept, Tickets: signer, Sizes: sizes, Software: software, AgentVersions: s.provider.AgentVersions, Regions: cfg.Region,
		Quotas: service.Quotas(cfg.Quotas), Log: s.log}
	engine := reconcile.Config{Store: s.store, Provider: s.provider, Archives: kept, Objects: files, Sizes: sizes, Software: software, Regions: cfg.Region, Observe: s.metrics.Pass, Log: s.log,
		Retention: reconcile.Retention{Events: cfg.Retention.Events.Duration, Audit: cfg.Retention.Audit.Duration}}
	dialer, _ := s.provider.(compute.Dialer)
	if dialer != nil {
		agents := attend.Agents{Dialer: dialer}
		operations.Agents, engine.Agents = agents.Client, agents
		s.attend = &attend.Attendant{Store: s.store, Agents: agents, Log: s.log}
	}
	post, err := newPost(s.cfg.Config, s.log)
	if err != nil {
		return s, err
	}
	operations.Mail = post != nil
	svc := service.New(operations)
	if post != nil {
		post.Users = svc
		engine.Post = post
	}
	s.service = svc
	if err := svc.SealAnew(ctx); err != nil {
		return s, fmt.Errorf("seal the secrets with the newest key: %w", err)
	}
	s.metrics.Watch(s.fleetFigures, (&streamFigures{streams: func() []gateway.StreamStat { return s.gateway.Streams() }}).sessions)
	if dialer != nil {
		engine.Catalogue = svc.ReadCatalogue
	}
	s.engine = reconcile.New(engine)
	if s.attend != nil {
		s.attend.Builders = svc
	}
	if s.gateway, err = gateway.New(gateway.Config{
		Store: s.store, Signer: signer, Dialer: dialer, CreateImage: s.fromViewer(svc), CreatePackage: func(ctx context.Context, name string) error {
			_, err := svc.CreateAppBlockPackage(ctx, &service.CreateAppBlockPackageInput{AppBlockBuilderName: &name})
			return err
		}, Sessions: svc, Icons: s.blobs,
		Endpoints: s.endpoints(), TrustedProxies: cfg.TrustedProxies, Log: s.log,
		Hooks: gateway.Hooks{StreamOpened: s.metrics.StreamOpened, StreamClosed: s.metrics.StreamClosed, Refused: s.metrics.Refused,
			NoCapacity: s.metrics.NoCapacity},
	}); err != nil {
		return s, err
	}
	s.portal = portal.New(portal.Config{People: svc, Tickets: signer, Account: cfg.Account, Regions: cfg.Region, TrustedProxies: cfg.TrustedProxies, Mail: post != nil, Log: s.log,
		Theme: func(ctx context.Context, account, region, stack string) (theme.Theme, error) {
			return theme.Of(ctx, s.store, account, region, stack)
		}})
	wire, err := s.api(ctx, svc)
	if err != nil {
		return s, err
	}
	return s, s.listen(s.routes(wire))
}

// privateDir makes a directory that only its owner can enter, and refuses one that cannot be made so.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w; choose another with --data, or run the server as a user who may", err)
	}
	info, err := os.Stat(dir)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = os.Chmod(dir, 0o700)
	}
	if err != nil {
		return fmt.Errorf("keep others out of the data directory: %w", err)
	}
	return nil
}

// listen takes the ports.
func (s *Server) listen(routes http.Handler) (err error) {
	errorLog := slog.NewLogLogger(s.log.Handler(), slog.LevelDebug) // net/http's own remarks, about broken handshakes mostly
	newServer := func(h http.Handler) *http.Server {
		// The gateway's streams take their connection over and have no deadlines of these; its long poll extends its own.
		return &http.Server{Handler: h, ErrorLog: errorLog, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
			WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	}
	s.http = newServer(routes)
	s.http.ConnState = s.unused.follow
	if s.cfg.TLSCert != "" {
		if s.cert, err = loadCertificate(s.cfg.TLSCert, s.cfg.TLSKey, s.log); err != nil {
			return err
		}
		s.http.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.cert.get}
	}
	if s.listener, err = take(s.cfg.Listen, "listen"); err != nil {
		return err
	}
	if s.cfg.Metrics != "" {
		s.metricsHTTP = newServer(s.metrics.Handler())
		s.metricsListener, err = take(s.cfg.Metrics, "metrics")
	}
	return err
}

func take(address, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another program uses %s already: stop it, or choose another address with --%s", address, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("take the address %s: %w; choose another with --%s", address, err, flag)
	}
	return l, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// URL is an address of the API for programs on this machine.
func (s *Server) URL() string { return config.LocalURL(s.listener.Addr().String(), s.cert != nil) }

// Reload reads the certificate again.
func (s *Server) Reload() {
	if s.cert != nil {
		s.cert.reload()
	}
}

// Run serves until ctx ends, then ends what is under way within a bounded time. Machines go on; the next server on the same
// data directory takes them up. The error is nil after an orderly end.
func (s *Server) Run(ctx context.Context) error {
	// Streams of an earlier server are gone, and what it could not note of them is noted before the engine counts how long they are.
	if err := s.service.ForgetConnections(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var workers, servers sync.WaitGroup
	start := func(wg *sync.WaitGroup, name string, run func() error) {
		wg.Go(func() {
			if err := run(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, context.Canceled) {
				stop(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	start(&workers, "engine", func() error { return s.engine.Run(work) })
	if s.attend != nil {
		start(&workers, "attendant", func() error { return s.attend.Run(work) })
	}
	start(&workers, "blobs", func() error {
		s.sweepBlobs(work)
		return nil
	})
	if bucket, ok := s.archives.(*blob.Bucket); ok {
		start(&workers, "archives", func() error {
			if err := bucket.Clean(work); err != nil && work.Err() == nil {
				s.log.Warn("the bucket of the archives is not ready; exports and imports wait for it", "err", err)
			}
			return nil
		})
	}
	if p, ok := s.provider.(interface{ Prepare(context.Context) error }); ok {
		start(&workers, "provider", func() error {
			if err := p.Prepare(work); err != nil && work.Err() == nil {
				s.log.Warn("the provider is not ready; machines wait for it", "err", err)
			}
			return nil
		})
	}
	// Public images first, so that a client that waited for /readyz finds them. The engine repeats it, with its errors in the log.
	first, cancel := context.WithTimeout(ctx, sweepTime)
	_ = s.engine.Sweep(first)
	cancel()
	start(&servers, "serve "+s.cfg.Listen, func() error {
		if s.cert != nil {
			return s.http.ServeTLS(s.listener, "", "")
		}
		return s.http.Serve(s.listener)
	})
	if s.metricsHTTP != nil {
		start(&servers, "serve "+s.cfg.Metrics, func() error { return s.metricsHTTP.Serve(s.metricsListener) })
	}
	s.log.Info("serving", "url", s.URL(), "version", s.cfg.Version, "provider", s.cfg.Provider, "data", s.cfg.Data, "account", s.root.Account)

	select {
	case <-ctx.Done():
		s.log.Info("stopping; machines go on")
	case <-work.Done():
	}
	err := context.Cause(work)

	drain, drained := context.WithTimeout(context.WithoutCancel(ctx), s.drain)
	defer drained()
	close(s.ending)
	var draining sync.WaitGroup // streams hold requests open, so both at once
	draining.Go(func() { s.gateway.Close(drain) })
	draining.Go(func() {
		if s.unused.shutdown(drain, s.http) != nil {
			s.http.Close()
		}
		if s.metricsHTTP != nil {
			s.metricsHTTP.Close()
		}
	})
	draining.Wait()
	s.portal.Close()
	servers.Wait()

	stop(nil)
	if !waitFor(&workers, stopTime) {
		err = errors.Join(err, fmt.Errorf("the engine did not come to rest within %s; what it was at is done again at the next start", stopTime))
	}
	s.log.Info("stopped")
	return err
}

// waitFor tells whether wg was done in time.
func waitFor(wg *sync.WaitGroup, limit time.Duration) bool {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

// Close closes everything that Open has opened. Run must have returned, or never have been called.
func (s *Server) Close() error {
	var errs []error
	for _, l := range []net.Listener{s.listener, s.metricsListener} {
		if l != nil {
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}
