// Package rfb is a filter in the way of a stream of RFB, the protocol of VNC (RFC 6143 and the extensions that the RFB project's
// rfbproto.rst describes), between a viewer and a display. It reads both directions just far enough to know where each
// message begins and ends, enforces rules about the clipboard, and tells of input. All else goes through as it came, without being
// copied; a clipboard message goes through whole or not at all.
//
// What a viewer asks for decides what a display sends. The filter therefore takes from the viewer's list of encodings those
// whose messages it could not follow; what noVNC and TigerVNC have in common stays. A message that it does not know is an error
// after which nothing more may be passed on, because the places of all others are unknown from there.
//
// The package does no I/O of its own and knows no clock.
package rfb

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
)

// Rules is what may pass.
type Rules struct {
	// CopyIn: text that was copied at the viewer reaches the display; CopyOut: that of the display reaches the viewer.
	CopyIn, CopyOut bool
	// CopyInMax and CopyOutMax are the most characters of one text; 0 is no limit. A line's end counts as one.
	CopyInMax, CopyOutMax int
}

// Direction is the way of a text.
type Direction string

// The directions, as seen from the display.
const (
	In  Direction = "in"
	Out Direction = "out"
)

// Reason is why a text did not pass.
type Reason string

// The reasons.
const (
	Disabled Reason = "disabled" // no text may pass in this direction
	Length   Reason = "length"   // this one is too long
)

// Events are told what happens, by the goroutine that has called FromViewer or FromDisplay. They may be nil.
type Events struct {
	// Input: a key was pressed or released, or the pointer or its buttons moved.
	Input func()
	// Refused: a text did not pass; or the offer of one, in a direction in which none may.
	Refused func(Direction, Reason)
}

// Bounds, in bytes.
const (
	maxName      = 64 << 10 // of the desktop
	maxEncodings = 512      // their number
	maxFence     = 64
	// maxHeld is the longest message that is held back to be measured. It is compressed text, of which displays and browsers
	// take far less; one that is longer counts as too long.
	maxHeld = 4 << 20
	// keepHead is how large a buffer for the beginnings of messages is kept.
	keepHead = 4 << 10
)

const protocolVersion = "RFB 003.008\n"

// Filter filters one stream. FromViewer and FromDisplay may run at the same time, each called by one goroutine at a time.
type Filter struct {
	rules  Rules
	events Events

	viewer, display flow

	format atomic.Uint32 // of the pixels, see setFormat; 0 until the display has named its own
	frames atomic.Int64

	asked  bool // viewer: it has asked for an update. The format may no longer change, because updates may be on their way
	update update
}

// NewFilter makes the Filter of a stream that begins.
func NewFilter(rules Rules, events Events) *Filter {
	if events.Input == nil {
		events.Input = func() {}
	}
	if events.Refused == nil {
		events.Refused = func(Direction, Reason) {}
	}
	f := &Filter{rules: rules, events: events}
	f.viewer = flow{f: f, need: len(protocolVersion), step: viewerVersion}
	f.display = flow{f: f, need: len(protocolVersion), step: displayVersion}
	return f
}

// FromViewer takes the next piece of what the viewer sends and writes to display what may pass. After an error, which is
// display's or says what was wrong with the stream, the stream cannot be used any more.
func (f *Filter) FromViewer(display io.Writer, p []byte) error { return f.viewer.run(display, p) }

// FromDisplay does the same in the other direction.
func (f *Filter) FromDisplay(viewer io.Writer, p []byte) error { return f.display.run(viewer, p) }

// Frames is how many updates of the picture have been sent so far.
func (f *Filter) Frames() int64 { return f.frames.Load() }

// A flow is one direction of a stream.
//
// The beginning of each message is collected in head until step can tell by it what follows: a body of left bytes and the
// next beginning, or a longer head. A head that is not held has been passed on when step sees it.
type flow struct {
	f    *Filter
	head []byte
	need int               // how long head must be for step
	step func(*flow) error // takes the head, or sets a greater need
	left int64             // of a body that goes through or is dropped
	fate fate              // of head, and of the body
	out  io.Writer
	err  error
}

