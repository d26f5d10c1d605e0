package windows

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// client is the least of an X11 client (X Window System Protocol, version 11)
// that can read properties, notice their changes, send a message and look at
// windows. Who is at the other end may be a person's own program: every length
// is bounded.
type client struct {
	conn  net.Conn
	r     *bufio.Reader
	seq   uint16
	root  uint32
	atoms map[string]uint32
	most  int // bytes of a message
	// changed: since it was last asked, a property that matters has changed.
	changed bool
}

const (
	maxSetup    = 64 << 10 // bytes
	maxProperty = 4 << 10
)

// Codes of the protocol.
const (
	opChangeWindowAttributes = 2
	opGetWindowAttributes    = 3
	opGetGeometry            = 14
	opInternAtom             = 16
	opGetProperty            = 20
	opSendEvent              = 25
	opTranslateCoordinates   = 40
	opGetImage               = 73
	opQueryExtension         = 98

	kindError          = 0
	kindReply          = 1
	kindPropertyNotify = 28
	kindClientMessage  = 33
	kindGenericEvent   = 35

	valueEventMask     = 1 << 11
	maskPropertyChange = 1 << 22
	maskSubstructure   = 1<<19 | 1<<20 // notify and redirect: what window managers listen for
)

var atomNames = []string{
	"_NET_SUPPORTING_WM_CHECK", "_NET_CLIENT_LIST", "_NET_ACTIVE_WINDOW", "_NET_CLOSE_WINDOW", "_NET_WM_NAME", "WM_NAME", "WM_CLASS", "_NET_WM_PID",
	"_NET_WM_WINDOW_TYPE", "_NET_WM_WINDOW_TYPE_DESKTOP", "_NET_WM_WINDOW_TYPE_DOCK", "_NET_WM_WINDOW_TYPE_NORMAL", "_NET_WM_STATE", "_NET_WM_STATE_SKIP_TASKBAR",
}

var order = binary.LittleEndian

// dial says hello on conn, with the cookie of the display.
func dial(conn net.Conn, cookie []byte) (*client, error) {
	c := &client{conn: conn, r: bufio.NewReaderSize(conn, 4<<10), atoms: map[string]uint32{}, most: maxProperty}
	const scheme = "MIT-MAGIC-COOKIE-1"
	hello := []byte{'l', 0}
	hello = order.AppendUint16(hello, 11)
	hello = order.AppendUint16(hello, 0)
	hello = order.AppendUint16(hello, uint16(len(scheme)))
	hello = order.AppendUint16(hello, uint16(len(cookie)))
	hello = append(hello, 0, 0)
	hello = pad(append(hello, scheme...))
	hello = pad(append(hello, cookie...))
	if _, err := conn.Write(hello); err != nil {
		return nil, err
	}
	head := make([]byte, 8)
	if _, err := io.ReadFull(c.r, head); err != nil {
		return nil, err
	}
	n := int(order.Uint16(head[6:])) * 4
	if n > maxSetup {
		return nil, errors.New("x11: the display says too much")
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return nil, err
	}
	if head[0] != 1 {
		return nil, errors.New("x11: the display refuses connections")
	}
	// The first screen follows the vendor's name and the picture formats.
	if len(body) < 32 {
		return nil, errShort
	}
	screen := 32 + (int(order.Uint16(body[16:]))+3)&^3 + 8*int(body[21])
	if len(body) < screen+4 {
		return nil, errShort
	}
	c.root = order.Uint32(body[screen:])
	for _, name := range atomNames {
		reply, err := c.call(opInternAtom, 0, pad(append(order.AppendUint32(nil, uint32(len(name))), name...)))
		if err != nil {
			return nil, err
		}
		c.atoms[name] = order.Uint32(reply[8:])
	}
	return c, nil
}

var errShort = errors.New("x11: the display's answer is too short")

