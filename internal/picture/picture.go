// Package picture checks image files that come from outside before they are shown to people: that they are what they seem to be, can be
// decoded, and are no larger than they may be. Nothing is decoded before its size is known to be small.
package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image/gif"
	"image/jpeg"
	"image/png"
)

// Format is a kind of image file. Its value is the ending of its name.
type Format string

// The formats.
const (
	PNG  Format = ".png"
	JPEG Format = ".jpg"
	GIF  Format = ".gif"
	ICO  Format = ".ico"
)

// ContentType gives the format's media type; "" for what is no format.
func (f Format) ContentType() string {
	switch f {
	case PNG:
		return "image/png"
	case JPEG:
		return "image/jpeg"
	case GIF:
		return "image/gif"
	case ICO:
		return "image/x-icon"
	}
	return ""
}

// Limit is what an image may be.
type Limit struct {
	Bytes         int // of the file
	Width, Height int // in pixels
	Icon          bool
}

// formats says how each format is recognized, measured and tried. An icon is not among them: see checkIcon.
var formats = []struct {
	format Format
	magic  string
	size   func([]byte) (width, height int, err error)
	decode func([]byte) error
}{
	{PNG, "\x89PNG\r\n\x1a\n",
		func(b []byte) (int, int, error) {
			c, err := png.DecodeConfig(bytes.NewReader(b))
			return c.Width, c.Height, err
		},
		func(b []byte) error { _, err := png.Decode(bytes.NewReader(b)); return err }},
	{JPEG, "\xff\xd8\xff",
		func(b []byte) (int, int, error) {
			c, err := jpeg.DecodeConfig(bytes.NewReader(b))
			return c.Width, c.Height, err
		},
		decodeJPEG},
	{GIF, "GIF8",
		func(b []byte) (int, int, error) {
			c, err := gif.DecodeConfig(bytes.NewReader(b))
			return c.Width, c.Height, err
		},
		func(b []byte) error { _, err := gif.Decode(bytes.NewReader(b)); return err }}, // its first picture: there may be any number
}

// maxScans is how often a JPEG may go over its picture. Programs that save pictures in steps make about ten.
const maxScans = 64

// errScans is what is wrong with a file that would keep whoever shows it busy for long.
type errScans int

func (n errScans) Error() string {
	return fmt.Sprintf("is drawn in %d scans, and may be in %d", int(n), maxScans)
}

func decodeJPEG(b []byte) error {
	if n := bytes.Count(b, []byte("\xff\xda")); n > maxScans { // in what is not the beginning of a scan, ff is followed by something else
		return errScans(n)
	}
	_, err := jpeg.Decode(bytes.NewReader(b))
	return err
}

// Detect tells the format of an image by how it begins; "" when it is none.
func Detect(data []byte) Format {
	for _, f := range formats {
		if bytes.HasPrefix(data, []byte(f.magic)) {
			return f.format
		}
	}
	if bytes.HasPrefix(data, []byte(iconMagic)) {
		return ICO
	}
	return ""
}

const iconMagic = "\x00\x00\x01\x00"

// Check tells the format of an image. The error is a phrase for people that goes on after the file's name: "is 700 pixels high, …".
func Check(data []byte, limit Limit) (Format, error) {
	if len(data) > limit.Bytes {
		return "", fmt.Errorf("has %d bytes, and may have %d", len(data), limit.Bytes)
	}
	for _, f := range formats {
		if !bytes.HasPrefix(data, []byte(f.magic)) {
			continue
		}
		width, height, err := f.size(data)
		if err == nil {
			if err := limit.fits(width, height); err != nil {
				return "", err
			}
			err = f.decode(data)
		}
		if scans, ok := errors.AsType[errScans](err); ok {
			return "", scans
		}
		if err != nil {
			return "", errors.New("is damaged: it cannot be decoded")
		}
		return f.format, nil
	}
	if limit.Icon && bytes.HasPrefix(data, []byte(iconMagic)) {
		return ICO, checkIcon(data, limit)
	}
	if limit.Icon {
		return "", errors.New("is none of PNG, JPEG, GIF and ICO")
	}
	return "", errors.New("is none of PNG, JPEG and GIF")
}

func (l Limit) fits(width, height int) error {
	if width <= 0 || height <= 0 || width > l.Width || height > l.Height {
		return fmt.Errorf("has %d × %d pixels, and may have %d × %d", width, height, l.Width, l.Height)
	}
	return nil
}

// maxIcons is how many pictures an icon may have: one for each size and depth.
const maxIcons = 32

// checkIcon checks each picture of an icon: a PNG file, or a bitmap without the header that files of it have.
func checkIcon(data []byte, limit Limit) error {
	damaged := errors.New("is damaged: it is not a whole icon")
	if len(data) < 6 {
		return damaged
	}
	count := int(binary.LittleEndian.Uint16(data[4:]))
	if count == 0 || count > maxIcons || len(data) < 6+16*count {
		return damaged
	}
	for n := range count {
		entry := data[6+16*n:]
		size, at := uint64(binary.LittleEndian.Uint32(entry[8:])), uint64(binary.LittleEndian.Uint32(entry[12:]))
		if at+size > uint64(len(data)) {
			return damaged
		}
		picture := data[at : at+size]
		if bytes.HasPrefix(picture, []byte(formats[0].magic)) {
			if _, err := Check(picture, Limit{Bytes: limit.Bytes, Width: limit.Width, Height: limit.Height}); err != nil {
				return err
			}
			continue
		}
		if err := checkBitmap(picture, limit); err != nil {
			return err
		}
	}
	return nil
}

// checkBitmap checks the bitmap of an icon: a BITMAPINFOHEADER, a palette and uncompressed rows. The height that it states counts the
// mask, which follows and may be left out of those with transparency of their own.
func checkBitmap(b []byte, limit Limit) error {
	damaged := errors.New("is damaged: it is not a whole icon")
	if len(b) < 40 || binary.LittleEndian.Uint32(b) != 40 {
		return damaged
	}
	width, height := int(int32(binary.LittleEndian.Uint32(b[4:]))), int(int32(binary.LittleEndian.Uint32(b[8:])))/2
	bits, compression, colours := int(binary.LittleEndian.Uint16(b[14:])), binary.LittleEndian.Uint32(b[16:]), binary.LittleEndian.Uint32(b[32:])
	if err := limit.fits(width, height); err != nil {
		return err
	}
	palette := 0
	switch bits {
	case 1, 4, 8:
		palette = 1 << bits
		if colours != 0 && colours < uint32(palette) {
			palette = int(colours)
		}
	case 16, 24, 32:
	default:
		return damaged
	}
	if stride := (width*bits + 31) / 32 * 4; compression != 0 || len(b) < 40+4*palette+stride*height {
		return damaged
	}
	return nil
}
