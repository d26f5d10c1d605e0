package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/oriel-project/oriel/internal/agent/catalogue"
	"github.com/oriel-project/oriel/internal/agent/windows"
	"github.com/oriel-project/oriel/internal/agentapi"
)

const (
	watchWithout = time.Minute // how long windows are watched after somebody asked
	maxLaunched  = 256         // processes that are remembered
	// starting is how long an application may take to show a window before
	// launching it starts it once more.
	starting = 10 * time.Second
	// lookWithin is how long launching looks for a running instance.
	lookWithin = 2 * time.Second
)

// windowWatch is what is known of a session's windows. They are watched while
// somebody asks.
type windowWatch struct {
	watch
	on      bool
	closed  bool
	timer   *time.Timer
	stop    context.CancelFunc
	number  int // of the list
	known   bool
	windows []agentapi.Window
}

// watchWindows has the windows watched from now on, for a while.
func (s *session) watchWindows() {
	w := &s.windows
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	if w.on {
		w.timer.Reset(watchWithout)
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	w.on, w.stop = true, cancel
	w.timer = time.AfterFunc(watchWithout, cancel)
	go func() {
		defer cancel()
		for ctx.Err() == nil {
			err := s.watchDisplay(ctx)
			if ctx.Err() == nil {
				s.log.Info("watch the windows", "error", err)
				s.windows.set(nil, false)
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
			}
		}
		w.change(func() { w.on, w.known = false, false })
	}()
}

// watchDisplay follows the windows of one life of the display.
func (s *session) watchDisplay(ctx context.Context) error {
	d := s.seat.display
	if !d.waitUntil(ctx, func() bool { return d.up }) {
		return ctx.Err()
	}
	conn, cookie, err := d.dialX()
	if err != nil {
		return err
	}
	return windows.Watch(ctx, conn, cookie, func(list []windows.Window) {
		entries, _ := catalogue.Open(s.agent.paths.catalogue).Entries()
		found := make([]agentapi.Window, 0, len(list))
		for _, w := range list {
			found = append(found, agentapi.Window{ID: w.ID, Title: w.Title, Class: w.Class, Active: w.Active,
				Application: s.apps.of(w.PID, entries)})
		}
		s.windows.set(found, true)
	})
}

// set has the list replaced; a new list has a new version.
func (w *windowWatch) set(list []agentapi.Window, known bool) {
	w.change(func() {
		if !w.known || !slices.Equal(w.windows, list) {
			w.number++
		}
		w.windows, w.known = list, known
	})
}

// close ends the watching for good.
func (w *windowWatch) close() {
	w.read(func() {
		w.closed = true
		if w.on {
			w.timer.Stop()
			w.stop()
		}
	})
}

// list waits until the list is known and of another version than after, or ctx
// ends, and returns it.
func (s *session) list(ctx context.Context, after string) (list agentapi.Windows, known bool) {
	w := &s.windows
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	s.watchWindows()
	version := func() string { return s.apps.start + strconv.Itoa(w.number) }
	w.waitUntil(ctx, func() bool { return w.known && version() != after })
	w.read(func() {
		list, known = agentapi.Windows{Version: version(), Windows: slices.Clone(w.windows)}, w.known
	})
	return list, known
}

// awaitManager waits for the window manager, for a while: it does not give its
// attention to windows that were there before it.
func (s *session) awaitManager() {
	ctx, cancel := context.WithTimeout(s.ctx, managerTimeout)
	defer cancel()
	s.list(ctx, "")
}

// tellWindow does something to a window.
func (s *session) tellWindow(ctx context.Context, id uint32, action agentapi.WindowAction) error {
	do := windows.Activate
	switch action {
	case agentapi.WindowActivate:
	case agentapi.WindowClose:
		do = windows.Close
	default:
		return fmt.Errorf("%w: %.32q is not one of %q, %q", errNoAction, action, agentapi.WindowActivate, agentapi.WindowClose)
	}
	conn, cookie, err := s.seat.display.dialX()
	if err != nil {
		return agentapi.ErrDisplayDown
	}
	return do(ctx, conn, cookie, id)
}

var errNoAction = errors.New("the action is not known")

// launched knows which process belongs to which application.
type launched struct {
	mu    sync.Mutex
	start string // makes versions of another session different
	procs []launchedProc
}

type launchedProc struct {
	*proc
	application string
	at          time.Time
}

func (l *launched) add(p *proc, application string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.procs = append(l.procs, launchedProc{p, application, time.Now()})
	l.procs = l.procs[max(0, len(l.procs)-maxLaunched):]
}

// isStarting tells whether the application was started a moment ago.
func (l *launched) isStarting(application string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.procs, func(p launchedProc) bool {
		select {
		case <-p.done:
			return false
		default:
			return p.application == application && time.Since(p.at) < starting
		}
	})
}