func pad(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

// send sends a request. Its body is a multiple of four bytes.
func (c *client) send(op, detail byte, body []byte) error {
	request := order.AppendUint16([]byte{op, detail}, uint16(1+len(body)/4))
	c.seq++
	_, err := c.conn.Write(append(request, body...))
	return err
}

// errRefused: the display answers with an error, such as for a window that is
// gone.
var errRefused = errors.New("x11: refused")

// call sends a request and returns its reply.
func (c *client) call(op, detail byte, body []byte) ([]byte, error) {
	if err := c.send(op, detail, body); err != nil {
		return nil, err
	}
	for {
		kind, m, err := c.next()
		if err != nil {
			return nil, err
		}
		if (kind == kindReply || kind == kindError) && order.Uint16(m[2:]) == c.seq {
			if kind == kindError {
				return nil, errRefused
			}
			return m, nil
		}
	}
}

// next reads a message: an event, a reply or an error.
func (c *client) next() (kind byte, m []byte, err error) {
	m = make([]byte, 32)
	if _, err := io.ReadFull(c.r, m); err != nil {
		return 0, nil, err
	}
	kind = m[0] &^ 0x80 // which says that a client sent it
	if kind == kindReply || kind == kindGenericEvent {
		n := order.Uint32(m[4:])
		if n > uint32(c.most+64)/4 {
			return 0, nil, fmt.Errorf("x11: a message of %d words", n)
		}
		m = append(m, make([]byte, 4*n)...)
		if _, err := io.ReadFull(c.r, m[32:]); err != nil {
			return 0, nil, err
		}
	}
	if kind == kindPropertyNotify && c.matters(order.Uint32(m[4:]), order.Uint32(m[8:])) {
		c.changed = true
	}
	return kind, m, nil
}

// matters tells whether a change of this property changes the windows.
func (c *client) matters(window, atom uint32) bool {
	names := []string{"_NET_WM_NAME", "WM_NAME", "WM_CLASS", "_NET_WM_PID", "_NET_WM_WINDOW_TYPE", "_NET_WM_STATE"}
	if window == c.root {
		names = []string{"_NET_SUPPORTING_WM_CHECK", "_NET_CLIENT_LIST", "_NET_ACTIVE_WINDOW"}
	}
	for _, name := range names {
		if c.atoms[name] == atom {
			return true
		}
	}
	return false
}

// property reads a property of a window: its first maxProperty bytes.
func (c *client) property(window uint32, name string) ([]byte, error) {
	body := order.AppendUint32(nil, window)
	for _, v := range []uint32{c.atoms[name], 0, 0, maxProperty / 4} { // of any type, from its beginning
		body = order.AppendUint32(body, v)
	}
	m, err := c.call(opGetProperty, 0, body)
	if err != nil {
		return nil, err
	}
	n := int(order.Uint32(m[16:]))
	switch m[1] { // bits of a unit
	case 16:
		n *= 2
	case 32:
		n *= 4
	}
	if n < 0 || n > len(m)-32 {
		return nil, errShort
	}
	return m[32 : 32+n], nil
}

// numbers reads a property of 32-bit numbers.
func (c *client) numbers(window uint32, name string) ([]uint32, error) {
	text, err := c.property(window, name)
	var list []uint32
	for ; len(text) >= 4; text = text[4:] {
		list = append(list, order.Uint32(text))
	}
	return list, err
}

// listen asks for news of a window's properties.
func (c *client) listen(window uint32) error {
	body := order.AppendUint32(nil, window)
	body = order.AppendUint32(body, valueEventMask)
	return c.send(opChangeWindowAttributes, 0, order.AppendUint32(body, maskPropertyChange))
}

// tell sends the window manager a message about a window.
func (c *client) tell(window uint32, message string, data ...uint32) error {
	body := order.AppendUint32(nil, c.root)
	body = order.AppendUint32(body, maskSubstructure)
	body = append(body, kindClientMessage, 32, 0, 0)
	body = order.AppendUint32(body, window)
	body = order.AppendUint32(body, c.atoms[message])
	for n := range 5 {
		v := uint32(0)
		if n < len(data) {
			v = data[n]
		}
		body = order.AppendUint32(body, v)
	}
	if err := c.send(opSendEvent, 0, body); err != nil {
		return err
	}
	// A reply to anything says that the message has arrived.
	_, err := c.property(c.root, "_NET_ACTIVE_WINDOW")
	return err
}
