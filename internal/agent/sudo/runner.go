package sudo

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// SecurePath is the PATH of commands that run as root.
const SecurePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// kept are the variables of the caller that a command gets without -E; a name
// that ends with * stands for all that begin so.
var kept = []string{"TERM", "COLORTERM", "LANG", "LANGUAGE", "LC_*", "TZ", "LS_COLORS", "DISPLAY", "XAUTHORITY", "XDG_CURRENT_DESKTOP", JobVariable}

// JobVariable marks the processes of a job's step.
const JobVariable = "ORIEL_JOB_STEP"

// RunnerMain runs one command for the client at the other end of descriptor 3.
// It is started by process 1 as root, in a session of its own, after the
// caller was found to be permitted.
func RunnerMain() int {
	f := os.NewFile(3, "client")
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		slog.Error("sudo: the connection is not a socket", "error", err)
		return 1
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		slog.Error("sudo: the connection is not a unix socket")
		return 1
	}
	defer conn.Close()
	// The command's group takes the terminal from ours, which only a process
	// may do that ignores SIGTTOU; the command goes on ignoring it.
	signal.Ignore(unix.SIGTTOU)
	// The command's terminal may send these to its session's leader: us.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP, unix.SIGTTIN)

	files, err := receiveFiles(conn, 3)
	if err != nil {
		Refuse(conn, err.Error())
		return 1
	}
	var req request
	if err := receive(conn, &req); err != nil {
		Refuse(conn, "the request is not understood: "+err.Error())
		return 1
	}
	if req.Invocation.Check {
		send(conn, event{Ended: true})
		return 0
	}
	r := &runner{conn: conn, tty: -1}
	if err := r.start(&req, files); err != nil {
		send(conn, event{Ended: true, Code: 1, Error: err.Error()})
		return 1
	}
	for _, f := range files {
		f.Close()
	}
	go r.obey()
	r.wait()
	return 0
}

// runner is one command.
type runner struct {
	conn  *net.UnixConn
	pid   int
	tty   int // a descriptor of the controlling terminal, or -1
	mu    sync.Mutex
	ended bool // the command has been reaped
}

// start starts the command in a process group of its own. With a terminal it
// is the group in the foreground.
func (r *runner) start(req *request, files []*os.File) error {
	target, err := lookupTarget(req.Invocation.User, req.Invocation.Group)
	if err != nil {
		return err
	}
	caller := callerName(r.conn)
	env := environment(req, target, caller)
	dir, err := chdir(req, target)
	if err != nil {
		return err
	}
	os.Setenv("PATH", value(env, "PATH"))
	path, argv, err := commandLine(req, target, env)
	if err != nil {
		return err
	}
	env = append(env, "SUDO_COMMAND="+strings.Join(append([]string{path}, argv[1:]...), " "))

	sys := &syscall.SysProcAttr{Setpgid: true}
	if target.uid != os.Getuid() || target.gid != os.Getgid() {
		sys.Credential = &syscall.Credential{Uid: uint32(target.uid), Gid: uint32(target.gid), Groups: target.groups}
	}
	if req.TTY {
		if r.tty, err = unix.FcntlInt(files[0].Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return fmt.Errorf("the command's terminal: %w", err)
		}
		if err := unix.IoctlSetInt(r.tty, unix.TIOCSCTTY, 0); err != nil {
			return fmt.Errorf("the command's terminal: %w", err)
		}
		// The command's group has the terminal before the command runs: no
		// key can get lost.
		sys.Foreground, sys.Ctty = true, r.tty
	}
	unix.Umask(req.Umask & 0o777)
	slog.Info("sudo", "user", caller, "as", target.name, "command", path)
	r.pid, err = syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Dir: dir, Env: env, Sys: sys,
		Files: []uintptr{files[0].Fd(), files[1].Fd(), files[2].Fd()},
	})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// obey passes the client's signals on. A client that is gone hangs up.
