package rfb

import (
	"errors"
	"fmt"
)

// Messages of displays.
const (
	framebufferUpdate = 0
	setColours        = 1
	bell              = 2
	serverCutText     = 3
	endOfContinuous   = 150
	serverFence       = 248
)

// An update is how far a FramebufferUpdate has been read.
type update struct {
	rects         int // to come, with the one that is being read
	width, height int64
	tile          int64 // Hextile: the next one
}

func displayVersion(d *flow) error {
	if string(d.head) != protocolVersion {
		return fmt.Errorf("rfb: the display speaks %.12q, not version 3.8", d.head)
	}
	return d.then(0, 1, displaySecurity)
}

func displaySecurity(d *flow) error {
	if d.head[0] == 0 {
		return errors.New("rfb: the display refuses the viewer")
	}
	return d.then(int64(d.head[0]), 4, displaySecurityResult)
}

func displaySecurityResult(d *flow) error {
	if d.u32(0) != 0 {
		return errors.New("rfb: the display refuses the viewer")
	}
	return d.then(0, 24, displayInit)
}

func displayInit(d *flow) error {
	format, err := readFormat(d.head[4:])
	if err != nil {
		return err
	}
	d.f.setFormat(format)
	return d.name(20, displayMessage)
}

// name lets the desktop's name through, whose length is at the end of the head.
func (d *flow) name(at int, next func(*flow) error) error {
	n := d.u32(at)
	if n > maxName {
		return fmt.Errorf("rfb: the desktop's name has %d bytes", n)
	}
	return d.then(n, 1, next)
}

func displayMessage(d *flow) error {
	f := d.f
	switch d.head[0] {
	case framebufferUpdate:
		if len(d.head) < 4 {
			return d.more(4)
		}
		f.frames.Add(1)
		if f.update.rects = d.u16(2); f.update.rects == 0 {
			return d.then(0, 1, displayMessage)
		}
		return d.then(0, 12, rectangle)
	case setColours:
		if len(d.head) < 6 {
			return d.more(6)
		}
		return d.then(6*int64(d.u16(4)), 1, displayMessage)
	case bell, endOfContinuous:
		return d.then(0, 1, displayMessage)
	case serverCutText:
		return d.hold(8, cutText)
	case serverFence:
		if len(d.head) < 9 {
			return d.more(9)
		}
		if d.head[8] > maxFence {
			return fmt.Errorf("rfb: the display's fence has %d bytes", d.head[8])
		}
		return d.then(int64(d.head[8]), 1, displayMessage)
	}
	return fmt.Errorf("rfb: the display sent a message %d, which is not known here", d.head[0])
}

// endRectangle lets the last left bytes of a rectangle through.
func (d *flow) endRectangle(left int64) error {
	if d.f.update.rects--; d.f.update.rects > 0 {
		return d.then(left, 12, rectangle)
	}
	return d.then(left, 1, displayMessage)
}

// rectangle reads the head of a rectangle: its place, its size and its encoding.
func rectangle(d *flow) error {
	u, pixels := &d.f.update, d.f.pixels()
	u.width, u.height = int64(d.u16(4)), int64(d.u16(6))
	area := u.width * u.height
	switch encoding := int32(d.u32(8)); encoding {
	case encodingRaw:
		return d.endRectangle(area * pixels.bytes)
	case encodingCopyRect:
		return d.endRectangle(4)
	case encodingRRE:
		return d.then(0, 4, rectangleRRE)
	case encodingHextile:
		if u.tile = 0; area == 0 {
			return d.endRectangle(0)
		}
		return d.then(0, 1, rectangleHextile)
	case encodingTight:
		return d.then(0, 1, rectangleTight)
	case encodingZRLE:
		return d.then(0, 4, rectangleZRLE)
	case pseudoCursor:
		return d.endRectangle(area*pixels.bytes + (u.width+7)/8*u.height)
	case pseudoVMwareCursor:
		return d.then(0, 2, rectangleVMwareCursor)
	case pseudoDesktopSize, pseudoQEMUKey:
		return d.endRectangle(0)
	case pseudoExtendedDesktopSize:
		return d.then(0, 4, rectangleDesktopSize)
	case pseudoDesktopName:
		return d.then(0, 4, rectangleDesktopName)
	case pseudoQEMULED:
		return d.endRectangle(1)
	case pseudoLastRect:
		u.rects = 1
		return d.endRectangle(0)
	default:
		return fmt.Errorf("rfb: the display sent a rectangle of encoding %d, which is not known here", encoding)
	}
}

