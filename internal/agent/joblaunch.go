package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/agent/catalogue"
	"github.com/oriel-project/oriel/internal/agent/transcript"
	"github.com/oriel-project/oriel/internal/agent/windows"
	"github.com/oriel-project/oriel/internal/agentapi"
)

const (
	lookEvery = 100 * time.Millisecond // at the windows of a program that starts
	// handOver is how long a window is waited for when a program has ended well
	// and nothing of it is left: it may have asked one that ran already for it.
	handOver = 5 * time.Second
	busTime  = 30 * time.Second // for a bus to come up
	maxWords = 200              // bytes of a program's last words that are reported
)

// launch is one try of an application of the catalogue. It runs as the desktop's
// user and on his desktop, but otherwise as in a session in which nobody has been
// yet: with a new home, a new folder for temporary files and a bus of its own. So
// it leaves nothing in the user's home, which becomes part of images, and cannot
// hand its work over to a program that runs.
type launch struct {
	agent   *agent
	account account // the desktop's user, with the new home
	dir     string  // what is in it is the launch's
	output  *transcript.Transcript
	look    *windows.Looker
	before  []windows.Seen
	program *programTree
	bus     *programTree // nil when the image has none
}

// tryLaunch does a step that launches an application: it must draw a window, and
// is ended again.
func (a *agent) tryLaunch(ctx context.Context, step agentapi.JobStep, output *transcript.Transcript) (err error) {
	program, err := a.launchable(step.Launch)
	if err != nil {
		return err
	}
	d, problem := a.display, ""
	if !d.waitUntil(ctx, func() bool { problem = d.problem; return d.ready || problem != "" }) {
		return fmt.Errorf("there was no desktop: %w", context.Cause(ctx))
	}
	if problem != "" {
		return errors.New(problem)
	}
	conn, cookie, err := d.dialX()
	if err != nil {
		return agentapi.ErrDisplayDown
	}
	l := &launch{agent: a, account: d.account, output: output}
	if l.look, err = windows.Look(ctx, conn, cookie); err != nil {
		return l.displayError(ctx, err)
	}
	defer l.look.Close()
	if err := l.makePlace(); err != nil {
		return fmt.Errorf("make a home for the application: %w", err)
	}
	defer removeAll(l.dir)

	env := slices.DeleteFunc(d.env(), func(v string) bool { return strings.HasPrefix(v, "XDG_RUNTIME_DIR=") })
	program.env = slices.Concat(env, desktopEnv(a.config, a.paths), imageEnv(a.paths.environment, l.account.home),
		[]string{"XDG_RUNTIME_DIR=" + l.runtime(), "TMPDIR=" + l.tmp()})
	if err := l.startBus(ctx, program.env); err != nil {
		return err
	}
	if l.bus != nil {
		defer func() { err = l.bus.end(err) }()
	}
	// Before there is a window manager, the list of windows is not complete.
	soon, cancel := context.WithTimeout(ctx, managerTimeout)
	defer cancel()
	if l.before, err = l.look.AwaitWindows(soon); err != nil {
		return l.displayError(ctx, err)
	}
	if l.program, err = a.startTree(l.account, program, output); err != nil {
		return err
	}
	return l.program.end(l.awaitWindow(ctx))
}

// launchable finds what the catalogue says of an application, and what can be
// said of it before it is started.
func (a *agent) launchable(name string) (command, error) {
	e, err := catalogue.Open(a.paths.catalogue).Find(name)
	if errors.Is(err, catalogue.ErrNotFound) {
		return command{}, fmt.Errorf("the catalogue has no application %.64q; add it with AppStreamImageAssistant add-application", name)
	}
	if err != nil {
		return command{}, err
	}
	argv, err := e.Argv()
	if err != nil {
		return command{}, err
	}
	switch info, err := os.Stat(e.AbsoluteAppPath); {
	case errors.Is(err, os.ErrNotExist):
		return command{}, fmt.Errorf("the file %s does not exist", e.AbsoluteAppPath)
	case err != nil:
		return command{}, err
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return command{}, fmt.Errorf("%s is not an executable file", e.AbsoluteAppPath)
	}
	return command{argv: argv, dir: e.WorkingDirectory}, nil
}

// launchPattern is for the names of launches' folders.
const launchPattern = "oriel-launch-*"

func (l *launch) tmp() string     { return filepath.Join(l.dir, "tmp") }
func (l *launch) runtime() string { return filepath.Join(l.dir, "run") }

// makePlace makes the launch's folders.
func (l *launch) makePlace() (err error) {
	if l.dir, err = os.MkdirTemp(l.agent.paths.tmp, launchPattern); err != nil {
		return err
	}
	user := l.account
	l.account.home = filepath.Join(l.dir, "home")
	err = errors.Join(
		mkdir(l.account.home, 0o700, os.Geteuid(), os.Getegid()),
		furnish(l.account, filepath.Join(l.agent.paths.etc, "skel")),
		mkdir(l.tmp(), 0o700, user.uid, user.gid),
		mkdir(l.runtime(), 0o700, user.uid, user.gid),
		os.Chmod(l.dir, 0o711),
	)
	if err != nil {
		removeAll(l.dir)
	}
	return err
}

