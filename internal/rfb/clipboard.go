package rfb

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The flags of an extended clipboard message: what it does, and for which formats.
const (
	clipText    = 1 << 0
	clipFormats = 0xffff
	clipCaps    = 1 << 24
	clipRequest = 1 << 25
	clipPeek    = 1 << 26
	clipNotify  = 1 << 27
	clipProvide = 1 << 28
	clipActions = 0xff << 24

	maxCaps = 16 * 4 // bytes: a size for each format
)

// cutText decides on ClientCutText and ServerCutText, which are alike. With a negative length they are extended.
func cutText(d *flow) error {
	next, way, may, limit, back := displayMessage, Out, d.f.rules.CopyOut, d.f.rules.CopyOutMax, d.f.rules.CopyIn
	if d == &d.f.viewer {
		next, way, may, limit, back = viewerMessage, In, d.f.rules.CopyIn, d.f.rules.CopyInMax, d.f.rules.CopyOut
	}
	length := int64(int32(d.u32(4)))
	if length >= 0 { // Latin-1
		switch {
		case !may:
			d.f.events.Refused(way, Disabled)
			return d.drop(length, next)
		case limit > 0 && length > int64(limit):
			d.f.events.Refused(way, Length)
			return d.drop(length, next)
		}
		return d.release(length, next)
	}
	if length = -length; length < 4 {
		return errors.New("rfb: an extended clipboard message has no flags")
	}
	if len(d.head) < 12 {
		return d.more(12)
	}
	flags := d.u32(8)
	left := 8 + length - int64(len(d.head))
	if flags&clipCaps != 0 {
		if left > maxCaps {
			return errors.New("rfb: the capabilities of the clipboard are too long")
		}
		return d.release(left, next)
	}
	switch flags & clipActions {
	case clipRequest, clipPeek: // of what goes the other way
		if left > 0 {
			return errors.New("rfb: a message about the clipboard is too long")
		}
		if !back {
			return d.drop(0, next)
		}
		return d.release(0, next)
	case clipNotify:
		if left > 0 {
			return errors.New("rfb: a message about the clipboard is too long")
		}
		if !may {
			if flags&clipFormats != 0 {
				d.f.events.Refused(way, Disabled)
			}
			return d.drop(0, next)
		}
		return d.release(0, next)
	case clipProvide:
		if !may {
			d.f.events.Refused(way, Disabled)
			return d.drop(left, next)
		}
		if limit == 0 {
			return d.release(left, next)
		}
		if left > maxHeld {
			return d.tooLong(way, left, next)
		}
		if left > 0 {
			return d.more(len(d.head) + int(left))
		}
		within, err := measure(flags, d.head[12:], limit)
		if err != nil {
			return err
		}
		if !within {
			return d.tooLong(way, 0, next)
		}
		return d.release(0, next)
	}
	return fmt.Errorf("rfb: an extended clipboard message has the unknown flags %#x", flags)
}

// tooLong drops a text. A display that has asked for it is told that there is none after all: a program may be waiting to paste it.
func (d *flow) tooLong(way Direction, left int64, next func(*flow) error) error {
	d.f.events.Refused(way, Length)
	if way == In {
		none := [12]byte{0: clientCutText}
		binary.BigEndian.PutUint32(none[4:], ^uint32(0)-3) // -4
		binary.BigEndian.PutUint32(none[8:], clipNotify)
		if err := d.write(none[:]); err != nil {
			return err
		}
	}
	return d.drop(left, next)
}

// measure tells whether what a provide message has is a text of at most limit characters. It inflates no more than it needs for that.
func measure(flags int64, body []byte, limit int) (bool, error) {
	if flags&clipFormats != clipText {
		return flags&clipFormats == 0, nil // pictures and files have no characters that could be counted
	}
	z, err := zlib.NewReader(bytes.NewReader(body))
	if err != nil {
		return false, fmt.Errorf("rfb: inflate the clipboard: %w", err)
	}
	defer z.Close()
	var size [4]byte
	if _, err := io.ReadFull(z, size[:]); err != nil {
		return false, fmt.Errorf("rfb: inflate the clipboard: %w", err)
	}
	left := int64(binary.BigEndian.Uint32(size[:]))
	var c counter
	var buffer [4 << 10]byte
	for left > 0 {
		n, err := z.Read(buffer[:min(left, int64(len(buffer)))])
		c.count(buffer[:n])
		if c.characters() > int64(limit) {
			return false, nil
		}
		if left -= int64(n); left > 0 && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return false, fmt.Errorf("rfb: inflate the clipboard: %w", err)
		}
	}
	return true, nil
}

// A counter counts the characters of UTF-8 text: a line's end of two bytes as one, and the NUL that ends the text not at all.
type counter struct {
	bytes, begun int64
	last         byte
}

func (c *counter) count(p []byte) {
	for _, b := range p {
		if b&0xc0 != 0x80 && !(b == '\n' && c.last == '\r') {
			c.begun++
		}
		c.last = b
	}
	c.bytes += int64(len(p))
}

// characters is never less than what so many bytes must have, whatever nonsense they are.
func (c *counter) characters() int64 {
	n, bytes := c.begun, c.bytes
	if bytes > 0 && c.last == 0 {
		n, bytes = n-1, bytes-1
	}
	return max(n, (bytes+3)/4)
}
