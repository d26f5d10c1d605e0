package agent

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/agent/sudo"
	"github.com/oriel-project/oriel/internal/agent/tree"
)

// programTree is a program with all processes that come of it, see package tree.
//
// Those that sudo starts for it come of process 1. They are known by a variable
// that sudo hands on, with a value that nobody can foretell.
type programTree struct {
	procs  *procs
	runner *proc
	conn   net.Conn
	mark   string // NAME=value
	output *drain
	ended  chan struct{} // closed when the program has ended; others may be left
	how    tree.End      // valid after ended, unless err is set
	err    error
}

// startTree starts c as who, with output for what it writes. Somebody must call
// leave or end.
func (a *agent) startTree(who account, c command, output io.Writer) (*programTree, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.argv[0], err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "runner"), os.NewFile(uintptr(pair[1]), "runner")
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.argv[0], err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer null.Close()
	read, w, err := newDrain(func(r io.Reader) { io.Copy(output, r) })
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer w.Close()
	p := &programTree{procs: a.procs, conn: conn, mark: sudo.JobVariable + "=" + rand.Text(), output: read, ended: make(chan struct{})}
	program := tree.Program{Argv: c.argv}
	if who.uid != os.Geteuid() {
		program.Credential = &syscall.Credential{Uid: uint32(who.uid), Gid: uint32(who.gid), Groups: who.groups}
	}
	p.runner, err = a.procs.start(command{
		path: self, argv: program.Arguments(), dir: firstDir(c.dir, who.home),
		env:   append(c.env, "HOME="+who.home, "USER="+who.name, "LOGNAME="+who.name, p.mark),
		files: []*os.File{null, w, w, theirs},
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.how, p.err = tree.Ended(conn)
	}()
	return p, nil
}

// failure says how the program ended.
func (p *programTree) failure() error {
	if p.err != nil {
		return p.err
	}
	return errors.New("it " + p.how.String())
}

// over tells whether the program has ended, and all that came of it.
func (p *programTree) over() bool {
	select {
	case <-p.runner.done:
		return true
	default:
		return false
	}
}

// has tells whether a process comes of the program.
func (p *programTree) has(pid int) bool {
	for n := 0; pid > 1 && n < maxDepth; n++ {
		if pid == p.runner.pid {
			return true
		}
		pid, _ = familyOf(pid)
	}
	return false
}

// leave lets go of the program, which has ended, and of what it has left
// running.
func (p *programTree) leave() {
	tree.Leave(p.conn) // fails when the runner has ended, as nothing was left
	<-p.runner.done
	p.conn.Close()
	p.output.settle()
}

// end ends every process of the program. It returns why, and with it what could
// not be ended.
func (p *programTree) end(why error) error {
	p.conn.Close()
	p.procs.signal(p.runner, unix.SIGCONT) // root may have stopped it
	select {
	case <-p.runner.done:
	case <-time.After(tree.MostGrace + endGrace):
		p.procs.signal(p.runner, unix.SIGKILL)
		<-p.runner.done
	}
	left := endMarked(p.mark)
	p.output.settle()
	if p.runner.status.ExitStatus() != 0 || left > 0 {
		left := errors.New("some of its processes could not be ended; restart the machine")
		if why == nil {
			return left
		}
		return fmt.Errorf("%w; %w", why, left)
	}
	return why
}

// endMarked ends the processes that have a variable: TERM, and KILL for what is
// left after endGrace. It returns how many are left all the same.
func endMarked(mark string) int {
	began, told, empty := time.Now(), map[int]bool{}, 0
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		found, sure := marked(mark)
		since := time.Since(began)
		if empty++; len(found) > 0 || !sure {
			empty = 0
		}
		// One that was begun during the first look, by one that then ended, is
		// seen at the second.
		if empty == 2 || since > endGrace+killGrace {
			return len(found)
		}
		for _, pid := range found {
			switch {
			case since > endGrace:
				unix.Kill(pid, unix.SIGKILL)
			case !told[pid]:
				told[pid] = true
				unix.Kill(pid, unix.SIGTERM)
				unix.Kill(pid, unix.SIGCONT) // a stopped process cannot end itself
			}
		}
		time.Sleep(pause)
	}
}

// marked finds the processes that have a variable from their start. It is not
// sure that these are all while one is just becoming another program: then,
// nobody can see its variables.
func marked(mark string) (found []int, sure bool) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	sure = true
	for _, file := range files {
		text, _ := os.ReadFile(file)
		if len(text) == 0 {
			sure = sure && !isBecoming(filepath.Dir(file))
		}
		for variable := range bytes.SplitSeq(text, []byte{0}) {
			if string(variable) == mark {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
				found = append(found, pid)
				break
			}
		}
	}
	return found, sure
}

// isBecoming tells whether a process, by its directory in /proc, has a program
// and no arguments yet, not even the program's name.
func isBecoming(dir string) bool {
	if _, err := os.Readlink(dir + "/exe"); err != nil {
		return false // it has ended, or is the kernel's
	}
	arguments, err := os.ReadFile(dir + "/cmdline")
	return err == nil && len(arguments) == 0
}
