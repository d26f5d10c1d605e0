package agent

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/oriel-project/oriel/internal/agent/scripts"
	"github.com/oriel-project/oriel/internal/agentapi"
)

// session is one person's use of the instance.
//
//	PUT    → a seat is taken → start scripts → the desktop → the application
//	DELETE → ctx is done → termination scripts → its processes are ended → onEnd
//	       → everything of the account is removed, and the account
type session struct {
	spec    agentapi.Session
	account account
	folder  string          // what the person sees of the home: MyFiles
	runtime string          // XDG_RUNTIME_DIR: mode 0700, the account's
	ctx     context.Context // is done as soon as the session ends
	log     *slog.Logger

	agent   *agent
	seat    *seat
	endCtx  context.CancelFunc
	begun   chan struct{} // closed when begin has returned
	windows windowWatch
	apps    launched

	watch
	env      []string // of its programs, without the display's
	things   *things  // nil until they are prepared
	failures []string
	scripts  scripts.Config
	ends     []func()

	clearing sync.Mutex // held while it is cleared
	ended    bool       // the termination scripts have run
	cleared  bool       // nothing is left
}

func (a *agent) newSession(spec agentapi.Session, s *seat) *session {
	ctx, cancel := context.WithCancel(context.Background())
	return &session{
		spec: spec, account: s.account, folder: filepath.Join(s.account.home, sessionFolder), runtime: s.display.runtime,
		ctx: ctx, log: a.log.With("session", spec.ID), agent: a, seat: s, endCtx: cancel, begun: make(chan struct{}),
		apps: launched{start: rand.Text()[:8] + "."},
	}
}

// onEnd has f called when the session has ended and none of its processes is
// left, before its files are removed.
func (s *session) onEnd(f func()) {
	s.read(func() { s.ends = append(s.ends, f) })
}

// fail notes what the person should know and what does not end the session.
func (s *session) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.log.Warn("session", "failure", text)
	s.change(func() {
		if len(s.failures) < maxFailures {
			s.failures = append(s.failures, text)
		}
	})
}

// maxFailures bounds the failures of a session that are kept.
const maxFailures = 16

// status is how the session is.
func (s *session) status() agentapi.SessionStatus {
	status := agentapi.SessionStatus{ID: s.spec.ID}
	s.seat.display.read(func() { status.Ready, status.Problem = s.seat.display.ready, s.seat.display.problem })
	s.read(func() { status.Scripts = slices.Clone(s.failures) })
	if s.ctx.Err() != nil {
		status.Ready, status.Problem = false, "the session is ending"
	}
	return status
}

// begin starts the session's programs.
func (s *session) begin() {
	defer close(s.begun)
	a := s.agent
	vars := userVars(s.spec)
	if a.config.MaxSessions == 1 {
		if err := writeVars(a.paths.userProfile, vars); err != nil {
			s.fail("The session's variables could not be written: %v", err)
		}
	}
	more, err := a.prepareSession(s)
	if err != nil {
		s.fail("The session could not be prepared: %v", err)
	}
	env := slices.Concat(desktopEnv(a.config, a.paths), imageEnv(a.paths.environment, s.account.home), environ(vars), s.seat.env(), s.zoneEnv(), a.languageEnv(s), more)
	config, err := scripts.Read(a.paths.scripts)
	if err != nil {
		s.fail("The session scripts were left out: %v", err)
	}
	s.change(func() { s.env, s.scripts = env, config })

	d := s.seat.display
	if !d.waitUntil(s.ctx, func() bool { return d.up }) {
		return
	}
	s.runScripts(s.ctx, agentapi.SessionStart, config.Start)
	if s.ctx.Err() != nil {
		return
	}
	argv := []string{a.paths.session}
	if s.spec.View == agentapi.ViewApp {
		argv = append(argv, "app")
	}
	d.show(desktop{argv: argv, env: env})
	if d.waitUntil(s.ctx, func() bool { return d.ready }) && s.spec.Application != "" {
		s.awaitManager()
		if err := s.launch(s.ctx, s.spec.Application); err != nil {
			s.fail("%v", err)
		}
	}
}

// programEnv is the environment of a program that is started now.
func (s *session) programEnv() (env []string) {
	s.read(func() { env = s.env })
	return slices.Concat(s.seat.display.env(), env)
}

// end ends the session and returns when nothing is left of it. It may be called
// again, also while another call has not returned.
func (s *session) end() error {
	s.endCtx()
	<-s.begun
	s.clearing.Lock()
	defer s.clearing.Unlock()
	if s.cleared {
		return nil
	}
	began := time.Now()
	if !s.ended {
		s.ended = true
		if s.programsStarted() {
			s.runScripts(context.Background(), agentapi.SessionTermination, s.scripts.Termination)
		}
	}
	if err := s.seat.endPrograms(s.agent); err != nil {
		return err
	}
	s.windows.close()
	var ends []func()
	s.read(func() { ends, s.ends = s.ends, nil })
	for _, f := range slices.Backward(ends) {
		f()
	}
	if s.agent.config.MaxSessions == 1 {
		if err := s.agent.resetInstance(); err != nil {
			return err
		}
	}
	if err := s.seat.remove(s.agent); err != nil {
		return err
	}
	s.cleared = true
	s.agent.pool.forget(s)
	s.log.Info("session ended", "took", time.Since(began))
	return nil
}

// programsStarted tells whether the session came as far as its desktop.
func (s *session) programsStarted() (yes bool) {
	d := s.seat.display
	d.read(func() { yes = d.desktop != nil })
	return yes
}