// of names the application whose process pid is: one that a launched program
// has started, or else one that runs the application's file.
func (l *launched) of(pid int, entries []catalogue.Entry) string {
	if pid <= 1 {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, n := pid, 0; at > 1 && n < 32; n++ {
		parent, group := familyOf(at)
		for _, p := range slices.Backward(l.procs) {
			// The group outlives the process that began it.
			if p.pid == at || p.pid == group {
				return p.application
			}
		}
		at = parent
	}
	text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	program, _, _ := strings.Cut(string(text), "\x00")
	for _, e := range entries {
		if program != "" && (program == e.AbsoluteAppPath || program == filepath.Base(e.AbsoluteAppPath)) {
			return e.Name
		}
	}
	return ""
}

// familyOf reads a process's parent and session.
func familyOf(pid int) (parent, session int) {
	text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	// The name, in parentheses, may have anything in it.
	_, rest, _ := strings.Cut(string(text[max(0, strings.LastIndexByte(string(text), ')')):]), " ")
	f := strings.Fields(rest)
	if len(f) < 4 {
		return 0, 0
	}
	parent, _ = strconv.Atoi(f[1])
	session, _ = strconv.Atoi(f[3])
	return parent, session
}

// errNoApplication begins the refusal to launch what is not there.
var errNoApplication = errors.New("the image's catalogue has no application of the name")

// launch starts an application of the catalogue. Where there is no desktop, one
// that runs is brought to the front instead.
func (s *session) launch(ctx context.Context, name string) error {
	e, err := catalogue.Open(s.agent.paths.catalogue).Find(name)
	if errors.Is(err, catalogue.ErrNotFound) {
		return fmt.Errorf("%w %.64q", errNoApplication, name)
	}
	if err != nil {
		return err
	}
	if s.spec.View == agentapi.ViewApp {
		soon, cancel := context.WithTimeout(ctx, lookWithin)
		list, _ := s.list(soon, "")
		cancel()
		for _, w := range slices.Backward(list.Windows) {
			if w.Application == name {
				return s.tellWindow(ctx, w.ID, agentapi.WindowActivate)
			}
		}
		if s.apps.isStarting(name) {
			return nil
		}
	}
	argv, err := e.Argv()
	if err != nil {
		return err
	}
	var up bool
	s.seat.display.read(func() { up = s.seat.display.up && s.seat.display.desktop != nil })
	if !up || s.ctx.Err() != nil {
		return agentapi.ErrDisplayDown
	}
	out, err := newOutput(s.log.With("program", name))
	if err != nil {
		return err
	}
	defer out.write.Close()
	p, err := s.agent.procs.startAs(s.account, command{
		argv: argv, dir: e.WorkingDirectory,
		env: s.programEnv(), private: true,
	}, out.write)
	if err != nil {
		return fmt.Errorf("launch %s: %w", name, err)
	}
	s.apps.add(p, name)
	s.log.Info("application launched", "application", name)
	return nil
}
