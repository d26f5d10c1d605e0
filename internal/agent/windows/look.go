package windows

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"time"
)

// Seen is a window as a Looker sees it.
type Seen struct {
	ID    uint32
	PID   int // as the kernel has told the display; else as its program says; else 0
	Title string
	// Main: it is neither a splash screen nor a dialogue nor anything else that
	// only goes with a program's real window.
	Main bool
}

// Looker looks at the windows of a display now and then.
type Looker struct {
	c         *client
	stop      func() bool
	resources byte // the opcode of the X-Resource extension; 0 when the display has none
}

// Look connects over conn, which Close closes, as does the end of ctx.
func Look(ctx context.Context, conn net.Conn, cookie []byte) (*Looker, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(answer))
	c, err := dial(conn, cookie)
	l := &Looker{c: c, stop: stop}
	if err == nil {
		l.resources, err = c.extension("X-Resource")
	}
	if err != nil {
		l.stop()
		conn.Close()
		return nil, err
	}
	c.most = maxPixels
	return l, nil
}

// Close ends the connection.
func (l *Looker) Close() {
	l.stop()
	l.c.conn.Close()
}

// AwaitWindows is Windows when there is a window manager, or ctx ends.
func (l *Looker) AwaitWindows(ctx context.Context) ([]Seen, error) {
	for {
		l.c.conn.SetDeadline(time.Now().Add(answer))
		manager, err := l.c.numbers(l.c.root, "_NET_SUPPORTING_WM_CHECK")
		if err != nil {
			return nil, err
		}
		if len(manager) > 0 {
			return l.Windows()
		}
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			return l.Windows()
		}
	}
}

// Windows gives the windows of programs; without a window manager, there is none.
func (l *Looker) Windows() ([]Seen, error) {
	l.c.conn.SetDeadline(time.Now().Add(answer))
	ids, err := l.c.numbers(l.c.root, "_NET_CLIENT_LIST")
	if err != nil {
		return nil, err
	}
	var list []Seen
	for _, id := range ids[:min(len(ids), maxWindows)] {
		s, ok, err := l.look(id)
		switch {
		case errors.Is(err, errRefused): // it has closed meanwhile
		case err != nil:
			return nil, err
		case ok:
			list = append(list, s)
		}
	}
	return list, nil
}

// look looks at one window. It is not ok when it is the desktop's or a panel's.
func (l *Looker) look(id uint32) (s Seen, ok bool, err error) {
	w, switchable, err := l.c.window(id)
	if err != nil {
		return Seen{}, false, err
	}
	types, err := l.c.numbers(id, "_NET_WM_WINDOW_TYPE")
	if err != nil {
		return Seen{}, false, err
	}
	is := func(name string) bool { return slices.Contains(types, l.c.atoms[name]) }
	s = Seen{ID: id, PID: w.PID, Title: w.Title, Main: switchable && (len(types) == 0 || is("_NET_WM_WINDOW_TYPE_NORMAL"))}
	err = l.askOwner(&s)
	return s, !is("_NET_WM_WINDOW_TYPE_DESKTOP") && !is("_NET_WM_WINDOW_TYPE_DOCK"), err
}

// askOwner asks the display whose window it is: a program in a name space of its
// own does not know its number here, and others do not say it.
func (l *Looker) askOwner(s *Seen) error {
	if l.resources == 0 {
		return nil
	}
	const (
		queryClientIDs = 4
		localClientPID = 1 << 1
	)
	body := order.AppendUint32(nil, 1)
	body = order.AppendUint32(body, s.ID)
	reply, err := l.c.call(l.resources, queryClientIDs, order.AppendUint32(body, localClientPID))
	if err != nil {
		return err
	}
	// The number of answers; each is the question, a length and the values.
	if len(reply) >= 48 && order.Uint32(reply[8:]) > 0 && order.Uint32(reply[40:]) == 4 {
		if pid := order.Uint32(reply[44:]); pid > 0 && pid <= 1<<22 {
			s.PID = int(pid)
		}
	}
	return nil
}

// Drawn tells whether a window is on the screen and has more than one colour.
func (l *Looker) Drawn(id uint32) (bool, error) {
	l.c.conn.SetDeadline(time.Now().Add(answer))
	drawn, err := l.c.drawn(id)
	if errors.Is(err, errRefused) { // it has closed, or moved while it was looked at
		return false, nil
	}
	return drawn, err
}

// maxPixels bounds how many bytes of a window are read at a time: a row of the
// largest screen fits.
const maxPixels = 256 << 10

func (c *client) drawn(id uint32) (bool, error) {
	window := order.AppendUint32(nil, id)
	attributes, err := c.call(opGetWindowAttributes, 0, window)
	if err != nil {
		return false, err
	}
	const viewable = 2
	if len(attributes) < 44 || attributes[26] != viewable {
		return false, nil
	}
	geometry, err := c.call(opGetGeometry, 0, window)
	if err != nil {
		return false, err
	}
	width, height := int(order.Uint16(geometry[16:])), int(order.Uint16(geometry[18:]))
	place, err := c.call(opTranslateCoordinates, 0, order.AppendUint32(order.AppendUint32(slices.Clone(window), c.root), 0))
	if err != nil {
		return false, err
	}
	screen, err := c.call(opGetGeometry, 0, order.AppendUint32(nil, c.root))
	if err != nil {
		return false, err
	}
	// Of the window, what is on the screen.
	x, y := int(int16(order.Uint16(place[12:]))), int(int16(order.Uint16(place[14:])))
	left, top := max(0, -x), max(0, -y)
	right, bottom := min(width, int(order.Uint16(screen[16:]))-x), min(height, int(order.Uint16(screen[18:]))-y)
	if left >= right || top >= bottom {
		return false, nil
	}
	rows := max(1, maxPixels/2/(4*(right-left)))
	var first []byte
	for ; top < bottom; top += rows {
		n := min(rows, bottom-top)
		body := slices.Clone(window)
		for _, v := range []int{left, top, right - left, n} {
			body = order.AppendUint16(body, uint16(v))
		}
		const zPixmap = 2
		picture, err := c.call(opGetImage, zPixmap, order.AppendUint32(body, 0xffffff)) // of each pixel, what is its colour
		if err != nil {
			return false, err
		}
		pixels := picture[32:]
		if len(pixels) != 4*n*(right-left) {
			return false, errors.New("x11: the display has another format of pictures than 32 bits a pixel")
		}
		if first == nil {
			first = bytes.Clone(pixels[:4])
		}
		for ; len(pixels) > 0; pixels = pixels[4:] {
			if !bytes.Equal(pixels[:4], first) {
				return true, nil
			}
		}
	}
	return false, nil
}

// extension gives the opcode of an extension; 0 when the display does not have
// it.
func (c *client) extension(name string) (byte, error) {
	body := order.AppendUint16(nil, uint16(len(name)))
	reply, err := c.call(opQueryExtension, 0, pad(append(append(body, 0, 0), name...)))
	if err != nil || reply[8] == 0 {
		return 0, err
	}
	return reply[9], nil
}
