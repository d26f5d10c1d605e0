package windows

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

const root = 77

// display is an X server that knows properties and plain pictures only.
type display struct {
	mu    sync.Mutex
	atoms []string // an atom's number is its place, from 1
	props map[uint32]map[string][]byte
	told  [][]byte // SendEvent
	conns []net.Conn

	pictures map[uint32]picture // of windows that are on the screen
	pids     map[uint32]uint32  // as the kernel has told; nil when the display cannot say
}

// picture is what a window shows: dots in a colour of their own, and else black.
type picture struct {
	x, y, width, height int
	dots                map[[2]int]bool // by column and row
}

const (
	screenWidth, screenHeight = 1000, 700
	opResources               = 150
)

func newDisplay() *display {
	d := &display{props: map[uint32]map[string][]byte{}}
	d.set(root, "_NET_SUPPORTING_WM_CHECK", d.words(5))
	return d
}

func (d *display) words(list ...uint32) (b []byte) {
	for _, v := range list {
		b = order.AppendUint32(b, v)
	}
	return b
}

func (d *display) atom(name string) uint32 {
	if n := slices.Index(d.atoms, name); n >= 0 {
		return uint32(n + 1)
	}
	d.atoms = append(d.atoms, name)
	return uint32(len(d.atoms))
}

func (d *display) set(window uint32, name string, value []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.props[window] == nil {
		d.props[window] = map[string][]byte{}
	}
	d.props[window][name] = value
	event := append([]byte{kindPropertyNotify, 0, 0, 0}, d.words(window, d.atom(name), 0, 0, 0, 0, 0)...)
	for _, c := range d.conns {
		c.Write(event)
	}
}

// window adds a window, or changes its title.
func (d *display) window(id uint32, title string, active bool) {
	d.set(id, "_NET_WM_NAME", []byte(title))
	d.set(id, "WM_CLASS", []byte("instance\x00Class\x00"))
	d.set(id, "_NET_WM_PID", d.words(1000+id))
	if active {
		d.set(root, "_NET_ACTIVE_WINDOW", d.words(id))
	}
}

// dial connects; the display serves until its end is closed.
func (d *display) dial() net.Conn {
	here, there := net.Pipe()
	go d.serve(there)
	return here
}

