package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	displayTimeout = time.Minute            // for Xvnc to come up, which takes a tenth of a second: one that is slower is held up with all else, or hangs
	managerTimeout = 15 * time.Second       // for the window manager
	plainDesktop   = 5 * time.Second        // a desktop still black after this is meant to be black
	healthy        = 30 * time.Second       // a display that lived so long starts the back-off anew
	firstBackOff   = 100 * time.Millisecond // doubled with each failure
	lastBackOff    = 10 * time.Second
	endGrace       = 2 * time.Second // from TERM to KILL
	hopeless       = 3               // failed starts in a row that make a Problem
)

// place is where a display is and whose it is.
type place struct {
	account account
	dir     string // of the account, emptied at each start: the cookie and the RFB socket
	runtime string // XDG_RUNTIME_DIR, likewise
	tmp     string // where X keeps its locks and sockets
	xvnc    string
	size    string // WIDTHxHEIGHT at start
	// private: what its programs make can be read by their user only.
	private bool
	// shared: people who do not know one another are on the instance. Nobody
	// can foretell the display's number, so that nobody can put a display of
	// his own in its place.
	shared bool
}

func (p place) rfb() string         { return filepath.Join(p.dir, "rfb.sock") }
func (p place) xauthority() string  { return filepath.Join(p.dir, "xauthority") }
func (p place) socket(n int) string { return filepath.Join(p.tmp, ".X11-unix", "X"+strconv.Itoa(n)) }
func (p place) lock(n int) string   { return filepath.Join(p.tmp, ".X"+strconv.Itoa(n)+"-lock") }

// desktop is the program that a display shows, which starts all others.
type desktop struct {
	argv []string // argv[0] is its path
	env  []string // with what display.env gives
}

// display keeps the X server and the desktop's session running.
//
// One life of it (live): clean up → Xvnc → it listens: up → the desktop, when
// it is known → pixels: ready. When either of the two processes ends, both are
// ended, and the next life begins after a back-off. Pause and resume stand
// between lives.
type display struct {
	place
	procs *procs
	log   *slog.Logger

	watch
	desktop  *desktop // nil until it is known who comes
	number   int
	cookie   []byte
	paused   bool
	alive    bool // a life is going on
	up       bool // programs can connect
	upAt     time.Time
	ready    bool
	readyAt  time.Time
	restarts int
	lastErr  string
	problem  string
	endLife  context.CancelFunc
}

func newDisplay(ps *procs, p place, log *slog.Logger) *display {
	return &display{procs: ps, place: p, log: log}
}

// show says what the display shows, from now on.
func (d *display) show(what desktop) { d.change(func() { d.desktop = &what }) }

// env is what programs need to find the display. It is valid while it is up.
func (d *display) env() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return []string{"DISPLAY=:" + strconv.Itoa(d.number), "XAUTHORITY=" + d.xauthority(), "XDG_RUNTIME_DIR=" + d.runtime, "XDG_SESSION_TYPE=x11"}
}

// run keeps the display alive until ctx ends. It does not end the processes
// then: whoever ends ctx ends everything.
func (d *display) run(ctx context.Context) {
	backOff, failures := firstBackOff, 0
	for ctx.Err() == nil && d.waitUntil(ctx, func() bool { return !d.paused }) {
		life, endLife := context.WithCancel(ctx)
		d.change(func() { d.alive, d.endLife = !d.paused, endLife })
		if !d.alive { // paused in between; only this goroutine writes alive
			endLife()
			continue
		}
		began := time.Now()
		wasReady, err := d.live(life)
		ended := life.Err() != nil
		endLife()
		d.change(func() {
			d.alive, d.up, d.ready = false, false, false
			if ended {
				return
			}
			d.restarts++
			d.lastErr = err.Error()
			failures++
			if wasReady {
				failures = 0
			}
			if failures >= hopeless {
				d.problem = "the desktop does not start: " + d.lastErr
			}
		})
		if ended {
			continue
		}
		if time.Since(began) >= healthy {
			backOff = firstBackOff
		}
		d.log.Warn("display ended", "error", err, "restart_in", backOff)
		// A pause during the back-off is noticed before the next life.
		select {
		case <-time.After(backOff):
		case <-ctx.Done():
		}
		backOff = min(2*backOff, lastBackOff)
	}
}

