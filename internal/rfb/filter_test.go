package rfb

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var order = binary.BigEndian

func u16(n int) []byte   { return order.AppendUint16(nil, uint16(n)) }
func u32(n int64) []byte { return order.AppendUint32(nil, uint32(n)) }

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

// format24 is what noVNC asks for, format16 another possible one.
var (
	format24 = []byte{32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0}
	format16 = []byte{16, 16, 0, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0, 0, 0, 0}
)

// viewerHello and displayHello are the beginnings of a stream.
func viewerHello() []byte { return []byte(protocolVersion + "\x01\x01") }

func displayHello(format []byte) []byte {
	return join([]byte(protocolVersion+"\x02\x01\x10\x00\x00\x00\x00"), u16(800), u16(600), format, u32(5), []byte("hello"))
}

func encodings(list ...int32) []byte {
	b := join([]byte{setEncodings, 0}, u16(len(list)))
	for _, e := range list {
		b = order.AppendUint32(b, uint32(e))
	}
	return b
}

func latin(kind byte, text string) []byte {
	return join([]byte{kind, 0, 0, 0}, u32(int64(len(text))), []byte(text))
}

func extended(kind byte, flags int64, body []byte) []byte {
	return join([]byte{kind, 0, 0, 0}, u32(-int64(4+len(body))), u32(flags), body)
}

func provide(kind byte, text string) []byte {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	z.Write(u32(int64(len(text) + 1)))
	io.WriteString(z, text+"\x00")
	z.Close()
	return extended(kind, clipProvide|clipText, b.Bytes())
}

// log takes note of events.
type log struct {
	inputs  int
	refused []string
}

func (l *log) events() Events {
	return Events{Input: func() { l.inputs++ }, Refused: func(d Direction, r Reason) { l.refused = append(l.refused, fmt.Sprint(d, " ", r)) }}
}

// feed gives a stream to one direction in pieces.
func feed(run func(io.Writer, []byte) error, stream []byte, piece func(left int) int) ([]byte, error) {
	var out bytes.Buffer
	for len(stream) > 0 {
		n := piece(len(stream))
		if err := run(&out, stream[:n]); err != nil {
			return out.Bytes(), err
		}
		stream = stream[n:]
	}
	return out.Bytes(), nil
}

func whole(left int) int { return left }
func bytewise(int) int   { return 1 }
func someways(r *rand.Rand) func(int) int {
	return func(left int) int { return 1 + r.IntN(left) }
}