func (r *runner) obey() {
	for {
		var e event
		if receive(r.conn, &e) != nil {
			r.signal(unix.SIGHUP)
			r.signal(unix.SIGCONT)
			return
		}
		if e.Signal > 0 && e.Signal < 65 {
			r.signal(unix.Signal(e.Signal))
		}
	}
}

// signal signals the command's group. When the command has ended, what it has
// left running in its group shall stay, and the number may be someone else's.
func (r *runner) signal(s unix.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		unix.Kill(-r.pid, s)
	}
}

// wait reports what becomes of the command until it has ended.
func (r *runner) wait() {
	for {
		var status unix.WaitStatus
		switch _, err := unix.Wait4(r.pid, &status, unix.WUNTRACED, nil); {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			send(r.conn, event{Ended: true, Code: 1, Error: "wait for the command: " + err.Error()})
			return
		}
		switch {
		case status.Stopped() && r.tty >= 0 && (status.StopSignal() == unix.SIGTTIN || status.StopSignal() == unix.SIGTTOU):
			// The terminal is the command's alone: nobody else is in its way.
			unix.IoctlSetPointerInt(r.tty, unix.TIOCSPGRP, r.pid)
			r.signal(unix.SIGCONT)
		case status.Stopped():
			send(r.conn, event{Stopped: int(status.StopSignal())})
		default:
			if r.tty >= 0 {
				// When a session's leader ends, the group in the foreground
				// is hung up. What the command left running shall stay.
				unix.IoctlSetPointerInt(r.tty, unix.TIOCSPGRP, unix.Getpgrp())
				unix.Close(r.tty)
			}
			r.mu.Lock()
			r.ended = true
			r.mu.Unlock()
			e := event{Ended: true}
			if status.Signaled() {
				e.Killed = int(status.Signal())
			} else {
				e.Code = status.ExitStatus()
			}
			send(r.conn, e)
			return
		}
	}
}

// target is who the command runs as.
type target struct {
	name, home, shell string
	uid, gid          int
	groups            []uint32
}

func lookupTarget(name, group string) (target, error) {
	if name == "" {
		name = "root"
	}
	u, err := user.Lookup(name)
	if id, ok := strings.CutPrefix(name, "#"); ok {
		if _, bad := strconv.ParseUint(id, 10, 31); bad != nil {
			return target{}, fmt.Errorf("unknown user %s", name)
		}
		if u, err = user.LookupId(id); err != nil {
			u, err = &user.User{Uid: id, Gid: id, Username: id, HomeDir: "/"}, nil
		}
	}
	if err != nil {
		return target{}, fmt.Errorf("unknown user %s", name)
	}
	t := target{name: u.Username, home: u.HomeDir, shell: loginShell("/etc/passwd", u.Username)}
	if t.uid, err = strconv.Atoi(u.Uid); err != nil {
		return target{}, fmt.Errorf("unknown user %s", name)
	}
	if t.gid, err = strconv.Atoi(u.Gid); err != nil {
		return target{}, fmt.Errorf("unknown user %s", name)
	}
	ids, _ := u.GroupIds()
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			t.groups = append(t.groups, uint32(n))
		}
	}
	if group != "" {
		id, numeric := strings.CutPrefix(group, "#")
		if !numeric {
			g, err := user.LookupGroup(group)
			if err != nil {
				return target{}, fmt.Errorf("unknown group %s", group)
			}
			id = g.Gid
		}
		n, err := strconv.ParseUint(id, 10, 31)
		if err != nil {
			return target{}, fmt.Errorf("unknown group %s", group)
		}
		t.gid = int(n)
	}
	return t, nil
}

// loginShell reads a user's shell from file, which has passwd's form.
func loginShell(file, name string) string {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if f := strings.Split(strings.TrimRight(line, "\n"), ":"); len(f) == 7 && f[0] == name && f[6] != "" {
			return f[6]
		}
	}
	return "/bin/sh"
}