type fate int

const (
	through fate = iota
	held
	dropped
)

func (d *flow) run(out io.Writer, p []byte) error {
	if d.err == nil {
		d.out = out
		d.err = d.pass(p)
		d.out = nil
	}
	return d.err
}

func (d *flow) pass(p []byte) error {
	from, at := 0, 0 // p[from:at] is on its way through
	for at < len(p) {
		if d.left > 0 {
			n := int(min(d.left, int64(len(p)-at)))
			at += n
			d.left -= int64(n)
			if d.fate == dropped {
				from = at
				if d.left == 0 {
					d.fate = through
				}
			}
			continue
		}
		n := min(d.need-len(d.head), len(p)-at)
		d.head = append(d.head, p[at:at+n]...)
		at += n
		if d.fate == held {
			from = at
		}
		if len(d.head) < d.need {
			break
		}
		was := d.fate
		if err := d.step(d); err != nil {
			return err
		}
		if was == through && d.fate == held { // by its first byte, which alone was the head
			if err := d.write(p[from : at-1]); err != nil {
				return err
			}
			from = at
		}
	}
	return d.write(p[from:at])
}

func (d *flow) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	_, err := d.out.Write(p)
	return err
}

// more has step called again when head is longer.
func (d *flow) more(need int) error {
	d.need = need
	return nil
}

// hold does the same with a message whose first byte has come, and keeps it back.
func (d *flow) hold(need int, step func(*flow) error) error {
	d.fate, d.step = held, step
	return d.more(need)
}

// then ends a head that goes through: a body of left bytes follows, and then the next head.
func (d *flow) then(left int64, need int, step func(*flow) error) error {
	d.left, d.need, d.step = left, need, step
	d.forget()
	return nil
}

// release lets a held head through, and a body of left bytes.
func (d *flow) release(left int64, step func(*flow) error) error {
	if err := d.write(d.head); err != nil {
		return err
	}
	d.fate = through
	return d.then(left, 1, step)
}

// drop drops a held head, and a body of left bytes.
func (d *flow) drop(left int64, step func(*flow) error) error {
	d.fate = dropped
	if left == 0 {
		d.fate = through
	}
	return d.then(left, 1, step)
}

func (d *flow) forget() {
	if cap(d.head) > keepHead {
		d.head = nil
	}
	d.head = d.head[:0]
}

func (d *flow) u16(at int) int   { return int(binary.BigEndian.Uint16(d.head[at:])) }
func (d *flow) u32(at int) int64 { return int64(binary.BigEndian.Uint32(d.head[at:])) }

// A pixelFormat is how many bytes pixels take.
type pixelFormat struct {
	bytes int64 // of a pixel
	tight int64 // of one in the Tight encoding
}

// readFormat reads PIXEL_FORMAT.
func readFormat(p []byte) (pixelFormat, error) {
	bits, depth, trueColour := p[0], p[1], p[3] != 0
	if bits != 8 && bits != 16 && bits != 32 {
		return pixelFormat{}, fmt.Errorf("rfb: pixels of %d bits are not possible", bits)
	}
	f := pixelFormat{bytes: int64(bits / 8), tight: int64(bits / 8)}
	full := binary.BigEndian.Uint16(p[4:]) == 255 && binary.BigEndian.Uint16(p[6:]) == 255 && binary.BigEndian.Uint16(p[8:]) == 255
	if bits == 32 && depth == 24 && trueColour && full {
		if p[10]%8 != 0 || p[11]%8 != 0 || p[12]%8 != 0 {
			return pixelFormat{}, fmt.Errorf("rfb: colours that do not fill bytes are not followed") // peers differ on their Tight pixels
		}
		f.tight = 3
	}
	return f, nil
}

func (f *Filter) setFormat(p pixelFormat) { f.format.Store(uint32(p.bytes)<<8 | uint32(p.tight)) }

func (f *Filter) pixels() pixelFormat {
	p := f.format.Load()
	return pixelFormat{bytes: int64(p >> 8), tight: int64(p & 0xff)}
}
