// Package tree runs a program so that every process that comes of it can be
// ended: also those that have gone to sessions of their own, and those whose
// parents have ended.
//
// Process 1 starts a runner (RunnerMain) for each program, as root. To the
// runner, and not to process 1, the kernel gives the orphans among the program's
// descendants: they stay below it in the tree of processes as long as it runs,
// whatever they do. The runner talks with who has started it over a socket, its
// descriptor 3: it reports how the program ended, and ends all when the other
// side hangs up, or leaves all running when it is told to.
package tree

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// RunnerName is the name (argv[0]) under which the program is the runner.
const RunnerName = "oriel-tree-runner"

// Grace is how long processes may take to end themselves before they are
// killed, and killGrace how long killed ones may take to be gone.
const (
	Grace     = 2 * time.Second
	killGrace = 10 * time.Second
)

// MostGrace is how long a runner takes to end everything, at most.
const MostGrace = Grace + killGrace + time.Second

// Program is what to run. The runner's own environment, directory and standard
// files are the program's.
type Program struct {
	Argv []string // Argv[0] is its path
	// Credential is whose rights it has; nil for the runner's.
	Credential *syscall.Credential
}

// Arguments are those with which to start the runner.
func (p Program) Arguments() []string {
	who := "-"
	if c := p.Credential; c != nil {
		numbers := []string{strconv.Itoa(int(c.Uid)), strconv.Itoa(int(c.Gid))}
		for _, g := range c.Groups {
			numbers = append(numbers, strconv.Itoa(int(g)))
		}
		who = strings.Join(numbers, ",")
	}
	return append([]string{RunnerName, who}, p.Argv...)
}

func parse(args []string) (Program, error) {
	if len(args) < 2 {
		return Program{}, errors.New("there is no program to run")
	}
	p := Program{Argv: args[1:]}
	if args[0] == "-" {
		return p, nil
	}
	var numbers []uint32
	for text := range strings.SplitSeq(args[0], ",") {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return Program{}, fmt.Errorf("%.64q is not a user's and his groups' numbers", args[0])
		}
		numbers = append(numbers, uint32(n))
	}
	if len(numbers) < 2 {
		return Program{}, fmt.Errorf("%.64q has no group", args[0])
	}
	p.Credential = &syscall.Credential{Uid: numbers[0], Gid: numbers[1], Groups: numbers[2:]}
	return p, nil
}

// End is how a program ended.
type End struct {
	Error  string `json:"error,omitzero"`  // it could not be started
	Code   int    `json:"code,omitzero"`   // its exit code
	Signal int    `json:"signal,omitzero"` // the signal that ended it
}

// Succeeded tells whether the program ended as one that has done its work.
func (e End) Succeeded() bool { return e == End{} }

// String says it in words.
func (e End) String() string {
	switch {
	case e.Error != "":
		return "could not be started: " + e.Error
	case e.Signal != 0:
		return "was ended by signal " + unix.SignalName(syscall.Signal(e.Signal))
	}
	return fmt.Sprintf("ended with code %d", e.Code)
}

// Ended waits for the runner's report. The error says that the runner itself
// has ended before.
func Ended(conn net.Conn) (End, error) {
	var e End
	if err := json.UnmarshalRead(io.LimitReader(firstLine{conn}, maxReport), &e); err != nil {
		return End{}, fmt.Errorf("the program's runner does not answer: %w", err)
	}
	return e, nil
}

// firstLine reads up to a line feed, byte by byte: a report is short.
type firstLine struct{ io.Reader }

func (l firstLine) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, err := l.Reader.Read(b[:1])
	if n == 1 && b[0] == '\n' {
		return 0, io.EOF
	}
	return n, err
}

const maxReport = 4 << 10

// Leave tells the runner to end and to leave what still runs.
func Leave(conn net.Conn) error {
	_, err := conn.Write([]byte{leave})
	return err
}

const leave = 'l'

// RunnerMain runs one program. Its exit code is 0 when nothing is left, or what
// is left was to be left.
func RunnerMain(args []string) int {
	f := os.NewFile(3, "starter")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return 1
	}
	defer conn.Close()
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	pid, err := start(args)
	if err != nil {
		report(conn, End{Error: err.Error()})
		return 0
	}
	none := make(chan struct{})
	go func() {
		defer close(none)
		reap(pid, conn)
	}()
	hungUp := make(chan struct{})
	go func() {
		word := make([]byte, 1)
		if n, _ := conn.Read(word); n == 1 && word[0] == leave {
			os.Exit(0)
		}
		close(hungUp)
	}()
	select {
	case <-none:
		return 0
	case <-hungUp:
	case <-told:
	}
	if !end(none) {
		return 1
	}
	return 0
}

// start starts the program in a session of its own, with this process as the
// one that gets the orphans of all that comes of it.
func start(args []string) (pid int, err error) {
	p, err := parse(args)
	if err != nil {
		return 0, err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("take the orphans: %w", err)
	}
	pid, err = syscall.ForkExec(p.Argv[0], p.Argv, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Setsid: true, Credential: p.Credential},
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", p.Argv[0], err)
	}
	// The standard files are the program's: what the runner would hold open
	// would look as if the program did.
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
		for fd := range 3 {
			unix.Dup3(int(null.Fd()), fd, 0)
		}
		null.Close()
	}
	return pid, nil
}

func report(conn net.Conn, e End) {
	text, err := json.Marshal(e)
	if err == nil {
		conn.Write(append(text, '\n'))
	}
}

// reap collects what ends, until nothing is left, and reports the program's end.
func reap(program int, conn net.Conn) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil: // ECHILD: every orphan would be a child
			return
		case pid == program:
			e := End{Code: status.ExitStatus()}
			if status.Signaled() {
				e = End{Signal: int(status.Signal())}
			}
			report(conn, e)
		}
	}
}

// end ends all processes below this one: TERM, and KILL for what is left after
// Grace. It tells whether none is.
func end(none <-chan struct{}) bool {
	began, told := time.Now(), map[int]bool{}
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		since := time.Since(began)
		if since > Grace+killGrace {
			return false
		}
		for _, pid := range Below(os.Getpid()) { // one that forks just now is found the next time
			switch {
			case since > Grace:
				unix.Kill(pid, unix.SIGKILL)
			case !told[pid]:
				told[pid] = true
				unix.Kill(pid, unix.SIGTERM)
				unix.Kill(pid, unix.SIGCONT) // a stopped process cannot end itself
			}
		}
		select {
		case <-none:
			return true
		case <-time.After(pause):
		}
	}
}

// Below gives the processes that descend from pid, and are alive.
func Below(pid int) []int {
	children := map[int][]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, _ := os.ReadFile("/proc/" + e.Name() + "/stat")
		// The name, in parentheses, may have anything in it.
		f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(f) < 2 || f[0] == "Z" {
			continue
		}
		parent, _ := strconv.Atoi(f[1])
		children[parent] = append(children[parent], n)
	}
	var found []int
	for next := children[pid]; len(next) > 0; {
		found = append(found, next...)
		var below []int
		for _, n := range next {
			below = append(below, children[n]...)
		}
		next = below
	}
	return found
}