// live is one life of the display. It returns why it ended and whether the
// desktop had been seen.
func (d *display) live(ctx context.Context) (wasReady bool, err error) {
	if err := d.prepare(); err != nil {
		return false, err
	}
	out, err := newOutput(d.log.With("program", "Xvnc"))
	if err != nil {
		return false, err
	}
	defer out.write.Close()
	xvnc, err := d.start(append([]string{d.xvnc}, d.xvncFlags()...), d.env(), out.write)
	if err != nil {
		return false, err
	}
	defer d.procs.end(xvnc, endGrace)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-xvnc.done:
			cancel(errXvncEnded)
		case <-ctx.Done():
		}
	}()
	session, err := d.begin(ctx, xvnc)
	if err == nil {
		defer d.procs.end(session, endGrace)
		var watch sync.WaitGroup
		watch.Go(func() { d.watchPixels(ctx) })
		err = errDesktopEnded
		select {
		case <-ctx.Done():
		case <-session.done:
			// Programs end when their display does, and may be seen to end first.
			if c, _, gone := d.dialX(); gone == nil {
				c.Close()
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(endGrace):
			}
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		cancel(nil)
		watch.Wait()
	}
	d.change(func() { wasReady, d.up, d.ready = d.ready, false, false })
	switch err {
	case errXvncEnded:
		err = fmt.Errorf("the display %s: %s", xvnc.ended(), out.lastWords())
	case errDesktopEnded:
		err = fmt.Errorf("the session (%s) %s", d.desktop.argv[0], session.ended())
	}
	return wasReady, err
}

// Reported with the programs' own last words.
var (
	errXvncEnded    = errors.New("the display ended")
	errDesktopEnded = errors.New("the desktop ended")
)

// begin waits for the X server and for somebody to show something to, and
// starts that.
func (d *display) begin(ctx context.Context, xvnc *proc) (*proc, error) {
	if err := d.awaitX(ctx, xvnc); err != nil {
		return nil, err
	}
	d.change(func() {
		d.up, d.upAt = true, time.Now()
		if d.desktop == nil { // a display for which nobody has come is well
			d.problem = ""
		}
	})
	if !d.waitUntil(ctx, func() bool { return d.desktop != nil }) {
		return nil, context.Cause(ctx)
	}
	out, err := newOutput(d.log.With("program", "session"))
	if err != nil {
		return nil, err
	}
	defer out.write.Close()
	return d.start(d.desktop.argv, append(d.env(), d.desktop.env...), out.write)
}

// watchPixels makes the display ready when the desktop has drawn. A desktop
// that stays black is ready too, after a while: it may be meant so.
func (d *display) watchPixels(ctx context.Context) {
	probe, cancel := context.WithTimeout(ctx, plainDesktop)
	defer cancel()
	err := waitForPixels(probe, d.dialRFB)
	if ctx.Err() != nil {
		return
	}
	if err != nil && probe.Err() == nil {
		// The probe itself failed; the display may be well all the same.
		d.log.Warn("look at the display", "error", err)
		<-probe.Done()
		if ctx.Err() != nil {
			return
		}
	}
	d.change(func() { d.ready, d.readyAt, d.problem = true, time.Now(), "" })
	d.log.Info("desktop is there", "black", err != nil)
}

// prepare removes what a display leaves behind and makes what the next one
// needs.
func (d *display) prepare() error {
	number := 0
	for d.shared {
		number = firstShared + rand.IntN(lastShared-firstShared)
		if _, err := os.Lstat(d.socket(number)); err != nil {
			break
		}
	}
	d.change(func() { number, d.number = d.number, number })
	for _, n := range []int{number, d.number} {
		os.Remove(d.lock(n))
		os.Remove(d.socket(n))
	}
	for _, dir := range []string{d.dir, d.runtime} {
		removeAll(dir)
		if err := mkdir(dir, 0o700, d.account.uid, d.account.gid); err != nil {
			return err
		}
	}
	cookie, err := writeXauthority(d.xauthority(), d.account.uid, d.account.gid)
	d.change(func() { d.cookie = cookie })
	return err
}

// The numbers of displays of instances that people share.
const firstShared, lastShared = 1_000, 1_000_000

// clearX removes what the displays of an earlier start have left: the disk may
// have been captured while one ran.
func clearX(tmp string) error {
	if locks, err := filepath.Glob(filepath.Join(tmp, ".X*-lock")); err == nil {
		for _, f := range locks {
			os.Remove(f)
		}
	}
	return errors.Join(emptyPublicDir(filepath.Join(tmp, ".X11-unix")), emptyPublicDir(filepath.Join(tmp, ".ICE-unix")))
}

