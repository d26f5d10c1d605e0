package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/oriel-project/oriel/internal/agentapi"
)

const (
	displayTimeout = 15 * time.Second       // for Xvnc to come up
	plainDesktop   = 5 * time.Second        // a desktop still black after this is meant to be black
	healthy        = 30 * time.Second       // a display that lived so long starts the back-off anew
	firstBackOff   = 100 * time.Millisecond // doubled with each failure
	lastBackOff    = 10 * time.Second
	endGrace       = 2 * time.Second // from TERM to KILL
	causeGrace     = 50 * time.Millisecond
	hopeless       = 3 // failed starts in a row that make a Problem
)

// display keeps the X server and the desktop's session running.
//
// One life of it (live): clean up → Xvnc → it listens → session → pixels: ready.
// When either of the two processes ends, both are ended, and the next life
// begins after a back-off. Pause and resume stand between lives.
type display struct {
	procs   *procs
	paths   paths
	config  agentapi.Config
	account account
	log     *slog.Logger

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each change of what follows
	paused   bool
	alive    bool // a life is going on
	ready    bool
	readyAt  time.Time
	restarts int
	lastErr  string
	problem  string
	endLife  context.CancelFunc
}

func newDisplay(ps *procs, p paths, c agentapi.Config, a account, log *slog.Logger) *display {
	return &display{procs: ps, paths: p, config: c, account: a, log: log, changed: make(chan struct{})}
}

// change runs f under the lock and wakes whoever waits for a change.
func (d *display) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
	close(d.changed)
	d.changed = make(chan struct{})
}

// waitUntil returns true when cond (called under the lock) holds, false when
// ctx ends first.
func (d *display) waitUntil(ctx context.Context, cond func() bool) bool {
	for {
		d.mu.Lock()
		ok, changed := cond(), d.changed
		d.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
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
			d.alive, d.ready = false, false
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
	xvnc, err := d.start(d.paths.xvnc, d.xvncFlags(), out.write)
	if err != nil {
		return false, err
	}
	defer d.procs.end(xvnc, endGrace)
	switch err := d.awaitX(ctx, xvnc); {
	case err == errXvncEnded:
		return false, fmt.Errorf("the display %s: %s", xvnc.ended(), out.lastLine())
	case err != nil:
		return false, err
	}

	session, err := d.startSession()
	if err != nil {
		return false, err
	}
	defer d.procs.end(session, endGrace)
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { d.watchPixels(ctx) })

	select {
	case <-xvnc.done:
		err = fmt.Errorf("the display %s: %s", xvnc.ended(), out.lastLine())
	case <-session.done:
		// Programs end when their display does, and may be seen to end first.
		select {
		case <-xvnc.done:
			err = fmt.Errorf("the display %s: %s", xvnc.ended(), out.lastLine())
		case <-time.After(causeGrace):
			err = fmt.Errorf("the session (%s) %s", d.paths.session, session.ended())
		}
	case <-ctx.Done():
		err = ctx.Err()
	}
	cancel()
	watch.Wait()
	d.change(func() { wasReady, d.ready = d.ready, false })
	return wasReady, err
}

// watchPixels makes the display ready when the desktop has drawn. A desktop
// that stays black is ready too, after a while: it may be meant so.
func (d *display) watchPixels(ctx context.Context) {
	probe, cancel := context.WithTimeout(ctx, plainDesktop)
	defer cancel()
	err := waitForPixels(probe, d.paths.rfb())
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

// prepare removes what a display leaves behind (the agent may be starting from
// a disk that was captured while one ran) and makes what the next one needs.
func (d *display) prepare() error {
	p, a := d.paths, d.account
	if locks, err := filepath.Glob(filepath.Join(p.tmp, ".X*-lock")); err == nil {
		for _, f := range locks {
			os.Remove(f)
		}
	}
	for _, dir := range []string{p.xSocketDir(), p.iceSocketDir()} {
		if err := emptyPublicDir(dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{p.displayDir(), p.userRuntime} {
		os.RemoveAll(dir)
		if err := mkdir(dir, 0o700, a.uid, a.gid); err != nil {
			return err
		}
	}
	return writeXauthority(p.xauthority(), a.uid, a.gid)
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
			os.RemoveAll(filepath.Join(dir, e.Name()))
		}
		return errors.Join(err, os.Chmod(dir, 0o777|fs.ModeSticky))
	}
	if err := os.RemoveAll(dir); err != nil {
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
		"Xvnc", ":0",
		"-geometry", strconv.Itoa(d.config.Width) + "x" + strconv.Itoa(d.config.Height), "-depth", "24",
		"-auth", d.paths.xauthority(), "-nolisten", "tcp", "-noreset",
		"-SecurityTypes", "None", "-rfbunixpath", d.paths.rfb(), "-rfbunixmode", "0600", "-rfbport", "-1",
		"-AlwaysShared", "-AcceptSetDesktopSize=1", "-desktop", "Oriel", "-Log", "*:stderr:10", // errors and changes of state
		"-s", "0", "-dpms", // an idle desktop is not blanked: the viewer decides
	}
}

// awaitX returns when clients can connect to the X server. That is before it
// has set up its keyboard, which takes a third of its start: it answers them
// after that, and the session's programs are loaded in the meantime.
func (d *display) awaitX(ctx context.Context, xvnc *proc) error {
	ctx, cancel := context.WithTimeout(ctx, displayTimeout)
	defer cancel()
	for {
		c, err := net.Dial("unix", filepath.Join(d.paths.xSocketDir(), "X0"))
		if err == nil {
			return c.Close()
		}
		select {
		case <-time.After(time.Millisecond):
		case <-xvnc.done:
			return errXvncEnded
		case <-ctx.Done():
			return errors.New("the display did not come up in time")
		}
	}
}

// errXvncEnded is reported with the server's own last words.
var errXvncEnded = errors.New("the display ended")

// startSession starts the desktop.
func (d *display) startSession() (*proc, error) {
	out, err := newOutput(d.log.With("program", "session"))
	if err != nil {
		return nil, err
	}
	defer out.write.Close()
	return d.start(d.paths.session, []string{d.paths.session}, out.write)
}

// start starts a program as the desktop's user.
func (d *display) start(path string, argv []string, out *os.File) (*proc, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	c := command{
		path: path, argv: argv, dir: "/",
		env:   sessionEnv(d.config, d.account, d.paths),
		files: []*os.File{null, out, out},
	}
	if info, err := os.Stat(d.account.home); err == nil && info.IsDir() {
		c.dir = d.account.home
	}
	if d.account.uid != os.Geteuid() {
		c.cred = &syscall.Credential{Uid: uint32(d.account.uid), Gid: uint32(d.account.gid), Groups: d.account.groups}
	}
	return d.procs.start(c)
}

// pause ends the display, and with it every other process of the instance,
// until resume.
func (d *display) pause(ctx context.Context) error {
	d.change(func() {
		d.paused, d.ready = true, false
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