func TestClipboardRules(t *testing.T) {
	all := Rules{CopyIn: true, CopyOut: true}
	limited := Rules{CopyIn: true, CopyOut: true, CopyInMax: 5, CopyOutMax: 5}
	none := u32(0)[:0]
	cleared := extended(clientCutText, clipNotify, none)
	for _, tt := range []struct {
		name    string
		rules   Rules
		in, out []byte // sent by the viewer, by the display
		gotIn   []byte // what arrives
		gotOut  []byte
		refused []string
	}{
		{"all allowed", all, latin(6, "from here"), latin(3, "from there"), latin(6, "from here"), latin(3, "from there"), nil},
		{"all allowed, extended", all, provide(6, "grüß"), provide(3, "gott"), provide(6, "grüß"), provide(3, "gott"), nil},
		{"none allowed", Rules{}, latin(6, "from here"), latin(3, "from there"), nil, nil, []string{"in disabled", "out disabled"}},
		{"none allowed, extended", Rules{}, provide(6, "x"), provide(3, "y"), nil, nil, []string{"in disabled", "out disabled"}},
		{"in only", Rules{CopyIn: true}, latin(6, "a"), latin(3, "b"), latin(6, "a"), nil, []string{"out disabled"}},
		{"out only", Rules{CopyOut: true}, latin(6, "a"), latin(3, "b"), nil, latin(3, "b"), []string{"in disabled"}},
		{"offers, in only", Rules{CopyIn: true}, extended(6, clipNotify|clipText, none), extended(3, clipNotify|clipText, none),
			extended(6, clipNotify|clipText, none), nil, []string{"out disabled"}},
		{"offers, out only", Rules{CopyOut: true}, extended(6, clipNotify|clipText, none), extended(3, clipNotify|clipText, none),
			nil, extended(3, clipNotify|clipText, none), []string{"in disabled"}},
		{"nothing to offer", Rules{}, extended(6, clipNotify, none), extended(3, clipNotify, none), nil, nil, nil},
		// Whose text may not go to the other side is not asked for it.
		{"questions, in only", Rules{CopyIn: true}, extended(6, clipRequest|clipText, none), extended(3, clipRequest|clipText, none),
			nil, extended(3, clipRequest|clipText, none), nil},
		{"capabilities", Rules{CopyIn: true}, extended(6, clipCaps|clipProvide|clipText, u32(0)), extended(3, clipCaps|clipText, u32(9)),
			extended(6, clipCaps|clipProvide|clipText, u32(0)), extended(3, clipCaps|clipText, u32(9)), nil},
		{"just short enough", limited, latin(6, "12345"), provide(3, "äöü\r\nß"), latin(6, "12345"), provide(3, "äöü\r\nß"), nil},
		{"too long", limited, latin(6, "123456"), latin(3, "123456"), nil, nil, []string{"in length", "out length"}},
		{"too long, extended", limited, provide(6, "äöüß12"), provide(3, strings.Repeat("x", 1<<20)), cleared, nil, []string{"in length", "out length"}},
		{"a text that is not UTF-8", limited, provide(6, strings.Repeat("\x80", 21)), nil, cleared, nil, []string{"in length"}},
		{"a picture", limited, extended(6, clipProvide|8, []byte("bitmap")), nil, cleared, nil, []string{"in length"}},
		{"longer than what is held", limited, nil, extended(3, clipProvide|clipText, make([]byte, maxHeld+1)), nil, nil, []string{"out length"}},
	} {
		for name, piece := range map[string]func(int) int{"whole": whole, "bytewise": bytewise} {
			var l log
			f := NewFilter(tt.rules, l.events())
			key := []byte{keyEvent, 1, 0, 0, 0, 0, 0, 65}
			got, err := feed(f.FromViewer, join(viewerHello(), key, tt.in, key), piece)
			if want := join(viewerHello(), key, tt.gotIn, key); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %s: the display got %q, %v, want %q", tt.name, name, got, err, want)
			}
			got, err = feed(f.FromDisplay, join(displayHello(format24), []byte{bell}, tt.out, []byte{bell}), piece)
			if want := join(displayHello(format24), []byte{bell}, tt.gotOut, []byte{bell}); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %s: the viewer got %q, %v, want %q", tt.name, name, got, err, want)
			}
			if !slices.Equal(l.refused, tt.refused) {
				t.Errorf("%s, %s: refused %v, want %v", tt.name, name, l.refused, tt.refused)
			}
			if l.inputs != 2 {
				t.Errorf("%s, %s: %d inputs were told of", tt.name, name, l.inputs)
			}
			if cap(f.display.head) > keepHead || cap(f.viewer.head) > keepHead {
				t.Errorf("%s, %s: a buffer of %d bytes is kept", tt.name, name, max(cap(f.display.head), cap(f.viewer.head)))
			}
		}
	}
}

// A small message that inflates to very much is not inflated further than the limit.
func TestInflateIsBounded(t *testing.T) {
	bomb := provide(3, strings.Repeat("a", 64<<20))
	f := NewFilter(Rules{CopyOut: true, CopyOutMax: 10}, Events{})
	if _, err := feed(f.FromDisplay, join(displayHello(format24), bomb), whole); err != nil {
		t.Fatal(err)
	}
	within, err := measure(clipProvide|clipText, bomb[12:], 10)
	if within || err != nil {
		t.Errorf("measured as %v, %v", within, err)
	}
}

