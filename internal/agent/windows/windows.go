// Package windows sees and changes the windows of an X display as a task
// switcher does, by the Extended Window Manager Hints (freedesktop.org).
package windows

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxWindows = 256
	maxText    = 512 // bytes of a title or class
	// settle is how long after a change the windows are looked at again at the
	// earliest: a program may change its title all the time.
	settle = 100 * time.Millisecond
	// answer is how long the display may take.
	answer = 10 * time.Second
)

// Window is one window that a person can switch to.
type Window struct {
	ID     uint32
	PID    int // as its program says; 0 when it does not
	Title  string
	Class  string
	Active bool
}

// ErrNoWindow means that there is no such window (any more).
var ErrNoWindow = errors.New("the session has no such window")

// Watch calls seen with the windows of the display behind conn, as soon as it
// has a window manager and after each change, until ctx ends or the display does. It closes conn. It costs
// nothing while nothing changes.
func Watch(ctx context.Context, conn net.Conn, cookie []byte, seen func([]Window)) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	err := watch(ctx, conn, cookie, seen)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func watch(ctx context.Context, conn net.Conn, cookie []byte, seen func([]Window)) error {
	conn.SetDeadline(time.Now().Add(answer))
	c, err := dial(conn, cookie)
	if err != nil {
		return err
	}
	if err := c.listen(c.root); err != nil {
		return err
	}
	heard := map[uint32]bool{}
	for {
		conn.SetDeadline(time.Now().Add(answer))
		c.changed = false
		manager, err := c.numbers(c.root, "_NET_SUPPORTING_WM_CHECK")
		if err != nil {
			return err
		}
		if len(manager) > 0 {
			list, err := c.windows(heard)
			if err != nil {
				return err
			}
			seen(list)
		}
		conn.SetDeadline(time.Time{})
		began := time.Now()
		for !c.changed {
			if _, _, err := c.next(); err != nil {
				return err
			}
		}
		select {
		case <-time.After(settle - time.Since(began)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Activate brings a window to the front.
func Activate(ctx context.Context, conn net.Conn, cookie []byte, window uint32) error {
	const fromPager = 2
	return tell(ctx, conn, cookie, window, "_NET_ACTIVE_WINDOW", fromPager)
}

// Close asks a window to close; its program may ask back.
func Close(ctx context.Context, conn net.Conn, cookie []byte, window uint32) error {
	return tell(ctx, conn, cookie, window, "_NET_CLOSE_WINDOW", 0, 2)
}

func tell(ctx context.Context, conn net.Conn, cookie []byte, window uint32, message string, data ...uint32) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.SetDeadline(time.Now().Add(answer))
	c, err := dial(conn, cookie)
	if err != nil {
		return err
	}
	list, err := c.numbers(c.root, "_NET_CLIENT_LIST")
	if err != nil {
		return err
	}
	if !slices.Contains(list, window) {
		return ErrNoWindow
	}
	return c.tell(window, message, data...)
}

// windows reads the list. It asks for news of windows that were not heard of.
func (c *client) windows(heard map[uint32]bool) ([]Window, error) {
	ids, err := c.numbers(c.root, "_NET_CLIENT_LIST")
	if err != nil {
		return nil, err
	}
	active, err := c.numbers(c.root, "_NET_ACTIVE_WINDOW")
	if err != nil {
		return nil, err
	}
	ids = ids[:min(len(ids), maxWindows)]
	for id := range heard {
		if !slices.Contains(ids, id) {
			delete(heard, id)
		}
	}
	list := []Window{}
	for _, id := range ids {
		if !heard[id] {
			heard[id] = true
			if err := c.listen(id); err != nil {
				return nil, err
			}
		}
		w, ok, err := c.window(id)
		if errors.Is(err, errRefused) {
			continue // it closed meanwhile
		}
		if err != nil {
			return nil, err
		}
		if w.Active = len(active) > 0 && active[0] == id; ok {
			list = append(list, w)
		}
	}
	return list, nil
}

// window reads one window. It is not ok when nobody would switch to it.
func (c *client) window(id uint32) (w Window, ok bool, err error) {
	has := func(property string, values ...string) bool {
		list, e := c.numbers(id, property)
		err = errors.Join(err, e)
		return slices.ContainsFunc(values, func(v string) bool { return slices.Contains(list, c.atoms[v]) })
	}
	text := func(property string) string {
		b, e := c.property(id, property)
		err = errors.Join(err, e)
		return clean(b)
	}
	hidden := has("_NET_WM_WINDOW_TYPE", "_NET_WM_WINDOW_TYPE_DESKTOP", "_NET_WM_WINDOW_TYPE_DOCK") || has("_NET_WM_STATE", "_NET_WM_STATE_SKIP_TASKBAR")
	w = Window{ID: id, Title: text("_NET_WM_NAME")}
	if w.Title == "" {
		w.Title = text("WM_NAME")
	}
	// The instance's name, a NUL, the class's name, a NUL.
	names := strings.Split(text("WM_CLASS"), "\x00")
	w.Class = names[min(1, len(names)-1)]
	pids, e := c.numbers(id, "_NET_WM_PID")
	if len(pids) > 0 && pids[0] <= 1<<22 {
		w.PID = int(pids[0])
	}
	return w, !hidden, errors.Join(err, e)
}

// clean makes a property a text of bounded length.
func clean(b []byte) string {
	s := strings.ToValidUTF8(string(b), "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	s = s[:maxText]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}
