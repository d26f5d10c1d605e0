package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// enough is how many pixels must not be black for a picture: more than a pointer, less than a window.
const enough = 256

// firstPixels is the least RFB client (RFC 6143) that sees a picture. It returns as soon as there is one.
func firstPixels(conn io.ReadWriter) error {
	r := bufio.NewReaderSize(conn, 64<<10)
	read := func(n int) ([]byte, error) {
		p := make([]byte, n)
		_, err := io.ReadFull(r, p)
		return p, err
	}
	if _, err := read(12); err != nil { // its version
		return err
	}
	if _, err := io.WriteString(conn, "RFB 003.008\n"); err != nil {
		return err
	}
	types, err := r.ReadByte()
	if err != nil || types == 0 {
		return fmt.Errorf("rfb: no security types: %w", err)
	}
	if _, err := read(int(types)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{1}); err != nil { // None
		return err
	}
	if result, err := read(4); err != nil || binary.BigEndian.Uint32(result) != 0 {
		return fmt.Errorf("rfb: refused: %w", err)
	}
	if _, err := conn.Write([]byte{1}); err != nil { // shared
		return err
	}
	init, err := read(24)
	if err != nil {
		return err
	}
	if _, err := read(int(binary.BigEndian.Uint32(init[20:]))); err != nil { // the desktop's name
		return err
	}
	setup := []byte{
		0, 0, 0, 0, 8, 8, 0, 1, 0, 7, 0, 7, 0, 3, 0, 3, 6, 0, 0, 0, // SetPixelFormat: a byte a pixel, 3-3-2
		2, 0, 0, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x11, // SetEncodings: Raw, and Cursor to keep the pointer out of the picture
	}
	if _, err := conn.Write(setup); err != nil {
		return err
	}
	seen := 0
	for incremental := byte(0); ; incremental = 1 {
		request := append([]byte{3, incremental, 0, 0, 0, 0}, init[:4]...)
		if _, err := conn.Write(request); err != nil {
			return err
		}
		for updated := false; !updated; {
			kind, err := r.ReadByte()
			if err != nil {
				return err
			}
			switch kind {
			case 0: // FramebufferUpdate
				updated = true
				head, err := read(3)
				if err != nil {
					return err
				}
				for range binary.BigEndian.Uint16(head[1:]) {
					rect, err := read(12)
					if err != nil {
						return err
					}
					w, h := int(binary.BigEndian.Uint16(rect[4:])), int(binary.BigEndian.Uint16(rect[6:]))
					switch encoding := int32(binary.BigEndian.Uint32(rect[8:])); encoding {
					case 0:
						pixels, err := read(w * h)
						if err != nil {
							return err
						}
						for _, p := range pixels {
							if p != 0 {
								seen++
							}
						}
					case -239:
						if _, err := read(w*h + (w+7)/8*h); err != nil {
							return err
						}
					default:
						return fmt.Errorf("rfb: encoding %d was not asked for", encoding)
					}
				}
				if seen >= enough {
					return nil
				}
			case 2: // Bell
			case 3: // ServerCutText
				head, err := read(7)
				if err != nil {
					return err
				}
				if _, err := r.Discard(int(binary.BigEndian.Uint32(head[3:]))); err != nil {
					return err
				}
			default:
				return errors.New("rfb: a message that was not asked for")
			}
		}
	}
}
