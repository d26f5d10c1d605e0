// Package agent is the program inside every instance, where it is process 1.
//
// It supervises displays (the X server Xvnc and the desktop's session), answers
// the server on a unix socket (package agentapi), does its jobs (job.go), and
// answers programs inside: sudo (package sudo), the Image Assistant (package
// assistant) and reboot (package control). It links nothing of the server.
//
// An image builder has one display, its administrator's. A fleet's instance has
// one for each session, on a seat (seat.go) that is prepared before somebody
// comes and removed with all that is his when he has gone (session.go,
// remains.go). Several people on one instance do not see one another
// (privacy.go).
//
// Trust: the server is told apart from programs of the instance by the kernel;
// these are told apart by their uid. What root of an image builder may do is
// bounded by the container, not by the agent.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// agent is the state of process 1.
type agent struct {
	config   agentapi.Config
	paths    paths
	log      *slog.Logger
	started  time.Time
	procs    *procs
	display  *display // of an image builder
	jobs     jobs     // likewise
	pool     pool     // of a fleet's instance
	accounts accounts
	remains  remains
	arrivals arrivals // of an image builder
	zone     string   // the image's own time zone, a file
	requests *requests
	streams  counter // display streams now
	sudos    counter // commands that run as root now

	stopOnce sync.Once
	stopped  chan struct{}
	exitCode int // valid when stopped is closed
}

// run is the life of an instance. It returns the code to exit with.
func run(p paths, uid int, log *slog.Logger) int {
	a := &agent{paths: p, log: log, started: time.Now().UTC(), procs: newProcs(), requests: newRequests(), stopped: make(chan struct{})}
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	go func() {
		for range children {
			a.procs.reap()
		}
	}()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT, unix.SIGPWR)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := a.start(ctx, uid); err != nil {
		log.Error("the instance cannot start", "error", err)
		a.procs.endAll(0)
		return 1
	}
	select {
	case s := <-stop:
		log.Info("stopping", "signal", unix.SignalName(s.(unix.Signal)))
		a.stop(agentapi.ExitStopped)
	case <-a.stopped:
	}
	cancel()
	a.procs.endAll(endGrace)
	log.Info("stopped", "exit_code", a.exitCode)
	return a.exitCode
}

// stop ends run with code; the first call counts.
func (a *agent) stop(code int) {
	a.stopOnce.Do(func() {
		a.exitCode = code
		close(a.stopped)
	})
}

// start reads the configuration and starts everything. The server hears of the
// instance last, when all that it may ask for is there.
func (a *agent) start(ctx context.Context, uid int) error {
	var err error
	if a.config, err = agentapi.ReadConfig(a.paths.config()); err != nil {
		return err
	}
	hidden := a.seclude()
	// What an earlier start left here is of no use, and may be someone else's.
	if err := os.RemoveAll(a.paths.private); err != nil {
		return err
	}
	if err := mkdir(a.paths.private, 0o755, os.Geteuid(), os.Getegid()); err != nil {
		return err
	}
	if err := clearX(a.paths.tmp); err != nil {
		return err
	}
	// What programs of the instance use is there before the first of them is.
	if err := writeVars(a.paths.profile, systemVars(a.config)); err != nil {
		return fmt.Errorf("write AppStream's variables: %w", err)
	}
	if err := errors.Join(a.listenControl(), a.listenSudo()); err != nil {
		return err
	}
	if a.config.Role == agentapi.RoleFleet {
		err = a.startFleet(ctx, uid, hidden)
	} else {
		err = a.startBuilder(ctx, uid)
	}
	if err != nil {
		return err
	}
	return a.listenServer()
}

// seclude hides people of an instance from one another, if there can be several,
// and gives up the right that this takes. It comes before all else. The error
// says that no session may begin.
func (a *agent) seclude() error {
	if os.Getpid() != 1 {
		return nil // a test, whose rights and whose host's processes are no concern of ours
	}
	var err error
	if a.config.MaxSessions > 1 {
		err = hideProcesses("/proc")
	}
	return errors.Join(err, dropRights())
}

