package agent

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// enoughPixels is how many pixels must differ from black before a desktop
// counts as drawn: more than a stray cursor or a line, less than a window.
const enoughPixels = 256

// waitForPixels returns nil as soon as the display behind an RFB connection shows
// a picture. It asks for changes only, so that it costs nothing while nothing
// is drawn, and for one byte a pixel, so that the whole screen is under 1 MB.
func waitForPixels(ctx context.Context, dial func() (net.Conn, error)) error {
	conn, err := dial()
	for pause := time.Millisecond; err != nil && ctx.Err() == nil; pause = min(2*pause, 20*time.Millisecond) {
		select {
		case <-time.After(pause):
			conn, err = dial()
		case <-ctx.Done():
		}
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	p := &pixelProbe{rw: struct {
		io.Reader
		io.Writer
	}{bufio.NewReaderSize(conn, 64<<10), conn}}
	if err := p.handshake(); err != nil {
		return err
	}
	return p.wait()
}

// pixelProbe is the least RFB client (RFC 6143) that can see a picture.
type pixelProbe struct {
	rw            io.ReadWriter
	width, height int
	seen          int // pixels that were not black, summed over updates
	buf           []byte
}

func (p *pixelProbe) read(n int) ([]byte, error) {
	if cap(p.buf) < n {
		p.buf = make([]byte, max(n, 16<<10))
	}
	_, err := io.ReadFull(p.rw, p.buf[:n])
	return p.buf[:n], err
}

// handshake speaks version 3.8 with security type None and sets the pixel
// format: 8 bits, 3-3-2.
func (p *pixelProbe) handshake() error {
	b, err := p.read(12)
	if err != nil {
		return err
	}
	if string(b[:4]) != "RFB " {
		return errors.New("rfb: this is not an RFB server")
	}
	if _, err := p.rw.Write([]byte("RFB 003.008\n")); err != nil {
		return err
	}
	if b, err = p.read(1); err != nil {
		return err
	}
	if b[0] == 0 {
		return errors.New("rfb: the server refuses connections")
	}
	if _, err = p.read(int(b[0])); err != nil {
		return err
	}
	if _, err := p.rw.Write([]byte{1}); err != nil { // security type None
		return err
	}
	if b, err = p.read(4); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(b) != 0 {
		return errors.New("rfb: the server wants a password")
	}
	if _, err := p.rw.Write([]byte{1}); err != nil { // shared
		return err
	}
	if b, err = p.read(24); err != nil {
		return err
	}
	p.width, p.height = int(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:]))
	name := binary.BigEndian.Uint32(b[20:])
	if name > 4096 {
		return errors.New("rfb: the desktop's name is too long")
	}
	if _, err = p.read(int(name)); err != nil {
		return err
	}
	_, err = p.rw.Write([]byte{
		0, 0, 0, 0, 8, 8, 0, 1, 0, 7, 0, 7, 0, 3, 0, 3, 6, 0, 0, 0, // SetPixelFormat
		2, 0, 0, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x11, // SetEncodings: Raw, Cursor
	})
	return err
}

// The encodings asked for. With Cursor the server does not paint the pointer
// into the picture.
const (
	encodingRaw    = 0
	encodingCursor = -239
)

// wait asks for updates until enough was seen.
func (p *pixelProbe) wait() error {
	for incremental := byte(0); ; incremental = 1 {
		request := []byte{3, incremental, 0, 0, 0, 0, 0, 0, 0, 0}
		binary.BigEndian.PutUint16(request[6:], uint16(p.width))
		binary.BigEndian.PutUint16(request[8:], uint16(p.height))
		if _, err := p.rw.Write(request); err != nil {
			return err
		}
		for updated := false; !updated; {
			b, err := p.read(1)
			if err != nil {
				return err
			}
			switch b[0] {
			case 0: // FramebufferUpdate
				updated = true
				err = p.update()
			case 1: // SetColourMapEntries
				if b, err = p.read(5); err == nil {
					_, err = p.read(6 * int(binary.BigEndian.Uint16(b[3:])))
				}
			case 2: // Bell
			case 3: // ServerCutText
				if b, err = p.read(7); err == nil {
					err = p.skip(int64(binary.BigEndian.Uint32(b[3:])))
				}
			default:
				err = fmt.Errorf("rfb: unknown message %d", b[0])
			}
			if err != nil {
				return err
			}
		}
		if p.seen >= enoughPixels {
			return nil
		}
	}
}

// skip reads n bytes and drops them.
func (p *pixelProbe) skip(n int64) error {
	_, err := io.CopyN(io.Discard, p.rw, n)
	return err
}

// update reads one FramebufferUpdate and counts the pixels that are not black.
func (p *pixelProbe) update() error {
	b, err := p.read(3)
	if err != nil {
		return err
	}
	for range binary.BigEndian.Uint16(b[1:]) {
		if b, err = p.read(12); err != nil {
			return err
		}
		w, h := int(binary.BigEndian.Uint16(b[4:])), int(binary.BigEndian.Uint16(b[6:]))
		switch encoding := int32(binary.BigEndian.Uint32(b[8:])); encoding {
		case encodingRaw:
			for range h { // a line at a time bounds the memory
				if b, err = p.read(w); err != nil {
					return err
				}
				for _, pixel := range b {
					if pixel != 0 {
						p.seen++
					}
				}
			}
		case encodingCursor:
			if err := p.skip(int64(w*h + (w+7)/8*h)); err != nil {
				return err
			}
		default:
			return fmt.Errorf("rfb: unknown encoding %d", encoding)
		}
	}
	return nil
}
