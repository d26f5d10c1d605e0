package picture_test

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"

	"github.com/oriel-project/oriel/internal/picture"
)

var limit = picture.Limit{Bytes: 20_000, Width: 100, Height: 50, Icon: true}

func file(t testing.TB, format picture.Format, width, height int) []byte {
	t.Helper()
	img := image.NewPaletted(image.Rect(0, 0, width, height), color.Palette{color.White, color.Black})
	var b bytes.Buffer
	var err error
	switch format {
	case picture.PNG:
		err = png.Encode(&b, img)
	case picture.JPEG:
		err = jpeg.Encode(&b, img, nil)
	case picture.GIF:
		err = gif.Encode(&b, img, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// icon makes an icon of pictures.
func icon(pictures ...[]byte) []byte {
	b := binary.LittleEndian.AppendUint16([]byte("\x00\x00\x01\x00"), uint16(len(pictures)))
	at := 6 + 16*len(pictures)
	for _, p := range pictures {
		b = append(b, 16, 16, 0, 0, 1, 0, 32, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
		b = binary.LittleEndian.AppendUint32(b, uint32(at))
		at += len(p)
	}
	return append(b, bytes.Join(pictures, nil)...)
}

// bitmap makes the bitmap of an icon, with so many bytes after its header.
func bitmap(width, height, bits, rest int) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 40)
	b = binary.LittleEndian.AppendUint32(b, uint32(width))
	b = binary.LittleEndian.AppendUint32(b, uint32(2*height))
	b = binary.LittleEndian.AppendUint16(b, 1)
	b = binary.LittleEndian.AppendUint16(b, uint16(bits))
	return append(b, make([]byte, 24+rest)...)
}

// resized changes the width and height that a PNG states.
func resized(png []byte, width, height uint32) []byte {
	b := bytes.Clone(png)
	binary.BigEndian.PutUint32(b[16:], width)
	binary.BigEndian.PutUint32(b[20:], height)
	return b
}

// scans makes a progressive JPEG of 8 × 8 pixels that is drawn in so many scans, of which all but the first change nothing: each costs a few bytes, and in a large
// picture as much work as any other.
func scans(n int) []byte {
	b := []byte("\xff\xd8")
	segment := func(marker byte, data ...byte) {
		b = append(b, 0xff, marker)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(data)+2)), data...)
	}
	// A Huffman table with a single code, which is the bit 0.
	table := func(class, value byte) []byte { return append(append([]byte{class, 1}, make([]byte, 15)...), value) }
	segment(0xdb, append([]byte{0}, bytes.Repeat([]byte{1}, 64)...)...)
	segment(0xc2, 8, 0, 8, 0, 8, 1, 1, 0x11, 0)
	segment(0xc4, table(0x00, 0x00)...) // no difference
	segment(0xc4, table(0x10, 0x00)...) // the end of the block
	for k := range n {
		from := byte(min(k, 1))
		segment(0xda, 1, 1, 0x00, from, 63*from, 0x00)
		b = append(b, 0x00)
	}
	return append(b, 0xff, 0xd9)
}

func TestCheck(t *testing.T) {
	whole := file(t, picture.PNG, 100, 50)
	for name, test := range map[string]struct {
		data   []byte
		format picture.Format
		err    string
	}{
		"the largest PNG":            {whole, picture.PNG, ""},
		"the largest JPEG":           {file(t, picture.JPEG, 100, 50), picture.JPEG, ""},
		"the largest GIF":            {file(t, picture.GIF, 100, 50), picture.GIF, ""},
		"too wide":                   {file(t, picture.PNG, 101, 50), "", "has 101 × 50 pixels, and may have 100 × 50"},
		"too high":                   {file(t, picture.JPEG, 100, 51), "", "has 100 × 51 pixels"},
		"a GIF that is too wide":     {file(t, picture.GIF, 101, 1), "", "has 101 × 1 pixels"},
		"too many bytes":             {append(bytes.Clone(whole), make([]byte, 20_000)...), "", "bytes, and may have 20000"},
		"a bomb":                     {resized(whole, 1<<31-1, 1<<31-1), "", "damaged"},
		"cut off":                    {whole[:len(whole)/2], "", "damaged"},
		"only the beginning":         {whole[:8], "", "damaged"},
		"a JPEG of many scans":       {scans(64), picture.JPEG, ""},
		"a JPEG of too many scans":   {scans(65), "", "is drawn in 65 scans, and may be in 64"},
		"a cut JPEG":                 {file(t, picture.JPEG, 100, 50)[:200], "", "damaged"},
		"a cut GIF":                  {file(t, picture.GIF, 100, 50)[:12], "", "damaged"},
		"nothing":                    {nil, "", "is none of PNG, JPEG, GIF and ICO"},
		"SVG":                        {[]byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`), "", "is none of"},
		"HTML":                       {[]byte("<html>"), "", "is none of"},
		"WebP":                       {[]byte("RIFF\x00\x00\x00\x00WEBPVP8 "), "", "is none of"},
		"an icon of PNGs":            {icon(file(t, picture.PNG, 16, 16), file(t, picture.PNG, 32, 32)), picture.ICO, ""},
		"an icon of a bitmap":        {icon(bitmap(16, 16, 32, 16*16*4+16*4)), picture.ICO, ""},
		"an icon with a palette":     {icon(bitmap(16, 16, 4, 16*4+16*8)), picture.ICO, ""},
		"an icon that is too large":  {icon(file(t, picture.PNG, 16, 16), file(t, picture.PNG, 16, 51)), "", "has 16 × 51 pixels"},
		"a bitmap that is too large": {icon(bitmap(101, 16, 1, 5000)), "", "has 101 × 16 pixels"},
		"a bitmap upside down":       {icon(bitmap(16, -16, 32, 5000)), "", "has 16 × -16 pixels"},
		"a bitmap that is cut off":   {icon(bitmap(16, 16, 32, 16*16*4-1)), "", "not a whole icon"},
		"a bitmap of odd colours":    {icon(bitmap(16, 16, 7, 5000)), "", "not a whole icon"},
		"an icon of a JPEG":          {icon(file(t, picture.JPEG, 16, 16)), "", "not a whole icon"},
		"an icon of nothing":         {icon(), "", "not a whole icon"},
		"an icon of 33 pictures":     {icon(make([][]byte, 33)...), "", "not a whole icon"},
		"an icon that is cut off":    {icon(whole)[:40], "", "not a whole icon"},
		"the beginning of an icon":   {[]byte("\x00\x00\x01\x00"), "", "not a whole icon"},
	} {
		t.Run(name, func(t *testing.T) {
			format, err := picture.Check(test.data, limit)
			switch {
			case test.err == "" && (err != nil || format != test.format):
				t.Errorf("it is %q, %v", format, err)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("it is %q, %v", format, err)
			}
		})
	}
	if _, err := picture.Check(icon(file(t, picture.PNG, 16, 16)), picture.Limit{Bytes: 1000, Width: 100, Height: 100}); err == nil {
		t.Error("an icon is let in where none may be")
	}
}

func FuzzCheck(f *testing.F) {
	for _, format := range []picture.Format{picture.PNG, picture.JPEG, picture.GIF} {
		f.Add(file(f, format, 5, 5))
	}
	f.Add(icon(file(f, picture.PNG, 3, 3), bitmap(2, 2, 8, 2048)))
	f.Fuzz(func(t *testing.T, data []byte) {
		format, err := picture.Check(data, limit)
		if err == nil && (format.ContentType() == "" || picture.Detect(data) != format || len(data) > limit.Bytes) {
			t.Errorf("%q passes as %q", data, format)
		}
	})
}