// startBuilder begins the desktop of an image builder.
func (a *agent) startBuilder(ctx context.Context, uid int) error {
	a.arrivals.dir = a.paths.arrivals
	if err := a.arrivals.clear(); err != nil {
		return err
	}
	owner, err := lookupAccount(uid)
	if err != nil {
		return err
	}
	a.jobs.ctx = ctx
	a.removeLaunches()
	a.display = newDisplay(a.procs, place{
		account: owner, dir: a.paths.displayDir(), runtime: a.paths.userRuntime,
		tmp: a.paths.tmp, xvnc: a.paths.xvnc, size: a.displaySize(),
	}, a.log)
	a.display.show(desktop{argv: []string{a.paths.session}, env: desktopEnv(a.config, a.paths)})
	go a.display.run(ctx)
	return nil
}

// startFleet begins to prepare sessions. The uid is the agent's own where it
// cannot be many users.
func (a *agent) startFleet(ctx context.Context, uid int, hidden error) error {
	a.accounts = accounts{etc: a.paths.etc, home: a.paths.homes, counter: a.paths.counter, self: uid == os.Geteuid()}
	a.remains = remains{disks: a.paths.disks[:], ipc: a.paths.ipc}
	a.pool.sessions = map[string]*session{}
	a.zone, _ = filepath.EvalSymlinks(a.paths.localtime)
	if a.zone == "" {
		a.zone = filepath.Join(a.paths.zones, "Etc/UTC")
	}
	if err := errors.Join(a.removeLeftOver(), closeHomes(a.paths.homes)); err != nil {
		return err
	}
	if hidden != nil {
		a.log.Error("keep people apart", "error", hidden)
		a.pool.problem = hidden.Error()
		return nil
	}
	go a.keepSeat(ctx)
	return nil
}

// listenServer opens the socket for the server and shuts its directory to
// everyone else.
func (a *agent) listenServer() error {
	l, err := listen(a.paths.socket(), 0o660)
	if err != nil {
		return err
	}
	// Where ids of the host are not mapped into the instance, chown fails; the
	// modes still keep ordinary users out.
	err = errors.Join(
		os.Chown(a.paths.socket(), a.config.SocketUID, a.config.SocketGID),
		os.Chown(a.paths.shared, a.config.SocketUID, a.config.SocketGID),
	)
	if err != nil {
		a.log.Warn("hand the socket to the server", "error", err)
	}
	if err := os.Chmod(a.paths.shared, 0o750); err != nil {
		return fmt.Errorf("shut the shared directory: %w", err)
	}
	if os.Getpid() == 1 {
		l = outsiders{l}
	}
	a.serve(l, newServer(a.serverAPI(), a.log))
	return nil
}

func (a *agent) listenControl() error {
	l, err := listen(a.paths.control, 0o666)
	if err != nil {
		return err
	}
	s := newServer(a.controlAPI(), a.log)
	s.ConnState = atMost(maxCallers)
	a.serve(l, s)
	return nil
}

// maxCallers is how many programs of the instance can be connected to the
// control socket, which is everyone's.
const maxCallers = 64

// atMost has a server close connections when it has n others, none of which is
// hijacked.
func atMost(n int64) func(net.Conn, http.ConnState) {
	var open atomic.Int64
	return func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if open.Add(1) > n {
				c.Close()
			}
		case http.StateClosed:
			open.Add(-1)
		}
	}
}

func (a *agent) serve(l net.Listener, s *http.Server) {
	go func() {
		err := s.Serve(l)
		a.log.Error("socket", "address", l.Addr().String(), "error", err)
		a.stop(1) // an instance that cannot be reached is of no use
	}()
}

// listen opens a unix socket with this mode, in place of what is there.
func listen(path string, mode os.FileMode) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, mode)
}
