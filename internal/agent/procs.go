package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	owner  string             // account.name, of what startAs started
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
	owner string
	// private has the program and its children make files that only their
	// user can read.
	private bool
}

// privately starts its arguments with such a umask, which a process takes from
// the one that starts it.
var privately = []string{"/bin/sh", "-c", `umask 077 && exec "$@"`, "sh"}

// start starts c in a session of its own.
func (ps *procs) start(c command) (*proc, error) {
	path := c.path
	if path == "" {
		path = c.argv[0]
	}
	if c.private {
		if err := unix.Access(path, unix.X_OK); err != nil { // which the shell would say too late
			return nil, fmt.Errorf("start %s: %w", path, err)
		}
		path, c.argv = privately[0], slices.Concat(privately, c.argv)
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
	p := &proc{pid: pid, owner: c.owner, done: make(chan struct{})}
	ps.known[pid] = p
	return p, nil
}

// startAs starts c as a, in its home and, unless c has files, with out as
// standard output and error.
func (ps *procs) startAs(a account, c command, out *os.File) (*proc, error) {
	if c.files == nil {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return nil, err
		}
		defer null.Close()
		c.files = []*os.File{null, out, out}
	}
	c.env = append(c.env, "HOME="+a.home, "USER="+a.name, "LOGNAME="+a.name)
	c.owner = a.name
	c.dir = firstDir(c.dir, a.home)
	if a.uid != os.Geteuid() {
		c.cred = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: a.groups}
	}
	return ps.start(c)
}

// firstDir gives the first that is a directory.
func firstDir(dirs ...string) string {
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
	}
	return "/"
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

// endOwner ends every process of a: TERM, and KILL for what is left after
// grace. The error says that some are left.
func (ps *procs) endOwner(a account, grace time.Duration) error {
	began := time.Now()
	err := ps.signalOwner(a, unix.SIGTERM)
	if err == nil {
		err = ps.signalOwner(a, unix.SIGCONT) // a stopped process cannot end itself
	}
	for pause := 2 * time.Millisecond; err == nil; pause = min(2*pause, 50*time.Millisecond) {
		ps.reap()
		left, e := ps.countOwner(a)
		if left == 0 && e == nil {
			return nil
		}
		switch err = e; {
		case err != nil:
		case time.Since(began) > grace+killGrace:
			err = fmt.Errorf("%d of them are left", left)
		case time.Since(began) > grace:
			err = ps.signalOwner(a, unix.SIGKILL)
		}
		time.Sleep(pause)
	}
	return fmt.Errorf("end the processes of %s: %w", a.name, err)
}

// killGrace is how long killed processes may take to be gone: one may be
// waiting for a disk.
const killGrace = 10 * time.Second

// signalOwner signals every process of a at once, so that none can fork away.
// Where the agent is not process 1 (in a test), these are the groups that it
// started.
func (ps *procs) signalOwner(a account, sig syscall.Signal) error {
	if os.Getpid() == 1 {
		return a.asUser(func() error {
			if _, _, errno := unix.RawSyscall(unix.SYS_KILL, ^uintptr(0), uintptr(sig), 0); errno != 0 && errno != unix.ESRCH {
				return errno
			}
			return nil
		})
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for pid, p := range ps.known {
		if p.owner == a.name {
			syscall.Kill(-pid, sig)
		}
	}
	return nil
}

// countOwner counts the processes of a, also those that have not been reaped.
func (ps *procs) countOwner(a account) (n int, err error) {
	if os.Getpid() != 1 {
		ps.mu.Lock()
		defer ps.mu.Unlock()
		for _, p := range ps.known {
			if p.owner == a.name {
				n++
			}
		}
		return n, nil
	}
	return countUID("/proc", a.uid)
}

// countUID counts the processes in proc that have uid. The agent, process 1, is
// none of them, though its first thread may be somebody's for files (package
// files): that one stays so, because it cannot end.
func countUID(proc string, uid int) (n int, err error) {
	entries, err := os.ReadDir(proc)
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err != nil || pid == 1 {
			continue
		}
		text, err := os.ReadFile(filepath.Join(proc, e.Name(), "status"))
		if err == nil && hasUID(text, uid) {
			n++
		}
	}
	return n, err
}

// hasUID tells whether one of the uids of a /proc/PID/status is uid.
func hasUID(status []byte, uid int) bool {
	for line := range bytes.Lines(status) {
		if ids, ok := bytes.CutPrefix(line, []byte("Uid:")); ok {
			return slices.ContainsFunc(bytes.Fields(ids), func(id []byte) bool { return string(id) == strconv.Itoa(uid) })
		}
	}
	return false
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

// endGroup is end for a group of which nothing may be left.
func (ps *procs) endGroup(p *proc, grace time.Duration) {
	ps.end(p, grace)
	syscall.Kill(-p.pid, unix.SIGKILL) // a moment after its leader, no other group has the number
}

// ended says in words how p ended.
func (p *proc) ended() string {
	if p.status.Signaled() {
		return "was ended by signal " + unix.SignalName(p.status.Signal())
	}
	return fmt.Sprintf("exited with status %d", p.status.ExitStatus())
}
