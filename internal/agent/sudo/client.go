package sudo

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// forwarded are the signals that the client passes on to the command.
var forwarded = []os.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGCONT, unix.SIGWINCH}

// maxRest bounds the output that is still shown when the command has ended or
// stopped, in bytes: something that it started may write on without end.
const maxRest = 1 << 20

// Main is sudo. It returns the exit status; when the command was ended by a
// signal that also ends the client, it does not return.
func Main(args []string, socket string) int {
	code, err := run(args, socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sudo:", err)
		return 1
	}
	return code
}

func run(args []string, socket string) (int, error) {
	v, err := parse(args)
	if errors.Is(err, errUsage) && err == errUsage {
		fmt.Fprintln(os.Stderr, err)
		return 1, nil
	}
	if err != nil {
		return 1, err
	}
	switch v.action {
	case actionNothing:
		return 0, nil
	case actionHelp:
		fmt.Printf("%s\n\nRuns a command as root in an image builder. No password is asked for.\n", errUsage)
		return 0, nil
	case actionVersion:
		fmt.Println("sudo of the Oriel agent")
		return 0, nil
	case actionList:
		v.Check = true
	}
	c := &client{}
	defer c.restore()
	code, err := c.run(v, socket)
	if err == nil && code == 0 && v.action == actionList {
		fmt.Println("User may run the following commands on this image builder:\n    (ALL : ALL) NOPASSWD: ALL")
	}
	return code, err
}

// client is one sudo that waits for its command.
type client struct {
	conn    *net.UnixConn
	signals chan os.Signal
	events  chan event // from the runner; closed when it is gone

	// With a terminal:
	master  *os.File      // our side of the command's terminal
	cooked  *unix.Termios // the user's settings while they are changed
	resumed chan struct{} // wakes relayInput when the job is in the foreground again
	drained chan struct{} // relayOutput has shown all there was; closed when there will be no more
	goOn    chan struct{} // relayOutput may go on after that
	paused  bool          // relayOutput waits for goOn
}

func (c *client) run(v *invocation, socket string) (int, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return 1, fmt.Errorf("the Oriel agent does not answer on this machine (%w)", err)
	}
	defer conn.Close()
	c.conn = conn
	c.signals = make(chan os.Signal, 16)
	for _, s := range forwarded {
		if !signal.Ignored(s) { // nohup sudo … stays deaf to SIGHUP
			signal.Notify(c.signals, s)
		}
	}
	// Reading in the background gives an error instead of stopping us.
	signal.Ignore(unix.SIGTTIN, unix.SIGTTOU)

	files := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	terminal := isTerminal(os.Stdin) && isTerminal(os.Stdout)
	switch {
	case isTerminal(os.Stdin) && (v.inBackground || !foreground()):
		null, err := os.Open(os.DevNull)
		if err != nil {
			return 1, err
		}
		defer null.Close()
		files[0] = null
		terminal = false
	case terminal && !v.Check:
		slave, err := c.openTerminal()
		if err != nil {
			return 1, err
		}
		for i, f := range files {
			if isTerminal(f) {
				files[i] = slave
			}
		}
		defer slave.Close() // closed below; this is for the early returns
	}
	if err := c.request(v, files, c.master != nil); err != nil {
		return 1, err
	}
	if c.master != nil {
		files[0].Close()
		c.raw()
		go c.relayOutput()
		go c.relayInput()
	}
	c.events = make(chan event)
	go func() {
		defer close(c.events)
		for {
			var e event
			if receive(conn, &e) != nil {
				return
			}
			c.events <- e
			if e.Ended {
				return
			}
		}
	}()
	if v.inBackground {
		return 0, nil
	}
	return c.wait()
}

// request sends what to do, and the files to do it with.
func (c *client) request(v *invocation, files []*os.File, tty bool) error {
	cwd, err := os.Getwd()
	if err != nil {
		cwd = "/"
	}
	umask := unix.Umask(0)
	unix.Umask(umask)
	err = sendFiles(c.conn, files...)
	if err == nil {
		err = send(c.conn, request{
			Invocation: *v, Argv: makeWords(v.Argv...), Set: makeWords(v.Set...),
			Env: makeWords(os.Environ()...), Cwd: makeWords(cwd), TTY: tty, Umask: umask,
		})
	}
	// A broken pipe is a refusal, whose reason can be read.
	if err != nil && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("ask the Oriel agent: %w", err)
	}
	return nil
}

// wait passes signals on and reports until the command has ended.
func (c *client) wait() (int, error) {
	for {
		select {
		case s := <-c.signals:
			switch s {
			case unix.SIGWINCH:
				c.resize()
			case unix.SIGCONT:
				c.resume()
			default:
				send(c.conn, event{Signal: int(s.(unix.Signal))})
			}
		case e, ok := <-c.events:
			switch {
			case !ok:
				return 1, errors.New("the connection to the Oriel agent was lost; the command may still run")
			case e.Stopped != 0:
				c.drain()
				c.restore()
				unix.Kill(os.Getpid(), unix.SIGSTOP)
				// SIGCONT is on its way to us when this goes on.
			case e.Ended:
				return c.ended(e)
			}
		}
	}
}