func TestEncodingsThatAreNotFollowedAreTakenOut(t *testing.T) {
	asked := []int32{encodingCopyRect, 50, encodingTight, -260, encodingZRLE, 21, encodingHextile, encodingRRE, 6, encodingRaw, -26, -254,
		pseudoDesktopSize, pseudoLastRect, pseudoQEMUKey, pseudoQEMULED, pseudoExtendedDesktopSize, -309, pseudoFence, pseudoContinuousUpdates,
		pseudoDesktopName, pseudoExtendedClipboard, -316, pseudoVMwareCursor, pseudoCursor}
	for _, tt := range []struct {
		rules Rules
		clip  bool
	}{{Rules{}, false}, {Rules{CopyIn: true}, true}, {Rules{CopyOut: true, CopyOutMax: 3}, true}} {
		want := slices.DeleteFunc(slices.Clone(asked), func(e int32) bool {
			return slices.Contains([]int32{50, -260, 21, 6, -309, -316}, e) || e == pseudoExtendedClipboard && !tt.clip
		})
		f := NewFilter(tt.rules, Events{})
		got, err := feed(f.FromViewer, join(viewerHello(), encodings(asked...)), bytewise)
		if expected := join(viewerHello(), encodings(want...)); err != nil || !bytes.Equal(got, expected) {
			t.Errorf("%+v: got %v, %v, want %v", tt.rules, got, err, expected)
		}
	}
	if got := uint32(1<<32 + pseudoExtendedClipboard); got != 0xc0a1e5ce {
		t.Errorf("the extended clipboard is %#x", got)
	}
}

