package rfb

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Encodings and pseudo-encodings.
const (
	encodingRaw      = 0
	encodingCopyRect = 1
	encodingRRE      = 2
	encodingHextile  = 5
	encodingTight    = 7
	encodingZRLE     = 16

	pseudoQuality9            = -23
	pseudoQuality0            = -32
	pseudoDesktopSize         = -223
	pseudoLastRect            = -224
	pseudoCursor              = -239
	pseudoCompress9           = -247
	pseudoCompress0           = -256
	pseudoQEMUKey             = -258
	pseudoQEMULED             = -261
	pseudoDesktopName         = -307
	pseudoExtendedDesktopSize = -308
	pseudoFence               = -312
	pseudoContinuousUpdates   = -313
	pseudoVMwareCursor        = 0x574d5664
	pseudoExtendedClipboard   = -0x3f5e1a32 // 0xc0a1e5ce
)

// followed tells whether the messages that an encoding leads to are known here. It leaves out xvp: nobody who sits before a
// display switches the machine off.
func followed(encoding int32) bool {
	switch encoding {
	case encodingRaw, encodingCopyRect, encodingRRE, encodingHextile, encodingTight, encodingZRLE,
		pseudoDesktopSize, pseudoLastRect, pseudoCursor, pseudoQEMUKey, pseudoQEMULED, pseudoDesktopName, pseudoExtendedDesktopSize,
		pseudoFence, pseudoContinuousUpdates, pseudoVMwareCursor, pseudoExtendedClipboard:
		return true
	}
	return pseudoQuality0 <= encoding && encoding <= pseudoQuality9 || pseudoCompress0 <= encoding && encoding <= pseudoCompress9
}

// Messages of viewers.
const (
	setPixelFormat   = 0
	setEncodings     = 2
	updateRequest    = 3
	keyEvent         = 4
	pointerEvent     = 5
	clientCutText    = 6
	enableContinuous = 150
	clientFence      = 248
	setDesktopSize   = 251
	qemuMessage      = 255
	qemuExtendedKey  = 0
)

const securityNone = 1

func viewerVersion(d *flow) error {
	if string(d.head) != protocolVersion {
		return fmt.Errorf("rfb: the viewer speaks %.12q, not version 3.8", d.head)
	}
	return d.then(0, 1, viewerSecurity)
}

func viewerSecurity(d *flow) error {
	if d.head[0] != securityNone {
		return fmt.Errorf("rfb: the viewer chose security type %d; only None is known here", d.head[0])
	}
	return d.then(0, 1, viewerInit)
}

func viewerInit(d *flow) error { return d.then(0, 1, viewerMessage) }

func viewerMessage(d *flow) error {
	f := d.f
	next := func(left int64) error { return d.then(left, 1, viewerMessage) }
	// have tells whether the message is there as far as its first n bytes; if not, it is waited for.
	have := func(n int) bool {
		if len(d.head) >= n {
			return true
		}
		d.need = n
		return false
	}
	switch d.head[0] {
	case setPixelFormat:
		if !have(20) {
			return nil
		}
		if f.format.Load() == 0 {
			return errors.New("rfb: the viewer sets the pixel format before the display has named its own")
		}
		if f.asked {
			return errors.New("rfb: the viewer changes the pixel format while updates are under way")
		}
		format, err := readFormat(d.head[4:])
		if err != nil {
			return err
		}
		f.setFormat(format)
		return next(0)
	case setEncodings:
		return d.hold(4, viewerEncodings)
	case updateRequest, enableContinuous:
		if !have(10) {
			return nil
		}
		f.asked = true
		return next(0)
	case keyEvent:
		if !have(8) {
			return nil
		}
		f.events.Input()
		return next(0)
	case pointerEvent:
		if !have(6) {
			return nil
		}
		f.events.Input()
		return next(0)
	case clientCutText:
		return d.hold(8, cutText)
	case clientFence:
		if !have(9) {
			return nil
		}
		if d.head[8] > maxFence {
			return fmt.Errorf("rfb: the viewer's fence has %d bytes", d.head[8])
		}
		return next(int64(d.head[8]))
	case setDesktopSize:
		if !have(8) {
			return nil
		}
		return next(16 * int64(d.head[6]))
	case qemuMessage:
		if !have(2) {
			return nil
		}
		if d.head[1] != qemuExtendedKey {
			return fmt.Errorf("rfb: the viewer sent a message 255.%d, which is not known here", d.head[1])
		}
		if !have(12) {
			return nil
		}
		f.events.Input()
		return next(0)
	}
	return fmt.Errorf("rfb: the viewer sent a message %d, which is not known here", d.head[0])
}

// viewerEncodings takes out of SetEncodings what is not followed, and the extended clipboard when no text may pass either way.
func viewerEncodings(d *flow) error {
	n := d.u16(2)
	if n > maxEncodings {
		return fmt.Errorf("rfb: the viewer names %d encodings", n)
	}
	if len(d.head) < 4+4*n {
		return d.more(4 + 4*n)
	}
	kept := d.head[:4]
	for at := 4; at < len(d.head); at += 4 {
		encoding := int32(d.u32(at))
		if !followed(encoding) || encoding == pseudoExtendedClipboard && !d.f.rules.CopyIn && !d.f.rules.CopyOut {
			continue
		}
		kept = append(kept, d.head[at:at+4]...) // never before where it is read
	}
	binary.BigEndian.PutUint16(kept[2:], uint16((len(kept)-4)/4))
	d.head = kept
	return d.release(0, viewerMessage)
}