func (d *display) serve(c net.Conn) error {
	defer c.Close()
	hello := make([]byte, 12)
	if _, err := io.ReadFull(c, hello); err != nil {
		return err
	}
	cookie := make([]byte, 20+16)
	if _, err := io.ReadFull(c, cookie); err != nil {
		return err
	}
	if !bytes.HasSuffix(cookie, []byte("0123456789abcdef")) {
		c.Write([]byte{0, 4, 11, 0, 0, 0, 1, 0, 'n', 'o', 'p', 'e'})
		return errors.New("cookie")
	}
	body := make([]byte, 32, 80)
	order.PutUint16(body[16:], 5) // the vendor's name
	body[20], body[21] = 1, 1     // screens, formats
	body = append(append(body, "Vendo\x00\x00\x00"...), make([]byte, 8)...)
	body = append(order.AppendUint32(body, root), make([]byte, 36)...)
	setup := order.AppendUint16([]byte{1, 0, 11, 0, 0, 0}, uint16(len(body)/4))
	c.Write(append(setup, body...))
	for seq := uint16(1); ; seq++ {
		head := make([]byte, 4)
		if _, err := io.ReadFull(c, head); err != nil {
			return err
		}
		body := make([]byte, int(order.Uint16(head[2:]))*4-4)
		if _, err := io.ReadFull(c, body); err != nil {
			return err
		}
		d.mu.Lock()
		reply := order.AppendUint16([]byte{kindReply, 0}, seq)
		var extra []byte
		switch head[0] {
		case opChangeWindowAttributes:
			if order.Uint32(body) == root && !slices.Contains(d.conns, c) {
				d.conns = append(d.conns, c)
			}
			reply = nil
		case opSendEvent:
			d.told = append(d.told, body)
			reply = nil
		case opInternAtom:
			n := order.Uint32(body)
			reply = append(reply, d.words(0, d.atom(string(body[4:4+n])))...)
		case opQueryExtension:
			if n := order.Uint16(body); d.pids != nil && string(body[4:4+n]) == "X-Resource" {
				reply = append(reply, d.words(0, 1|opResources<<8)...)
			}
		case opResources:
			window := order.Uint32(body[4:])
			extra = d.words(window, 2, 4, d.pids[window])
			n := uint32(1)
			if d.pids[window] == 0 {
				n, extra = 0, nil
			}
			reply = append(reply, d.words(uint32(len(extra)/4), n)...)
		case opGetWindowAttributes:
			if _, ok := d.props[order.Uint32(body)]; !ok {
				reply[0] = kindError
				break
			}
			extra = make([]byte, 12)
			reply = append(reply, append(d.words(3, 0, 0, 0, 0), 0, 0, 0, 0)...)
			if _, ok := d.pictures[order.Uint32(body)]; ok {
				reply[26] = 2
			}
		case opGetGeometry:
			p := d.pictures[order.Uint32(body)]
			if order.Uint32(body) == root {
				p.width, p.height = screenWidth, screenHeight
			}
			reply = append(reply, d.words(0, root, 0, uint32(p.width)|uint32(p.height)<<16)...)
		case opTranslateCoordinates:
			p := d.pictures[order.Uint32(body)]
			reply = append(reply, d.words(0, 0, uint32(uint16(p.x))|uint32(uint16(p.y))<<16)...)
		case opGetImage:
			p := d.pictures[order.Uint32(body)]
			left, top := int(order.Uint16(body[4:])), int(order.Uint16(body[6:]))
			width, height := int(order.Uint16(body[8:])), int(order.Uint16(body[10:]))
			if p.x+left < 0 || p.y+top < 0 || left+width > p.width || p.x+left+width > screenWidth || top+height > p.height || p.y+top+height > screenHeight || order.Uint32(body[12:]) != 0xffffff {
				reply[0] = kindError
				break
			}
			for row := range height {
				for column := range width {
					pixel := uint32(0)
					if p.dots[[2]int{left + column, top + row}] {
						pixel = 0xff0000
					}
					extra = order.AppendUint32(extra, pixel)
				}
			}
			reply = append(reply, d.words(uint32(len(extra)/4))...)
		case opGetProperty:
			window, ok := d.props[order.Uint32(body)]
			if !ok && order.Uint32(body) != root {
				reply[0] = kindError
				break
			}
			extra = window[d.atoms[order.Uint32(body[4:])-1]]
			extra = extra[:min(len(extra), maxProperty)]
			reply[1] = 8
			reply = append(reply, d.words(uint32(len(pad(slices.Clone(extra)))/4), 1, 0, uint32(len(extra)))...)
		}
		d.mu.Unlock()
		if reply != nil {
			reply = append(reply, make([]byte, 32-len(reply))...)
			if _, err := c.Write(append(reply, pad(slices.Clone(extra))...)); err != nil {
				return err
			}
		}
	}
}

var cookie = []byte("0123456789abcdef")

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisplay()
		d.set(root, "_NET_CLIENT_LIST", d.words(1, 2, 3, 4, 9)) // 9 has just gone
		d.window(1, "one", true)
		d.window(2, "", false)
		d.set(2, "WM_NAME", []byte("old \xff"))
		d.window(3, "a panel", false)
		d.set(3, "_NET_WM_WINDOW_TYPE", d.words(d.atom("_NET_WM_WINDOW_TYPE_DOCK")))
		d.window(4, "hidden", false)
		d.set(4, "_NET_WM_STATE", d.words(d.atom("_NET_WM_STATE_SKIP_TASKBAR")))
		ctx, cancel := context.WithCancel(t.Context())
		var lists [][]Window
		done := make(chan error)
		go func() {
			done <- Watch(ctx, d.dial(), cookie, func(l []Window) { lists = append(lists, l) })
		}()
		synctest.Wait()
		want := []Window{{ID: 1, PID: 1001, Title: "one", Class: "Class", Active: true}, {ID: 2, PID: 1002, Title: "old \uFFFD", Class: "Class"}}
		if len(lists) != 1 || !slices.Equal(lists[0], want) {
			t.Fatalf("%+v", lists)
		}
		// What is not shown changes nothing; what changes again and again is looked at now and then.
		d.set(1, "_NET_WM_ICON", nil)
		synctest.Wait()
		if len(lists) != 1 {
			t.Errorf("%+v", lists[1:])
		}
		began := time.Now()
		for range 100 {
			d.set(1, "_NET_WM_NAME", []byte("busy"))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		most := int(time.Since(began)/settle) + 1
		if n := len(lists); n < 2 || n > most || lists[n-1][0].Title != "busy" {
			t.Errorf("%d lists in %v", n, time.Since(began))
		}
		d.set(1, "_NET_WM_NAME", []byte(strings.Repeat("€", 1000)))
		time.Sleep(time.Second)
		synctest.Wait()
		if title := lists[len(lists)-1][0].Title; len(title) > maxText || !utf8.ValidString(title) {
			t.Errorf("a title of %d bytes", len(title))
		}
		cancel()
		if err := <-done; err != context.Canceled {
			t.Error(err)
		}
	})
}