func TestWhatIsNotKnownEndsTheStream(t *testing.T) {
	update := func(rect ...byte) []byte {
		return join(displayHello(format24), []byte{framebufferUpdate, 0, 0, 1}, rect)
	}
	rect := func(encoding int64, rest ...byte) []byte {
		return update(join(u16(0), u16(0), u16(64), u16(64), u32(encoding), rest)...)
	}
	hello := viewerHello()
	for name, stream := range map[string][]byte{
		"version": []byte("RFB 003.003\n"), "security": []byte(protocolVersion + "\x02"), "message": append(hello, 7), "xvp": append(hello, 250),
		"QEMU audio": join(hello, []byte{255, 1}), "encodings": join(hello, []byte{2, 0, 0xff, 0xff}), "fence": join(hello, []byte{248, 0, 0, 0, 0, 0, 0, 0, 65}),
		"format":                              join(hello, []byte{0, 0, 0, 0, 24, 24, 0, 1}, make([]byte, 12)),
		"format before the display's":         join(hello, []byte{0, 0, 0, 0}, format24),
		"format with odd colours":             join(hello, []byte{0, 0, 0, 0}, format24[:11], []byte{7, 16, 0, 0, 0}),
		"format while updates are under way":  join(hello, []byte{3}, make([]byte, 9), []byte{0, 0, 0, 0}, format24),
		"clipboard without flags":             join(hello, []byte{6, 0, 0, 0}, u32(-3)),
		"clipboard of two minds":              join(hello, extended(6, clipNotify|clipProvide, nil)),
		"clipboard with long capabilities":    join(hello, extended(6, clipCaps, make([]byte, maxCaps+1))),
		"clipboard with a text in an offer":   join(hello, extended(6, clipNotify, []byte("secret"))),
		"clipboard with a text in a question": join(hello, extended(6, clipRequest, []byte("secret"))),
		"clipboard that does not inflate":     join(hello, extended(6, clipProvide|clipText, []byte("secret"))),
		"clipboard that ends early":           join(hello, extended(6, clipProvide|clipText, provide(6, "")[12:18])),
	} {
		f := NewFilter(Rules{CopyIn: true, CopyInMax: 9}, Events{})
		if name != "format before the display's" {
			if err := f.FromDisplay(io.Discard, displayHello(format24)); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := feed(f.FromViewer, stream, whole); err == nil || bytes.Contains(got, []byte("secret")) {
			t.Errorf("%s of the viewer passed as %q", name, got)
		} else if again := f.FromViewer(io.Discard, []byte{4}); again != err {
			t.Errorf("%s of the viewer: after %v comes %v", name, err, again)
		}
	}
	for name, stream := range map[string][]byte{
		"version": []byte("RFB 004.001\n"), "security": []byte(protocolVersion + "\x00"), "refusal": []byte(protocolVersion + "\x01\x01\x00\x00\x00\x01"),
		"name": displayHello(format24)[: 19+20 : 19+20], "message": join(displayHello(format24), []byte{9}), "encoding": rect(6),
		"Tight": rect(encodingTight, 0xa0), "Tight filter": rect(encodingTight, 0x40, 3), "Hextile": rect(encodingHextile, 0x20),
		"cursor": rect(pseudoVMwareCursor, 2, 0), "fence": join(displayHello(format24), []byte{248, 0, 0, 0, 0, 0, 0, 0, 65}),
		"name of a rectangle": rect(pseudoDesktopName, 1, 0, 0, 0),
	} {
		f := NewFilter(Rules{CopyIn: true, CopyOut: true}, Events{})
		if name == "name" {
			stream = join(stream, u32(maxName+1))
		}
		if got, err := feed(f.FromDisplay, stream, whole); err == nil {
			t.Errorf("%s of the display passed as %q", name, got)
		}
	}
}

func TestWriteErrorEndsTheStream(t *testing.T) {
	f := NewFilter(Rules{}, Events{})
	full := errors.New("full")
	if err := f.FromViewer(failing{full}, viewerHello()); err != full {
		t.Errorf("got %v", err)
	}
	if err := f.FromViewer(io.Discard, []byte{4}); err != full {
		t.Errorf("then got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// drawBytes is rapid's SliceOfN for many bytes, which would be slow.
func filler(t *rapid.T, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// drawRectangle makes any rectangle in a format of n bytes a pixel, tight of them in Tight; last tells that none may follow it.
func drawRectangle(t *rapid.T, n, tight int) (rect []byte, last bool) {
	w, h := rapid.IntRange(0, 40).Draw(t, "width"), rapid.IntRange(0, 40).Draw(t, "height")
	head := func(encoding int64, rest ...[]byte) []byte {
		return join(u16(1), u16(2), u16(w), u16(h), u32(encoding), join(rest...))
	}
	compact := func() []byte {
		size := rapid.SampledFrom([]int{0, 1, 127, 128, 5000, 16383, 16384, 70000}).Draw(t, "size")
		length := []byte{byte(size & 0x7f)}
		if size > 0x7f {
			length = []byte{byte(size) | 0x80, byte(size >> 7 & 0x7f)}
		}
		if size > 0x3fff {
			length = []byte{byte(size) | 0x80, byte(size>>7) | 0x80, byte(size >> 14)}
		}
		return join(length, filler(t, size))
	}
	pixels := func(size int) []byte {
		if size < 12 {
			return filler(t, size)
		}
		return compact()
	}
	switch rapid.SampledFrom([]string{"raw", "copy", "rre", "hextile", "tight", "zrle", "cursor", "vmware", "size", "screens", "name", "led", "last"}).Draw(t, "rectangle") {
	case "raw":
		return head(encodingRaw, filler(t, w*h*n)), false
	case "copy":
		return head(encodingCopyRect, filler(t, 4)), false
	case "rre":
		count := rapid.IntRange(0, 9).Draw(t, "subrects")
		return head(encodingRRE, u32(int64(count)), filler(t, n+count*(n+8))), false
	case "hextile":
		var tiles []byte
		for y := 0; y < h; y += 16 {
			for x := 0; x < w; x += 16 {
				bits := rapid.IntRange(0, 31).Draw(t, "tile")
				tiles = append(tiles, byte(bits))
				if bits&1 != 0 {
					tiles = append(tiles, filler(t, min(16, w-x)*min(16, h-y)*n)...)
					continue
				}
				tiles = append(tiles, filler(t, (bits>>1&1+bits>>2&1)*n)...)
				if bits&8 != 0 {
					count := rapid.IntRange(0, 255).Draw(t, "subrects")
					tiles = append(append(tiles, byte(count)), filler(t, count*(2+bits>>4*n))...)
				}
			}
		}
		if w*h == 0 {
			tiles = nil
		}
		return head(encodingHextile, tiles), false
	case "tight":
		reset := byte(rapid.IntRange(0, 15).Draw(t, "reset"))
		switch rapid.SampledFrom([]string{"fill", "jpeg", "plain", "copy", "palette", "gradient"}).Draw(t, "tight") {
		case "fill":
			return head(encodingTight, []byte{0x80 | reset}, filler(t, tight)), false
		case "jpeg":
			return head(encodingTight, []byte{0x90 | reset}, compact()), false
		case "plain":
			return head(encodingTight, []byte{0x30 | reset}, pixels(w*h*tight)), false
		case "copy":
			return head(encodingTight, []byte{0x40 | reset, 0}, pixels(w*h*tight)), false
		case "gradient":
			return head(encodingTight, []byte{0x60 | reset, 2}, pixels(w*h*tight)), false
		}
		colours := rapid.IntRange(1, 256).Draw(t, "colours")
		row := w
		if colours <= 2 {
			row = (w + 7) / 8
		}
		return head(encodingTight, []byte{0x50 | reset, 1, byte(colours - 1)}, filler(t, colours*tight), pixels(row*h)), false
	case "zrle":
		size := rapid.IntRange(0, 9000).Draw(t, "size")
		return head(encodingZRLE, u32(int64(size)), filler(t, size)), false
	case "cursor":
		return head(pseudoCursor, filler(t, w*h*n+(w+7)/8*h)), false
	case "vmware":
		if rapid.Bool().Draw(t, "alpha") {
			return head(pseudoVMwareCursor, []byte{1, 0}, filler(t, w*h*4)), false
		}
		return head(pseudoVMwareCursor, []byte{0, 0}, filler(t, 2*w*h*n)), false
	case "size":
		return head(rapid.SampledFrom([]int64{pseudoDesktopSize, pseudoQEMUKey}).Draw(t, "pseudo")), false
	case "screens":
		count := rapid.IntRange(0, 3).Draw(t, "screens")
		return head(pseudoExtendedDesktopSize, []byte{byte(count), 0, 0, 0}, filler(t, 16*count)), false
	case "name":
		name := filler(t, rapid.IntRange(0, 99).Draw(t, "name"))
		return head(pseudoDesktopName, u32(int64(len(name))), name), false
	case "led":
		return head(pseudoQEMULED, []byte{3}), false
	}
	return head(pseudoLastRect), true
}

// A stream without texts comes out byte for byte, however it is cut, whatever the rules.
func TestStreamsWithoutTextsAreUntouched(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SampledFrom([]Rules{{}, {CopyIn: true}, {CopyOut: true, CopyOutMax: 3}, {CopyIn: true, CopyOut: true}}).Draw(t, "rules")
		var l log
		f := NewFilter(rules, l.events())

		viewer, format, n, tight := viewerHello(), format24, 4, 3
		if rapid.Bool().Draw(t, "small pixels") {
			format, n, tight = format16, 2, 2
		}
		viewer = join(viewer, []byte{setPixelFormat, 0, 0, 0}, format, encodings(encodingTight, pseudoCursor))
		inputs := 0
		for range rapid.IntRange(0, 20).Draw(t, "viewer's messages") {
			message := map[string][]byte{"ask": join([]byte{3}, filler(t, 9)), "key": join([]byte{4}, filler(t, 7)), "pointer": join([]byte{5}, filler(t, 5)),
				"continue": join([]byte{150}, filler(t, 9)), "fence": join([]byte{248, 0, 0, 0}, filler(t, 4), []byte{8}, filler(t, 8)),
				"size": join([]byte{251, 0}, filler(t, 4), []byte{2, 0}, filler(t, 32)), "extended key": join([]byte{255, 0}, filler(t, 10))}
			kind := rapid.SampledFrom([]string{"ask", "key", "pointer", "continue", "fence", "size", "extended key"}).Draw(t, "message")
			if kind == "key" || kind == "pointer" || kind == "extended key" {
				inputs++
			}
			viewer = append(viewer, message[kind]...)
		}
		var display []byte
		frames := 0
		for range rapid.IntRange(0, 10).Draw(t, "display's messages") {
			switch rapid.SampledFrom([]string{"update", "update", "bell", "end", "fence", "colours"}).Draw(t, "message") {
			case "update":
				frames++
				var rects []byte
				count, last := 0, false
				for range rapid.IntRange(0, 6).Draw(t, "rectangles") {
					var rect []byte
					rect, last = drawRectangle(t, n, tight)
					rects = append(rects, rect...)
					if count++; last {
						count = 65535
						break
					}
				}
				display = join(display, []byte{0, 0}, u16(count), rects)
			case "bell":
				display = append(display, bell)
			case "end":
				display = append(display, endOfContinuous)
			case "fence":
				display = join(display, []byte{248, 0, 0, 0}, filler(t, 4), []byte{3}, filler(t, 3))
			case "colours":
				display = join(display, []byte{1, 0, 0, 0}, u16(4), filler(t, 24))
			}
		}
		cut := someways(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "cuts"), 1)))
		hello, err := feed(f.FromDisplay, displayHello(format24), cut)
		if err != nil || !bytes.Equal(hello, displayHello(format24)) {
			t.Fatalf("the display's beginning came out as %q, %v", hello, err)
		}
		if got, err := feed(f.FromViewer, viewer, cut); err != nil || !bytes.Equal(got, viewer) {
			t.Fatalf("the viewer's stream came out as %q, %v, want %q", got, err, viewer)
		}
		if got, err := feed(f.FromDisplay, display, cut); err != nil || !bytes.Equal(got, display) {
			t.Fatalf("the display's stream of %d bytes came out with %d, %v", len(display), len(got), err)
		}
		if l.inputs != inputs || f.Frames() != int64(frames) || len(l.refused) != 0 {
			t.Fatalf("%d inputs, %d frames and %v were told of, want %d, %d", l.inputs, f.Frames(), l.refused, inputs, frames)
		}
		if f.display.step == nil || len(f.display.head) != 0 || f.display.left != 0 {
			t.Fatal("the end of the stream is not the end of a message")
		}
	})
}