func rectangleRRE(d *flow) error {
	n := d.f.pixels().bytes
	return d.endRectangle(n + d.u32(0)*(n+8))
}

func rectangleZRLE(d *flow) error { return d.endRectangle(d.u32(0)) }

func rectangleVMwareCursor(d *flow) error {
	area := d.f.update.width * d.f.update.height
	switch d.head[0] {
	case 0: // two masks
		return d.endRectangle(2 * area * d.f.pixels().bytes)
	case 1: // with alpha
		return d.endRectangle(4 * area)
	}
	return fmt.Errorf("rfb: the display sent a cursor of type %d", d.head[0])
}

func rectangleDesktopSize(d *flow) error { return d.endRectangle(16 * int64(d.head[0])) }

func rectangleDesktopName(d *flow) error {
	n := d.u32(0)
	if n > maxName {
		return fmt.Errorf("rfb: the desktop's name has %d bytes", n)
	}
	return d.endRectangle(n)
}

// The bits of a Hextile tile.
const (
	hextileRaw = 1 << iota
	hextileBackground
	hextileForeground
	hextileSubrects
	hextileColoured
)

func rectangleHextile(d *flow) error {
	u, n := &d.f.update, d.f.pixels().bytes
	across, down := (u.width+15)/16, (u.height+15)/16
	var left int64
	switch bits := d.head[0]; {
	case bits >= 2*hextileColoured:
		return fmt.Errorf("rfb: the display sent a Hextile tile of type %d", bits)
	case bits&hextileRaw != 0:
		width, height := min(16, u.width-u.tile%across*16), min(16, u.height-u.tile/across*16)
		left = width * height * n
	default:
		if bits&hextileBackground != 0 {
			left += n
		}
		if bits&hextileForeground != 0 {
			left += n
		}
		if bits&hextileSubrects != 0 {
			if need := 1 + int(left) + 1; len(d.head) < need {
				return d.more(need)
			}
			each := int64(2)
			if bits&hextileColoured != 0 {
				each += n
			}
			left = each * int64(d.head[len(d.head)-1])
		}
	}
	if u.tile++; u.tile < across*down {
		return d.then(left, 1, rectangleHextile)
	}
	return d.endRectangle(left)
}

// The upper four bits of a Tight rectangle's first byte.
const (
	tightFilter = 4 // bit: a filter is named. Without bit 8 the pixels are compressed
	tightFill   = 8
	tightJPEG   = 9
)

// The filters of Tight.
const (
	tightCopy = iota
	tightPalette
	tightGradient
)

// tightPlain is the length from which pixels are compressed.
const tightPlain = 12

func rectangleTight(d *flow) error {
	u, n := &d.f.update, d.f.pixels().tight
	kind := d.head[0] >> 4
	size := u.width * u.height * n
	switch {
	case kind == tightFill:
		return d.endRectangle(n)
	case kind == tightJPEG:
		return d.then(0, 1, rectangleTightData)
	case kind > tightJPEG:
		return fmt.Errorf("rfb: the display sent a Tight rectangle of type %d", kind)
	case kind&tightFilter != 0:
		if len(d.head) < 2 {
			return d.more(2)
		}
		switch d.head[1] {
		case tightCopy, tightGradient:
		case tightPalette:
			if len(d.head) < 3 {
				return d.more(3)
			}
			colours := int64(d.head[2]) + 1
			row := u.width
			if colours <= 2 {
				row = (u.width + 7) / 8
			}
			return d.tightPixels(colours*n, row*u.height)
		default:
			return fmt.Errorf("rfb: the display sent a Tight filter %d", d.head[1])
		}
	}
	return d.tightPixels(0, size)
}

// tightPixels lets a palette through, and pixels of a size, which are compressed unless they are few.
func (d *flow) tightPixels(palette, size int64) error {
	if size < tightPlain {
		return d.endRectangle(palette + size)
	}
	return d.then(palette, 1, rectangleTightData)
}

// rectangleTightData reads a length of one to three bytes, of which the first two say whether another follows.
func rectangleTightData(d *flow) error {
	var length int64
	for n, b := range d.head {
		if n == 2 {
			length |= int64(b) << 14
			break
		}
		length |= int64(b&0x7f) << (7 * n)
		if b&0x80 == 0 {
			break
		}
		if n+1 == len(d.head) {
			return d.more(n + 2)
		}
	}
	return d.endRectangle(length)
}