// emptyPublicDir empties dir, which is in a directory that everyone may write
// to and is such a directory itself. It is made by root, so that no user can
// put a socket of his own in place of the display's; what is there and not
// root's is replaced and never followed.
func emptyPublicDir(dir string) error {
	info, err := os.Lstat(dir)
	if err == nil && info.IsDir() && info.Sys().(*syscall.Stat_t).Uid == uint32(os.Geteuid()) {
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			removeAll(filepath.Join(dir, e.Name()))
		}
		return errors.Join(err, os.Chmod(dir, 0o777|fs.ModeSticky))
	}
	if err := removeAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o777|fs.ModeSticky)
}

// mkdir makes dir with exactly this mode and owner.
func mkdir(dir string, mode fs.FileMode, uid, gid int) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	return errors.Join(os.Chown(dir, uid, gid), os.Chmod(dir, mode))
}

// xvncFlags are the X server's arguments. It has no password and no TCP port:
// its socket is in a directory of the desktop's user, and so is the cookie.
func (d *display) xvncFlags() []string {
	return []string{
		":" + strconv.Itoa(d.number),
		"-geometry", d.size, "-depth", "24",
		"-auth", d.xauthority(), "-nolisten", "tcp", "-noreset",
		"-SecurityTypes", "None", "-rfbunixpath", d.rfb(), "-rfbunixmode", "0600", "-rfbport", "-1",
		"-AlwaysShared", "-AcceptSetDesktopSize=1", "-desktop", "Oriel", "-Log", "*:stderr:10", // errors and changes of state
		"-SendPrimary=0",          // what is only selected is not copied: the clipboard of the person's computer stays as it is
		"-MaxCutText", "20971520", // bytes; the most that a stack can allow (AppStream's MaximumLength)
		"-s", "0", "-dpms", // an idle desktop is not blanked: the viewer decides
	}
}

// awaitX returns when clients can connect to the X server. That is before it
// has set up its keyboard, which takes a third of its start: it answers them
// after that, and the session's programs are loaded in the meantime.
func (d *display) awaitX(ctx context.Context, xvnc *proc) error {
	timeout := time.After(displayTimeout)
	for over := false; ; {
		c, _, err := d.dialX()
		if err == nil {
			return c.Close()
		}
		if errors.Is(err, errNotOurs) {
			return err
		}
		if over {
			return errors.New("the display did not come up in time")
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timeout: // it may have come up while the agent was held up itself
			over = true
		}
	}
}

// errNotOurs: somebody listens where the X server should.
var errNotOurs = errors.New("another program listens in place of the display")

// dialX connects to the X server, and makes sure that its own user runs it.
func (d *display) dialX() (conn net.Conn, cookie []byte, err error) {
	var socket string
	d.read(func() { socket, cookie = d.socket(d.number), d.cookie })
	if d.shared { // clients try the abstract address first
		c, err := dialOwn("@"+socket, d.account.uid)
		if err != nil {
			return nil, nil, err
		}
		c.Close()
	}
	conn, err = dialOwn(socket, d.account.uid)
	return conn, cookie, err
}

// dialRFB connects to the X server's other side.
func (d *display) dialRFB() (net.Conn, error) { return dialOwn(d.rfb(), d.account.uid) }

// dialOwn connects to a unix socket on which a process of uid listens. What is
// in a directory of a user can be a link to what is another's.
func dialOwn(socket string, uid int) (net.Conn, error) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	if peer, err := peerCred(c.(*net.UnixConn)); err != nil || int(peer.Uid) != uid {
		c.Close()
		return nil, errors.Join(errNotOurs, err)
	}
	return c, nil
}

// start starts a program as the desktop's user.
func (d *display) start(argv, env []string, out *os.File) (*proc, error) {
	return d.procs.startAs(d.account, command{argv: argv, env: env, private: d.private}, out)
}

// pause ends the display, and with it every other process of the instance,
// until resume.
func (d *display) pause(ctx context.Context) error {
	d.change(func() {
		d.paused, d.up, d.ready = true, false, false
		if d.endLife != nil {
			d.endLife()
		}
	})
	d.procs.endAll(endGrace)
	if !d.waitUntil(ctx, func() bool { return !d.alive }) {
		return fmt.Errorf("end the desktop: %w", ctx.Err())
	}
	d.procs.endAll(endGrace) // what a life that was just beginning has started
	return nil
}

// resume starts the display again after pause.
func (d *display) resume() { d.change(func() { d.paused = false }) }