// fuzz gives the same stream twice, cut in two ways: what comes out must be the same, and never more than came in.
func fuzz(t *testing.T, rules Rules, which func(*Filter) func(io.Writer, []byte) error, stream []byte, cuts uint64) {
	one, errOne := feed(which(NewFilter(rules, Events{})), stream, whole)
	two, errTwo := feed(which(NewFilter(rules, Events{})), stream, someways(rand.New(rand.NewPCG(cuts, 2))))
	if (errOne == nil) != (errTwo == nil) || errOne != nil && errOne.Error() != errTwo.Error() {
		t.Fatalf("whole: %v; in pieces: %v", errOne, errTwo)
	}
	if errOne == nil && !bytes.Equal(one, two) {
		t.Fatalf("whole: %q; in pieces: %q", one, two)
	}
	if len(two) > len(stream) {
		t.Fatalf("%d bytes became %d", len(stream), len(two))
	}
}

func rulesOf(bits uint8) Rules {
	r := Rules{CopyIn: bits&1 != 0, CopyOut: bits&2 != 0}
	if bits&4 != 0 {
		r.CopyInMax, r.CopyOutMax = 5, 5
	}
	return r
}

func FuzzFromViewer(f *testing.F) {
	hello := viewerHello()
	f.Add(join(hello, []byte{0, 0, 0, 0}, format24, encodings(1, 7, pseudoExtendedClipboard), latin(6, "hello"), provide(6, "world")), uint8(3), uint64(1))
	f.Add(join(hello, latin(6, "a long text"), provide(6, "a long text"), []byte{255, 0}, make([]byte, 10)), uint8(7), uint64(2))
	f.Add(join(hello, extended(6, clipCaps|clipText, u32(1)), extended(6, clipNotify|clipText, nil), []byte{251, 0, 0, 0, 0, 0, 1, 0}, make([]byte, 16)), uint8(0), uint64(3))
	f.Fuzz(func(t *testing.T, stream []byte, rules uint8, cuts uint64) {
		fuzz(t, rulesOf(rules), func(f *Filter) func(io.Writer, []byte) error {
			if err := f.FromDisplay(io.Discard, displayHello(format24)); err != nil {
				t.Fatal(err)
			}
			return f.FromViewer
		}, stream, cuts)
	})
}

