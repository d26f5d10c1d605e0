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

// display is an X server that knows properties only.
type display struct {
	mu    sync.Mutex
	atoms []string // an atom's number is its place, from 1
	props map[uint32]map[string][]byte
	told  [][]byte // SendEvent
	conns []net.Conn
}

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

func FuzzClient(f *testing.F) {
	// What a well-behaved display says.
	here, there := net.Pipe()
	var said bytes.Buffer
	d := newDisplay()
	d.set(root, "_NET_CLIENT_LIST", d.words(1))
	d.window(1, "title", true)
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
	if c, err := dial(here, cookie); err != nil {
		f.Fatal(err)
	} else if _, err := c.windows(map[uint32]bool{}); err != nil {
		f.Fatal(err)
	}
	here.Close()
	<-done
	f.Add(bytes.Clone(said.Bytes()))
	f.Add([]byte("\x00\x04\x0b\x00\x00\x00\x01\x00nope"))
	f.Fuzz(func(t *testing.T, text []byte) {
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

// script is a connection whose other side says what it says.
type script struct{ io.Reader }

func (script) Write(b []byte) (int, error)      { return len(b), nil }
func (script) Close() error                     { return nil }
func (script) LocalAddr() net.Addr              { return nil }
func (script) RemoteAddr() net.Addr             { return nil }
func (script) SetDeadline(time.Time) error      { return nil }
func (script) SetReadDeadline(time.Time) error  { return nil }
func (script) SetWriteDeadline(time.Time) error { return nil }
