package agent

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// procs starts processes and reaps them, and everything that is orphaned into
// process 1. There is one place that waits (reap), so that an exit status can
// neither be lost nor be taken from whoever wants it; os/exec, which waits for
// its children itself, is therefore not used in the agent.
type procs struct {
	mu    sync.Mutex
	known map[int]*proc // started here and not yet reaped
	none  chan struct{} // closed and replaced when the last child was reaped
}

// proc is one process that was started here, the leader of its own group.
type proc struct {
	pid    int
	done   chan struct{}      // closed when it was reaped
	status syscall.WaitStatus // valid after done
}

func newProcs() *procs {
	return &procs{known: map[int]*proc{}, none: make(chan struct{})}
}

// command is what to start. Files become the descriptors 0, 1, 2, …
type command struct {
	argv  []string // argv[0] is an absolute path unless path is set
	path  string
	dir   string
	env   []string
	files []*os.File
	cred  *syscall.Credential
}

// start starts c in a session of its own.
func (ps *procs) start(c command) (*proc, error) {
	path := c.path
	if path == "" {
		path = c.argv[0]
	}
	fds := make([]uintptr, len(c.files))
	for i, f := range c.files {
		fds[i] = f.Fd()
	}
	// The lock is held over the fork, so that reap finds the process known
	// however fast it ends.
	ps.mu.Lock()
	defer ps.mu.Unlock()
	pid, err := syscall.ForkExec(path, c.argv, &syscall.ProcAttr{
		Dir: c.dir, Env: c.env, Files: fds,
		Sys: &syscall.SysProcAttr{Setsid: true, Credential: c.cred},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	p := &proc{pid: pid, done: make(chan struct{})}
	ps.known[pid] = p
	return p, nil
}

// reap collects every process that has ended. It is called on each SIGCHLD and
// once at start, and reports whether any child is left.
func (ps *procs) reap() bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil: // ECHILD
			close(ps.none)
			ps.none = make(chan struct{})
			return false
		case pid == 0:
			return true
		default:
			if p := ps.known[pid]; p != nil {
				delete(ps.known, pid)
				p.status = status
				close(p.done)
			}
		}
	}
}

// signal sends sig to the process's group; it does nothing when it has ended.
func (ps *procs) signal(p *proc, sig syscall.Signal) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.known[p.pid] == p {
		syscall.Kill(-p.pid, sig)
	}
}

// signalAll signals every process of the instance but this one. Where the
// agent is not process 1 (in a test), these are the groups that it started.
func (ps *procs) signalAll(sig syscall.Signal) {
	if os.Getpid() == 1 {
		syscall.Kill(-1, sig)
		return
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for pid := range ps.known {
		syscall.Kill(-pid, sig)
	}
}

// endAll ends every process of the instance: TERM, and KILL for what is left
// after grace. It returns when all are gone, or a second after KILL.
func (ps *procs) endAll(grace time.Duration) {
	ps.mu.Lock()
	none := ps.none
	ps.mu.Unlock()
	ps.signalAll(unix.SIGTERM)
	ps.signalAll(unix.SIGCONT) // a stopped process cannot end itself
	if !ps.reap() {
		return
	}
	select {
	case <-none:
		return
	case <-time.After(grace):
	}
	ps.signalAll(unix.SIGKILL)
	select {
	case <-none:
	case <-time.After(time.Second):
	}
}

// end ends p's group: TERM, and KILL when it is still there after grace.
func (ps *procs) end(p *proc, grace time.Duration) {
	ps.signal(p, unix.SIGTERM)
	select {
	case <-p.done:
		return
	case <-time.After(grace):
	}
	ps.signal(p, unix.SIGKILL)
	<-p.done
}

// ended says in words how p ended.
func (p *proc) ended() string {
	if p.status.Signaled() {
		return "was ended by signal " + unix.SignalName(p.status.Signal())
	}
	return fmt.Sprintf("exited with status %d", p.status.ExitStatus())
}