// resume goes on after a stop, or when the job came to the foreground.
func (c *client) resume() {
	c.relayOn()
	if c.master != nil && foreground() {
		c.raw()
		c.resize()
		select {
		case c.resumed <- struct{}{}:
		default:
		}
	}
	send(c.conn, event{Signal: int(unix.SIGCONT)})
}

func (c *client) ended(e event) (int, error) {
	c.drain()
	c.restore()
	if e.Error != "" {
		fmt.Fprintln(os.Stderr, "sudo:", e.Error)
	}
	if e.Killed == 0 {
		return e.Code, nil
	}
	// The shell shall see what it would see had it run the command itself.
	switch sig := unix.Signal(e.Killed); sig {
	case unix.SIGINT, unix.SIGHUP, unix.SIGTERM:
		signal.Reset(sig)
		unix.Kill(os.Getpid(), sig)
		time.Sleep(time.Second) // the signal is on its way
	}
	return 128 + e.Killed, nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// foreground says whether this job may use the terminal. A terminal that does
// not control this process knows no jobs: it may be used.
func foreground() bool {
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// openTerminal makes the terminal for the command, with the size and settings
// of the user's. It returns the command's side.
func (c *client) openTerminal() (slave *os.File, err error) {
	// os.File waits for this one in Go's poller, so that reading can be ended;
	// its method Fd would change that.
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	raw, err := master.SyscallConn()
	if err == nil {
		err = errors.Join(raw.Control(func(fd uintptr) {
			if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err != nil {
				return
			}
			n, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
			if errno != 0 {
				err = errno
				return
			}
			slave = os.NewFile(n, "terminal")
		}), err)
	}
	if err != nil {
		master.Close()
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	if t, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, t)
	}
	c.master = master
	c.drained, c.goOn, c.resumed = make(chan struct{}), make(chan struct{}, 1), make(chan struct{}, 1)
	c.resize()
	return slave, nil
}

// resize gives the command's terminal the size of the user's; the kernel tells
// the command.
func (c *client) resize() {
	if c.master == nil {
		return
	}
	size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		return
	}
	if raw, err := c.master.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, size) })
	}
}

// raw hands every key to the command's terminal, which gives it its meaning.
func (c *client) raw() {
	if c.cooked != nil {
		return
	}
	t, err := unix.IoctlGetTermios(0, unix.TCGETS)
	if err != nil {
		return
	}
	cooked := *t
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if unix.IoctlSetTermios(0, unix.TCSETSW, t) == nil {
		c.cooked = &cooked
	}
}

// restore gives the user's terminal its settings back.
func (c *client) restore() {
	if c.cooked != nil {
		unix.IoctlSetTermios(0, unix.TCSETSW, c.cooked)
		c.cooked = nil
	}
}

// relayOutput shows what the command writes, until its terminal is closed.
func (c *client) relayOutput() {
	defer close(c.drained)
	buf := make([]byte, 32<<10)
	for {
		n, err := c.master.Read(buf)
		os.Stdout.Write(buf[:n])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded): // see drain
			c.showRest(buf)
			c.drained <- struct{}{}
			<-c.goOn
		case err != nil: // EIO: nobody has the terminal any more
			return
		}
	}
}

// showRest shows what the command has written, and waits for no more.
func (c *client) showRest(buf []byte) {
	raw, err := c.master.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		for rest := 0; rest < maxRest; {
			n, err := unix.Read(int(fd), buf)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n <= 0 {
				return
			}
			os.Stdout.Write(buf[:n])
			rest += n
		}
	})
}

// drain returns when everything was shown that the command wrote until now;
// the relay then rests until relayOn.
func (c *client) drain() {
	if c.master == nil {
		return
	}
	c.relayOn()
	c.master.SetReadDeadline(time.Unix(1, 0))
	<-c.drained
	c.paused = true
}

// relayOn ends the rest that drain has begun.
func (c *client) relayOn() {
	if c.paused {
		c.paused = false
		c.master.SetReadDeadline(time.Time{})
		select {
		case c.goOn <- struct{}{}:
		default: // the relay has ended
		}
	}
}

// relayInput types what the user types. In the background reading fails with
// EIO; it goes on when the job is in the foreground again.
func (c *client) relayInput() {
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(0, buf)
		switch {
		case n > 0:
			if _, err := c.master.Write(buf[:n]); err != nil {
				return
			}
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
		case errors.Is(err, unix.EIO):
			if foreground() { // the terminal is gone
				c.conn.CloseWrite()
				return
			}
			<-c.resumed
		default: // end of file, or the terminal is gone
			c.conn.CloseWrite()
			return
		}
	}
}