// callerName is the user at the other end, by the kernel's word.
func callerName(c *net.UnixConn) string {
	uid := -1
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
				uid = int(peer.Uid)
			}
		})
	}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "#" + strconv.Itoa(uid)
}

// chdir goes where the command begins, for paths like ./program.
func chdir(req *request, t target) (string, error) {
	dir := "/"
	if cwd := req.Cwd.list(); len(cwd) == 1 {
		dir = cwd[0]
	}
	switch v := req.Invocation; {
	case v.Dir != "":
		if err := os.Chdir(v.Dir); err != nil {
			return "", fmt.Errorf("unable to change directory to %s: %w", v.Dir, errors.Unwrap(err))
		}
		return v.Dir, nil
	case v.Login:
		dir = t.home
	}
	if os.Chdir(dir) != nil { // it was removed, say
		dir = "/"
		os.Chdir(dir)
	}
	return dir, nil
}

// environment is what the command gets: the target's own variables, those of
// the caller that are kept, and what the command line sets.
func environment(req *request, t target, caller string) []string {
	var env []string
	set := func(name, value string) {
		env = slices.DeleteFunc(env, func(s string) bool { return strings.HasPrefix(s, name+"=") })
		env = append(env, name+"="+value)
	}
	keep := append(slices.Clone(kept), req.Invocation.Keep...)
	for _, s := range req.Env.list() {
		name, value, ok := strings.Cut(s, "=")
		if ok && name != "" && (req.Invocation.KeepAll || slices.ContainsFunc(keep, func(k string) bool {
			prefix, open := strings.CutSuffix(k, "*")
			return k == name || open && strings.HasPrefix(name, prefix)
		})) {
			set(name, value)
		}
	}
	if !req.Invocation.KeepAll || req.Invocation.Home || req.Invocation.Login {
		set("HOME", t.home)
	}
	set("USER", t.name)
	set("LOGNAME", t.name)
	if !req.Invocation.Shell || value(env, "SHELL") == "" {
		set("SHELL", t.shell)
	}
	set("MAIL", "/var/mail/"+t.name)
	set("PATH", SecurePath)
	set("SUDO_USER", caller)
	if u, err := user.Lookup(caller); err == nil {
		set("SUDO_UID", u.Uid)
		set("SUDO_GID", u.Gid)
	}
	for _, s := range req.Set.list() {
		if name, value, ok := strings.Cut(s, "="); ok {
			set(name, value)
		}
	}
	return env
}

// value is the variable's value in env.
func value(env []string, name string) string {
	for _, s := range env {
		if v, ok := strings.CutPrefix(s, name+"="); ok {
			return v
		}
	}
	return ""
}

// commandLine finds the program: the command itself, or a shell.
func commandLine(req *request, t target, env []string) (path string, argv []string, err error) {
	words := req.Argv.list()
	if !req.Invocation.Login && !req.Invocation.Shell {
		if len(words) == 0 {
			return "", nil, errUsage
		}
		path, err := exec.LookPath(words[0])
		switch {
		case errors.Is(err, exec.ErrDot): // PATH=. was asked for
		case errors.Is(err, os.ErrPermission):
			return "", nil, fmt.Errorf("%s: permission denied", words[0])
		case err != nil:
			return "", nil, fmt.Errorf("%s: command not found", words[0])
		}
		return path, words, nil
	}
	shell := t.shell
	if req.Invocation.Shell {
		caller := value(req.Env.list(), "SHELL")
		if caller != "" {
			shell = caller
		}
	}
	name := shell
	if req.Invocation.Login {
		name = "-" + shell[strings.LastIndexByte(shell, '/')+1:]
	}
	argv = []string{name}
	if len(words) > 0 {
		argv = append(argv, "-c", shellCommand(words))
	}
	return shell, argv, nil
}