// removeLaunches removes the folders of launches that the machine's end has
// interrupted.
func (a *agent) removeLaunches() {
	left, _ := filepath.Glob(filepath.Join(a.paths.tmp, launchPattern))
	for _, dir := range left {
		if info, err := os.Lstat(dir); err == nil {
			if uid, _ := ownerOf(info); uid == os.Geteuid() {
				removeAll(dir)
			}
		}
	}
}

// startBus starts a bus for the programs of the launch, if the image has one for
// desktops.
func (l *launch) startBus(ctx context.Context, env []string) (err error) {
	p := l.agent.paths
	if unix.Access(p.bus, unix.X_OK) != nil || unix.Access(p.busConfig, unix.R_OK) != nil {
		return nil
	}
	l.bus, err = l.agent.startTree(l.account, command{
		argv: []string{p.bus, "--config-file=" + p.busConfig, "--nofork", "--nopidfile", "--nosyslog"}, env: slices.Clone(env),
	}, io.Discard)
	if err != nil {
		return fmt.Errorf("start a bus for the application: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, busTime, errors.New("the application's bus did not come up"))
	defer cancel()
	for {
		if _, err := os.Lstat(filepath.Join(l.runtime(), "bus")); err == nil {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
			continue
		case <-l.bus.ended:
			err = fmt.Errorf("the application's bus could not be started: %w", l.bus.failure())
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		err, l.bus = l.bus.end(err), nil
		return err
	}
}

// awaitWindow waits until the application has drawn a window.
func (l *launch) awaitWindow(ctx context.Context) error {
	began := time.Now()
	var over time.Time // when it had ended, and all that came of it
	var last sight
	for {
		// What has ended is asked first: its last window may be there already.
		if l.hasEnded() && (l.program.err != nil || !l.program.how.Succeeded()) {
			return l.failure()
		}
		if l.program.over() && over.IsZero() {
			over = time.Now()
		}
		now, err := l.see(ctx, !over.IsZero())
		switch {
		case err == nil && now == sawWindow:
			return nil
		case err == nil:
			last = now
		case ctx.Err() == nil:
			return l.displayError(ctx, err)
		}
		if !over.IsZero() && time.Since(over) > handOver {
			return l.failure()
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			took := time.Since(began).Round(time.Second)
			switch {
			case !errors.Is(ctx.Err(), context.DeadlineExceeded):
				return context.Cause(ctx)
			case last == sawLesser:
				return nil
			case last == sawEmpty:
				return fmt.Errorf("its window was still empty after %v", took)
			default:
				return fmt.Errorf("it drew no window within %v", took)
			}
		}
	}
}

// sight is the best that is to be seen of an application.
type sight int

const (
	sawNothing sight = iota
	sawEmpty         // a window in which nothing is drawn
	sawLesser        // a splash screen, or a question before all else
	sawWindow
)

// see looks at the application's windows. When nothing of it is left, windows
// that are new are taken for its: a program that ran already may have opened one
// for it, which is asked to close it again.
func (l *launch) see(ctx context.Context, over bool) (best sight, err error) {
	list, err := l.look.Windows()
	if err != nil {
		return sawNothing, err
	}
	for _, w := range list {
		if slices.ContainsFunc(l.before, func(b windows.Seen) bool { return b.ID == w.ID }) {
			continue
		}
		own := l.program.has(w.PID) || l.bus != nil && l.bus.has(w.PID)
		if !own && !over {
			continue // somebody at the desktop has opened it
		}
		drawn, err := l.look.Drawn(w.ID)
		switch {
		case err != nil:
			return sawNothing, err
		case !drawn:
			best = max(best, sawEmpty)
		case !w.Main:
			best = max(best, sawLesser)
		default:
			if !own {
				l.closeWindow(ctx, w.ID)
			}
			return sawWindow, nil
		}
	}
	return best, nil
}

func (l *launch) hasEnded() bool {
	select {
	case <-l.program.ended:
		return true
	default:
		return false
	}
}

// failure says how the application ended that should have drawn a window.
func (l *launch) failure() error {
	<-l.program.ended
	l.program.output.settle()
	err := l.program.failure()
	if l.program.err == nil && l.program.how.Succeeded() {
		err = errors.New("it ended with code 0 and without a window")
	}
	if words := l.output.LastLine(); words != "" {
		err = fmt.Errorf("%w: %s", err, strings.ToValidUTF8(words[:min(len(words), maxWords)], ""))
	}
	return err
}

// displayError says why the display could not be looked at.
func (l *launch) displayError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("the display ended meanwhile, or does not answer: %w", err)
}

// closeWindow asks the window of another program to close, which was opened for
// the application.
func (l *launch) closeWindow(ctx context.Context, id uint32) {
	if conn, cookie, err := l.agent.display.dialX(); err == nil {
		windows.Close(ctx, conn, cookie, id)
	}
}