func TestTell(t *testing.T) {
	d := newDisplay()
	d.set(root, "_NET_CLIENT_LIST", d.words(1))
	for name, do := range map[string]func(context.Context, net.Conn, []byte, uint32) error{"_NET_ACTIVE_WINDOW": Activate, "_NET_CLOSE_WINDOW": Close} {
		if err := do(t.Context(), d.dial(), cookie, 1); err != nil {
			t.Error(err)
		}
		if m := d.told[len(d.told)-1]; m[8] != kindClientMessage || order.Uint32(m[12:]) != 1 || order.Uint32(m[16:]) != d.atom(name) {
			t.Errorf("%s: % x", name, m)
		}
		if err := do(t.Context(), d.dial(), cookie, 2); err != ErrNoWindow {
			t.Error(err)
		}
		if err := do(t.Context(), d.dial(), []byte("xxxxxxxxxxxxxxxx"), 1); err == nil {
			t.Error("a wrong cookie is taken")
		}
	}
}

func TestLook(t *testing.T) {
	d := newDisplay()
	d.set(root, "_NET_CLIENT_LIST", d.words(1, 2, 3, 4, 5, 9)) // 9 has just gone
	d.pids = map[uint32]uint32{1: 501, 2: 502, 3: 503, 4: 504}
	d.window(1, "main", true)
	d.window(2, "splash", false)
	d.set(2, "_NET_WM_WINDOW_TYPE", d.words(d.atom("_NET_WM_WINDOW_TYPE_SPLASH")))
	d.window(3, "dock", false)
	d.set(3, "_NET_WM_WINDOW_TYPE", d.words(d.atom("_NET_WM_WINDOW_TYPE_DOCK")))
	d.window(4, "normal", false)
	d.set(4, "_NET_WM_WINDOW_TYPE", d.words(d.atom("_NET_WM_WINDOW_TYPE_UTILITY"), d.atom("_NET_WM_WINDOW_TYPE_NORMAL")))
	d.window(5, "hidden", false)
	d.set(5, "_NET_WM_STATE", d.words(d.atom("_NET_WM_STATE_SKIP_TASKBAR")))
	l, err := Look(t.Context(), d.dial(), cookie)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	list, err := l.AwaitWindows(t.Context())
	want := []Seen{{1, 501, "main", true}, {2, 502, "splash", false}, {4, 504, "normal", true}, {5, 1005, "hidden", false}}
	if err != nil || !slices.Equal(list, want) {
		t.Errorf("%+v, %v", list, err)
	}
	for name, c := range map[string]struct {
		picture picture
		drawn   bool
	}{
		"empty":                           {picture{x: 10, y: 10, width: 300, height: 200}, false},
		"a dot":                           {picture{x: 10, y: 10, width: 300, height: 200, dots: map[[2]int]bool{{299, 199}: true}}, true},
		"larger than the screen":          {picture{x: -5, y: -5, width: 2000, height: 2000, dots: map[[2]int]bool{{5, 5}: true}}, true},
		"a dot outside":                   {picture{x: -5, y: -5, width: 2000, height: 2000, dots: map[[2]int]bool{{4, 4}: true, {1005, 705}: true}}, false},
		"outside":                         {picture{x: 2000, y: 10, width: 30, height: 20, dots: map[[2]int]bool{{1, 1}: true}}, false},
		"as large as the display, a dot":  {picture{width: screenWidth, height: screenHeight, dots: map[[2]int]bool{{0, 0}: true}}, true},
		"as large as the display, no dot": {picture{width: screenWidth, height: screenHeight}, false},
	} {
		d.mu.Lock()
		d.pictures = map[uint32]picture{1: c.picture}
		d.mu.Unlock()
		if drawn, err := l.Drawn(1); drawn != c.drawn || err != nil {
			t.Errorf("%s: %v, %v", name, drawn, err)
		}
	}
	for _, id := range []uint32{2, 9} { // not on the screen; gone
		if drawn, err := l.Drawn(id); drawn || err != nil {
			t.Errorf("%d: %v, %v", id, drawn, err)
		}
	}
	// A display that does not know whose windows are.
	d.pids = nil
	l, err = Look(t.Context(), d.dial(), cookie)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if list, err = l.Windows(); err != nil || list[0].PID != 1001 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestLookBeforeTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisplay()
		d.set(root, "_NET_SUPPORTING_WM_CHECK", nil)
		l, err := Look(t.Context(), d.dial(), cookie)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		time.AfterFunc(time.Second, func() {
			d.window(1, "one", true)
			d.set(root, "_NET_CLIENT_LIST", d.words(1))
			d.set(root, "_NET_SUPPORTING_WM_CHECK", d.words(5))
		})
		began := time.Now()
		if list, err := l.AwaitWindows(t.Context()); err != nil || len(list) != 1 || time.Since(began) < time.Second {
			t.Errorf("%+v, %v after %v", list, err, time.Since(began))
		}
		d.set(root, "_NET_SUPPORTING_WM_CHECK", nil)
		soon, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if list, err := l.AwaitWindows(soon); err != nil || len(list) != 1 {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

func FuzzClient(f *testing.F) {
	f.Add(said(f, func(conn net.Conn) error {
		c, err := dial(conn, cookie)
		if err == nil {
			_, err = c.windows(map[uint32]bool{})
		}
		return err
	}))
	f.Add(said(f, func(conn net.Conn) error {
		l, err := Look(context.Background(), conn, cookie)
		if err == nil {
			_, err = l.Windows()
		}
		if err == nil {
			_, err = l.Drawn(1)
		}
		return err
	}))
	f.Add([]byte("\x00\x04\x0b\x00\x00\x00\x01\x00nope"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if l, err := Look(t.Context(), script{bytes.NewReader(text)}, cookie); err == nil {
			for err == nil {
				if _, err = l.Windows(); err == nil {
					_, err = l.Drawn(1)
				}
			}
			l.Close()
		}
		c, err := dial(script{bytes.NewReader(text)}, cookie)
		if err != nil {
			return
		}
		for {
			list, err := c.windows(map[uint32]bool{})
			if len(list) > maxWindows {
				t.Errorf("%d windows", len(list))
			}
			for _, w := range list {
				if len(w.Title) > maxText || !utf8.ValidString(w.Title+w.Class) {
					t.Errorf("%+v", w)
				}
			}
			if err != nil {
				return
			}
		}
	})
}

// said is what a well-behaved display says to a client.
func said(f *testing.F, client func(net.Conn) error) []byte {
	here, there := net.Pipe()
	var said bytes.Buffer
	d := newDisplay()
	d.set(root, "_NET_CLIENT_LIST", d.words(1))
	d.window(1, "title", true)
	d.pids, d.pictures = map[uint32]uint32{1: 501}, map[uint32]picture{1: {width: 30, height: 20}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		served := d.dial()
		go func() {
			io.Copy(served, there)
			served.Close()
		}()
		io.Copy(io.MultiWriter(there, &said), served)
	}()
	if err := client(here); err != nil {
		f.Fatal(err)
	}
	here.Close()
	<-done
	return said.Bytes()
}

// script is a connection whose other side says what it says.
type script struct{ io.Reader }

func (script) Write(b []byte) (int, error)      { return len(b), nil }
func (script) Close() error                     { return nil }
func (script) LocalAddr() net.Addr              { return nil }
func (script) RemoteAddr() net.Addr             { return nil }
func (script) SetDeadline(time.Time) error      { return nil }
func (script) SetReadDeadline(time.Time) error  { return nil }
func (script) SetWriteDeadline(time.Time) error { return nil }