func FuzzFromDisplay(f *testing.F) {
	rect := func(encoding int64, rest ...byte) []byte {
		return join(u16(0), u16(0), u16(20), u16(20), u32(encoding), rest)
	}
	f.Add(join(displayHello(format24), []byte{0, 0, 0, 3}, rect(encodingTight, 0x50, 1, 1, 1, 2, 3, 4, 5, 6, 3, 7, 8, 9), rect(encodingHextile, 0, 1), make([]byte, 4*16*4)), uint8(3), uint64(1))
	f.Add(join(displayHello(format24), []byte{0, 0, 255, 255}, rect(encodingTight, 0x90, 0x81, 1), make([]byte, 129), rect(pseudoLastRect), provide(3, "text"), latin(3, "text")), uint8(7), uint64(2))
	f.Add(join(displayHello(format16), []byte{0, 0, 0, 1}, rect(encodingRRE, 0, 0, 0, 1), make([]byte, 12), []byte{2}, extended(3, clipCaps|clipText, u32(1))), uint8(0), uint64(3))
	f.Add(join(displayHello(format24), []byte{0, 0, 0, 2}, rect(encodingZRLE, 0, 0, 0, 1, 9), rect(pseudoVMwareCursor, 1, 0), make([]byte, 1600), latin(3, "too long")), uint8(6), uint64(4))
	f.Fuzz(func(t *testing.T, stream []byte, rules uint8, cuts uint64) {
		fuzz(t, rulesOf(rules), func(f *Filter) func(io.Writer, []byte) error { return f.FromDisplay }, stream, cuts)
	})
}

