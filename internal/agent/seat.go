package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// seat is a place for one person: an account that nobody has had before, and a
// display of its own. It is prepared before somebody comes.
type seat struct {
	account account
	dir     string // root's, which the account can enter
	tmp     string // TMPDIR
	display *display
	stop    context.CancelFunc
	stopped chan struct{} // the display does not start again
}

// newSeat makes a seat; its display comes up by itself.
func (a *agent) newSeat() (*seat, error) {
	person, err := a.accounts.add(a.config.MaxSessions > 1)
	if err != nil {
		return nil, err
	}
	number := strconv.Itoa(person.number)
	s := &seat{account: person, dir: filepath.Join(a.paths.private, "seats", number), stopped: make(chan struct{})}
	if err := s.makeDirs(a.paths); err != nil {
		return nil, errors.Join(err, s.remove(a))
	}
	s.display = newDisplay(a.procs, place{
		account: person,
		dir:     filepath.Join(s.dir, "display"),
		runtime: filepath.Join(filepath.Dir(a.paths.userRuntime), number),
		tmp:     a.paths.tmp, xvnc: a.paths.xvnc, size: a.displaySize(), private: true, shared: a.config.MaxSessions > 1,
	}, a.log.With("account", person.name))
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go func() {
		defer close(s.stopped)
		s.display.run(ctx)
	}()
	return s, nil
}

func (s *seat) makeDirs(p paths) error {
	if err := mkdir(s.dir, 0o750, os.Geteuid(), s.account.gid); err != nil {
		return err
	}
	var err error
	if s.tmp, err = os.MkdirTemp(p.tmp, "session-"); err != nil { // a name that nobody can foretell
		return err
	}
	return os.Chown(s.tmp, s.account.uid, s.account.gid)
}

// env is what programs on the seat need besides the display.
func (s *seat) env() []string { return []string{"TMPDIR=" + s.tmp} }

// endPrograms ends every process of the seat's account.
func (s *seat) endPrograms(a *agent) error {
	s.stop()
	if err := a.procs.endOwner(s.account, endGrace); err != nil {
		return err
	}
	<-s.stopped
	return a.procs.endOwner(s.account, endGrace) // what a display that was just starting has started
}

// remove removes everything of the account, and the account. Its programs have
// ended.
func (s *seat) remove(a *agent) error {
	dirs := []string{filepath.Join(a.paths.mail, s.account.name), filepath.Join(a.paths.cron, s.account.name)}
	if s.dir != "" {
		dirs = append(dirs, s.dir)
	}
	if s.tmp != "" {
		dirs = append(dirs, s.tmp)
	}
	if s.display != nil {
		dirs = append(dirs, s.display.runtime)
	}
	if err := a.remains.remove(s.account, dirs...); err != nil {
		return err
	}
	return a.accounts.remove(s.account)
}

// removeLeftOver removes the sessions of an earlier start of this instance.
func (a *agent) removeLeftOver() error {
	left, err := a.accounts.leftOver()
	for _, person := range left {
		s := &seat{account: person}
		err = errors.Join(err, s.remove(a))
	}
	return err
}

// pool has the sessions of a fleet's instance, and one seat more while there is
// room for it.
type pool struct {
	watch
	next     *seat
	sessions map[string]*session // until nothing is left of them
	ended    []string            // the last ones
	problem  string
}

// maxEnded is how many ended sessions are remembered.
const maxEnded = 256

// keepSeat has a seat prepared, until ctx ends.
func (a *agent) keepSeat(ctx context.Context) {
	p := &a.pool
	backOff := firstBackOff
	for p.waitUntil(ctx, func() bool { return p.next == nil && len(p.sessions) < a.config.MaxSessions }) {
		s, err := a.newSeat()
		if err == nil {
			p.change(func() { p.next, p.problem = s, "" })
			backOff = firstBackOff
			continue
		}
		a.log.Error("prepare a session", "error", err)
		p.change(func() { p.problem = "no session can begin: " + err.Error() })
		select {
		case <-time.After(backOff):
		case <-ctx.Done():
		}
		backOff = min(2*backOff, lastBackOff)
	}
}

var (
	errFull  = errors.New("the instance has as many sessions as it is for; end one, or use another instance")
	errEnded = errors.New("the session has ended on this instance; it cannot begin again")
)

// begin begins a session, or finds it begun.
func (a *agent) beginSession(ctx context.Context, spec agentapi.Session) error {
	p := &a.pool
	var (
		fresh *session
		err   error
	)
	ok := p.waitUntil(ctx, func() bool {
		switch s := p.sessions[spec.ID]; {
		case s != nil && s.ctx.Err() != nil, p.hasEnded(spec.ID):
			err = errEnded
		case s != nil:
		case len(p.sessions) >= a.config.MaxSessions:
			err = errFull
		case p.next != nil:
			fresh = a.newSession(spec, p.next)
			p.sessions[spec.ID], p.next = fresh, nil
		case p.problem != "":
			err = errors.New(p.problem)
		default:
			return false
		}
		return true
	})
	switch {
	case !ok:
		return ctx.Err()
	case fresh != nil:
		p.change(func() {}) // the next seat can be prepared
		go fresh.begin()
	}
	return err
}

// waitForSeat returns when a session can begin, or ctx ends.
func (p *pool) waitForSeat(ctx context.Context) {
	for ctx.Err() == nil {
		var next *seat
		if !p.waitUntil(ctx, func() bool { next = p.next; return next != nil }) {
			return
		}
		d := next.display
		if d.waitUntil(ctx, func() bool { return d.up }) {
			return
		}
	}
}

// fleetStatus is how a fleet's instance is.
func (a *agent) fleetStatus() agentapi.Status {
	s := agentapi.Status{Version: agentapi.Version, Role: a.config.Role, StartedAt: a.started}
	var displays []*display
	var next *display
	a.pool.read(func() {
		s.Problem = a.pool.problem
		for _, session := range a.pool.sessions {
			displays = append(displays, session.seat.display)
		}
		if a.pool.next != nil {
			next = a.pool.next.display
			displays = append(displays, next)
		}
	})
	for _, d := range displays {
		d.read(func() {
			s.DisplayRestarts += d.restarts
			if d.lastErr != "" {
				s.LastDisplayError = d.lastErr
			}
			if d != next {
				return // of one whose start scripts run, a session cannot begin
			}
			s.Problem = d.problem
			if s.Ready = d.up; d.up {
				s.ReadyAt = d.upAt
			}
		})
	}
	return s
}

func (p *pool) hasEnded(id string) bool {
	for _, e := range p.ended {
		if e == id {
			return true
		}
	}
	return false
}

// remember notes that a session has ended. The lock is held.
func (p *pool) remember(id string) {
	if !p.hasEnded(id) {
		p.ended = append(p.ended, id)
		p.ended = p.ended[max(0, len(p.ended)-maxEnded):]
	}
}

// ending gives the session that is to end. One that is not there cannot begin
// any more: its request may have been overtaken by this one.
func (p *pool) ending(id string) (s *session) {
	p.change(func() {
		if s = p.sessions[id]; s == nil && agentapi.IsID(id) {
			p.remember(id)
		}
	})
	return s
}

// forget takes out a session of which nothing is left.
func (p *pool) forget(s *session) {
	p.change(func() {
		delete(p.sessions, s.spec.ID)
		p.remember(s.spec.ID)
	})
}
