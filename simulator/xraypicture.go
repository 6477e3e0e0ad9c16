package simulator

import (
	"image"
	"image/color"
	"math"
	"math/rand/v2"
)

// Size and tone of a synthetic X-ray picture.
const (
	xrayWidth, xrayHeight = 960, 300
	xrayGround            = 282
	// air is how bright the picture is where nothing is in the way.
	air = 238
)

// xrayPicture draws what a transmission scanner sees of a vehicle from the side: what
// is denser is darker, and what stands behind each other adds up. The lorry's cab is on
// the left. With dense there is one compact object in the load that lets nearly nothing
// through.
func xrayPicture(kind string, length float64, dense bool, rng *rand.Rand) image.Image {
	x := &xrayCanvas{}
	scale := float64(xrayWidth-60) / max(length, 16) // pixels per metre
	size := func(m float64) int { return int(m * scale) }
	left := 30
	right := left + size(length)
	floor := xrayGround - size(1.2)
	var load image.Rectangle
	switch kind {
	case "truck", "bus":
		top := xrayGround - size(3.9)
		cabEnd := left + size(2.4)
		if kind == "bus" {
			cabEnd = left + size(0.2)
		}
		// The cab: thin walls, an engine below, a seat and a wheel.
		x.frame(image.Rect(left, xrayGround-size(3.4), cabEnd, floor), 3, 0.5, 0.10)
		x.ellipse(left+size(1.0), floor+size(0.15), size(0.75), size(0.55), 1.6)
		x.fill(image.Rect(left+size(1.2), floor-size(1.0), left+size(1.7), floor-size(0.4)), 0.35)
		// The frame below, and the box.
		x.fill(image.Rect(left+size(0.3), floor+size(0.1), right, floor+size(0.35)), 0.9)
		load = image.Rect(cabEnd+size(0.5), top, right, floor)
		x.frame(load, 3, 0.7, 0.08)
		for at := load.Min.X + size(1); at < load.Max.X; at += size(1) { // ribs of the box
			x.fill(image.Rect(at, top, at+2, floor), 0.12)
		}
		for _, m := range []float64{1.2, 4.2, 5.5} {
			x.wheel(left+size(m), xrayGround-size(0.5), size(0.5))
		}
		for m := length - 1.4; m > max(6.5, length-4.2); m -= 1.3 {
			x.wheel(left+size(m), xrayGround-size(0.5), size(0.5))
		}
	default:
		top := xrayGround - size(1.6)
		if kind == "van" {
			top = xrayGround - size(2.3)
		}
		floor = xrayGround - size(0.5)
		x.frame(image.Rect(left, xrayGround-size(1.0), right, floor), 2, 0.5, 0.15)
		x.frame(image.Rect(left+size(length*0.25), top, right-size(length*0.05), xrayGround-size(0.95)), 2, 0.4, 0.08)
		x.ellipse(left+size(0.7), xrayGround-size(0.75), size(0.55), size(0.3), 1.5)
		x.wheel(left+size(0.9), xrayGround-size(0.32), size(0.32))
		x.wheel(right-size(0.9), xrayGround-size(0.32), size(0.32))
		load = image.Rect(left+size(length*0.5), top+size(0.4), right-size(0.2), floor)
	}
	x.cargo(load.Inset(4), size(1.1), rng)
	if dense {
		at := image.Pt(load.Min.X+load.Dx()/4+rng.IntN(max(load.Dx()/2, 1)), load.Max.Y-load.Dy()/4-rng.IntN(max(load.Dy()/4, 1)))
		r := max(load.Dy()/9, 7)
		x.ellipse(at.X, at.Y, r, r*2/3, 4.5)
		x.fill(image.Rect(at.X-r/3, at.Y-r, at.X+r/3, at.Y-r/2), 4.5)
	}
	return x.develop(rng)
}

// xrayCanvas holds how much of the beam is taken at each place.
type xrayCanvas struct {
	taken [xrayHeight][xrayWidth]float64
}

