//go:build ignore

// Wallpaper draws the desktop's background: a bay window (an oriel) with light behind it, and the name. Its second
// file is a tile of one colour, for sessions that show applications and no desktop.
//
//	go run wallpaper.go FILE.png PLAIN.png
//
// It is smooth and has no noise on purpose. Dithering would hide the gradient's steps, which are one part in 255 and
// hard to see, but every session's first picture goes through a lossless encoder: this one costs a few tens of
// kilobytes, a dithered one megabytes. The display scales it to cover the screen, so what matters is in the middle.
package main

import (
	"image"
	"image/color"
	"image/png"
	"log"
	"math"
	"os"
)

const width, height = 2560, 1600

type rgb struct{ r, g, b float64 }

func hex(v uint32) rgb {
	return rgb{float64(v >> 16 & 255), float64(v >> 8 & 255), float64(v & 255)}
}

func mix(a, b rgb, t float64) rgb {
	t = math.Max(0, math.Min(1, t))
	return rgb{a.r + (b.r-a.r)*t, a.g + (b.g-a.g)*t, a.b + (b.b-a.b)*t}
}

func smooth(t float64) float64 {
	t = math.Max(0, math.Min(1, t))
	return t * t * (3 - 2*t)
}

// background is the colour at a point of the unit square: night-blue, lighter to the top right, a glow behind the
// window and a second, warmer one low on the left.
func background(x, y float64) rgb {
	const aspect = float64(width) / height
	c := mix(hex(0x0a0e1a), hex(0x18233f), smooth(0.5+0.45*(x-0.5)-0.55*(y-0.5)))
	d := math.Hypot((x-0.5)*aspect, y-0.43)
	c = mix(c, hex(0x3a5ba6), 0.38*math.Exp(-d*d/0.10))
	d = math.Hypot((x-0.08)*aspect, y-1.05)
	c = mix(c, hex(0x6b3f6e), 0.30*math.Exp(-d*d/0.22))
	return c
}

// The drawing's unit is one hundredth of the height, its origin the middle of the window.
const unit = height / 100.0

// pane reports whether a point lies in one of the window's panes, and which: -1 left, 0 middle, 1 right. The side
// panes recede, as those of a bay do. Each has one glazing bar across.
func pane(x, y float64) (int, bool) {
	const (
		half   = 3.3  // of the middle pane's width
		gap    = 0.62 // between panes, and the glazing bar
		side   = 4.0  // of a side pane's width
		top    = -6.2 // where the arch of the middle begins
		bottom = 8.4
		bar    = -0.6
		slope  = 0.34
	)
	which, lift := 0, 0.0
	ax := math.Abs(x)
	switch {
	case ax <= half:
		if y < top-math.Sqrt(half*half-x*x)*0.92 {
			return 0, false
		}
	case ax >= half+gap && ax <= half+gap+side:
		which = int(math.Copysign(1, x))
		t := ax - half - gap
		lift = slope * t
		// A quarter of an arch that falls away to the outside.
		if y < top+0.9+lift-(2.4)*math.Sqrt(math.Max(0, 1-(t/side)*(t/side)))+1.2 {
			return 0, false
		}
	default:
		return 0, false
	}
	if y > bottom-lift || math.Abs(y-bar-lift*0.15) < gap/2 {
		return 0, false
	}
	return which, true
}

// letter is a stroke: a line from a to b, or an arc around a with radius r between two angles (clockwise from east).
type stroke struct {
	ax, ay, bx, by float64
	r, from, to    float64
}

func (s stroke) distance(x, y float64) float64 {
	if s.r > 0 {
		a := math.Atan2(y-s.ay, x-s.ax)
		for a < s.from {
			a += 2 * math.Pi
		}
		if a <= s.to {
			return math.Abs(math.Hypot(x-s.ax, y-s.ay) - s.r)
		}
		return math.Min(
			math.Hypot(x-s.ax-s.r*math.Cos(s.from), y-s.ay-s.r*math.Sin(s.from)),
			math.Hypot(x-s.ax-s.r*math.Cos(s.to), y-s.ay-s.r*math.Sin(s.to)))
	}
	dx, dy := s.bx-s.ax, s.by-s.ay
	t := 0.0
	if l := dx*dx + dy*dy; l > 0 {
		t = math.Max(0, math.Min(1, ((x-s.ax)*dx+(y-s.ay)*dy)/l))
	}
	return math.Hypot(x-s.ax-t*dx, y-s.ay-t*dy)
}

// name is the word "oriel" in strokes: x-height 2.4, baseline at y = 0, centred.
var name = func() []stroke {
	const r = 1.2
	var s []stroke
	x := -5.75
	s = append(s, stroke{ax: x + r, ay: -r, r: r, from: 0, to: 2 * math.Pi}) // o
	x += 2*r + 1.35
	s = append(s, // r
		stroke{ax: x, ay: -2 * r, bx: x, by: 0},
		stroke{ax: x + r, ay: -r, r: r, from: math.Pi, to: math.Pi * 1.62})
	x += r + 1.55
	s = append(s, // i
		stroke{ax: x, ay: -2 * r, bx: x, by: 0},
		stroke{ax: x, ay: -3.45, bx: x, by: -3.45})
	x += 1.35
	s = append(s, // e
		stroke{ax: x, ay: -r, bx: x + 2*r, by: -r},
		stroke{ax: x + r, ay: -r, r: r, from: math.Pi * 0.22, to: 2 * math.Pi})
	x += 2*r + 1.35
	s = append(s, stroke{ax: x, ay: -3.75, bx: x, by: 0}) // l
	return s
}()

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: go run wallpaper.go FILE.png PLAIN.png")
	}
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	const n = 4 // samples each way in a pixel
	for py := range height {
		for px := range width {
			c := background((float64(px)+0.5)/width, (float64(py)+0.5)/height)
			y0 := (float64(py) - 0.43*height) / unit
			x0 := (float64(px) - width/2) / unit
			if math.Abs(x0) < 12 && y0 > -12 && y0 < 20 {
				var glass [3]int
				ink := 0
				for i := range n * n {
					x := x0 + (float64(i%n)+0.5)/n/unit
					y := y0 + (float64(i/n)+0.5)/n/unit
					if w, ok := pane(x, y); ok {
						glass[w+1]++
					}
					for _, s := range name {
						if s.distance(x, y-15.6) < 0.17 {
							ink++
							break
						}
					}
				}
				// The light falls through the glass from the top right.
				for i, hits := range glass {
					light := mix(hex(0xd9e6ff), hex(0x6f93e0), (y0+9)/18)
					alpha := [3]float64{0.20, 0.34, 0.26}[i] * (1 - 0.55*smooth((y0+8)/17))
					c = mix(c, light, alpha*float64(hits)/(n*n))
				}
				c = mix(c, hex(0xdfe8fb), 0.5*float64(ink)/(n*n))
			}
			img.SetRGBA(px, py, color.RGBA{uint8(c.r + 0.5), uint8(c.g + 0.5), uint8(c.b + 0.5), 255})
		}
	}
	write(os.Args[1], img)

	plain := image.NewPaletted(image.Rect(0, 0, 64, 64), color.Palette{color.RGBA{0x1b, 0x25, 0x40, 255}})
	write(os.Args[2], plain)
}

func write(file string, img image.Image) {
	f, err := os.Create(file)
	if err != nil {
		log.Fatal(err)
	}
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(f, img); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
}