// BenchmarkFromDisplay is what following the messages adds to the copying of a desktop's Tight rectangles (32 by 32 pixels of JPEG,
// 600 bytes each, in pieces of 64 KiB); io.Copy is that without it.
func BenchmarkFromDisplay(b *testing.B) {
	rect := join(u16(0), u16(0), u16(32), u16(32), u32(encodingTight), []byte{0x90, 0x80 | 600&0x7f, 600 >> 7}, make([]byte, 600))
	var update []byte
	for range 1000 {
		update = append(update, rect...)
	}
	update = join([]byte{0, 0}, u16(1000), update)
	b.Run("filter", func(b *testing.B) {
		f := NewFilter(Rules{}, Events{})
		if err := f.FromDisplay(io.Discard, displayHello(format24)); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(update)))
		b.ReportAllocs()
		var out sink
		for b.Loop() {
			for piece := range slices.Chunk(update, 64<<10) {
				if err := f.FromDisplay(&out, piece); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("io.Copy", func(b *testing.B) {
		b.SetBytes(int64(len(update)))
		b.ReportAllocs()
		var out sink
		buffer := make([]byte, 64<<10)
		for b.Loop() {
			if _, err := io.CopyBuffer(&out, onlyReader{bytes.NewReader(update)}, buffer); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// sink copies what it gets, as a socket does.
type sink struct{ buffer [64 << 10]byte }

func (s *sink) Write(p []byte) (int, error) { return copy(s.buffer[:], p), nil }

type onlyReader struct{ io.Reader }