func (x *xrayCanvas) add(px, py int, by float64) {
	if px >= 0 && py >= 0 && px < xrayWidth && py < xrayHeight {
		x.taken[py][px] += by
	}
}

func (x *xrayCanvas) fill(r image.Rectangle, by float64) {
	for py := r.Min.Y; py < r.Max.Y; py++ {
		for px := r.Min.X; px < r.Max.X; px++ {
			x.add(px, py, by)
		}
	}
}

// frame is a box whose walls are seen from the side and through.
func (x *xrayCanvas) frame(r image.Rectangle, wall int, edge, through float64) {
	x.fill(r, through)
	x.fill(image.Rect(r.Min.X, r.Min.Y, r.Max.X, r.Min.Y+wall), edge)
	x.fill(image.Rect(r.Min.X, r.Max.Y-wall, r.Max.X, r.Max.Y), edge)
	x.fill(image.Rect(r.Min.X, r.Min.Y, r.Min.X+wall, r.Max.Y), edge)
	x.fill(image.Rect(r.Max.X-wall, r.Min.Y, r.Max.X, r.Max.Y), edge)
}

func (x *xrayCanvas) ellipse(cx, cy, rx, ry int, by float64) {
	for py := cy - ry; py <= cy+ry; py++ {
		for px := cx - rx; px <= cx+rx; px++ {
			dx, dy := float64(px-cx)/float64(max(rx, 1)), float64(py-cy)/float64(max(ry, 1))
			if d := dx*dx + dy*dy; d <= 1 {
				x.add(px, py, by*math.Sqrt(1-d)) // a body is thicker in its middle
			}
		}
	}
}

func (x *xrayCanvas) wheel(cx, cy, r int) {
	for py := cy - r; py <= cy+r; py++ {
		for px := cx - r; px <= cx+r; px++ {
			switch d := math.Hypot(float64(px-cx), float64(py-cy)) / float64(max(r, 1)); {
			case d > 1:
			case d > 0.6:
				x.add(px, py, 0.8)
			case d > 0.2:
				x.add(px, py, 0.35)
			default:
				x.add(px, py, 1.4)
			}
		}
	}
}

// cargo stacks crates of different density.
func (x *xrayCanvas) cargo(r image.Rectangle, side int, rng *rand.Rand) {
	side = max(side, 12)
	for left := r.Min.X; left+side/2 < r.Max.X; {
		width := min(side/2+rng.IntN(side), r.Max.X-left)
		height := r.Dy()/3 + rng.IntN(max(r.Dy()/2, 1))
		for bottom := r.Max.Y; bottom > r.Max.Y-height; {
			tall := min(side/3+rng.IntN(side), bottom-(r.Max.Y-height))
			box := image.Rect(left, bottom-tall, left+width-2, bottom-1)
			density := 0.15 + 0.6*rng.Float64()
			x.frame(box, 1, 0.25, density)
			if rng.IntN(3) == 0 { // with bottles or rolls in it
				for cx := box.Min.X + 4; cx < box.Max.X-3; cx += 7 {
					x.ellipse(cx, (box.Min.Y+box.Max.Y)/2, 3, max(box.Dy()/2-2, 1), 0.3)
				}
			}
			bottom -= max(tall, 1)
		}
		left += max(width, 1)
	}
}

// develop makes a picture of it, with the noise of a detector.
func (x *xrayCanvas) develop(rng *rand.Rand) image.Image {
	img := image.NewGray(image.Rect(0, 0, xrayWidth, xrayHeight))
	for py := range xrayHeight {
		for px := range xrayWidth {
			v := air*math.Exp(-x.taken[py][px]) + rng.NormFloat64()*1.6
			if py >= xrayGround {
				v *= 0.75
			}
			img.SetGray(px, py, color.Gray{uint8(min(max(v, 0), 255))})
		}
	}
	return img
}
