package xray

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	_ "image/png" // scanners write it too
)

// The media types of pictures whose end can be told.
const jpegType, pngType = "image/jpeg", "image/png"

// pictureEnds are what pictures end with. Some scanners write a few bytes behind it, up to
// endSlack.
var pictureEnds = map[string][]byte{jpegType: {0xff, 0xd9}, pngType: []byte("IEND\xaeB\x60\x82")}

const endSlack = 64

// Bounds of the small picture.
const (
	// maxThumbnail is how large it may be in bytes, thumbnailWidth how wide it is made.
	maxThumbnail   = 64 << 10
	thumbnailWidth = 640
	// maxPixels bounds the picture that it is made of: it is held in memory as a whole.
	maxPixels = 32 << 20
)

// thumbnail makes a small picture of a picture; nil if that is none that can be read.
func thumbnail(content []byte) []byte {
	config, _, err := image.DecodeConfig(bytes.NewReader(content))
	if err != nil || config.Width < 1 || config.Height < 1 || config.Width > maxPixels/config.Height {
		return nil
	}
	whole, _, err := image.Decode(bytes.NewReader(content))
	if err != nil {
		return nil
	}
	return shrink(whole)
}

// shrink makes a small picture; nil if none is small enough.
func shrink(whole image.Image) []byte {
	size := whole.Bounds()
	for width := min(thumbnailWidth, size.Dx()); width >= 16; width /= 2 {
		small := image.NewRGBA(image.Rect(0, 0, width, max(1, width*size.Dy()/size.Dx())))
		scale(small, whole)
		for _, quality := range []int{80, 60, 40} {
			var b bytes.Buffer
			if jpeg.Encode(&b, small, &jpeg.Options{Quality: quality}) == nil && b.Len() <= maxThumbnail {
				return b.Bytes()
			}
		}
	}
	return nil
}

// scaleSamples is of how many places in each direction a dot of the small picture is the
// mean.
const scaleSamples = 4

// scale fills a small picture with a larger one. It looks at some dots of it and not at all
// of them: a picture may have thirty million. golang.org/x/image would do it with a
// hundred kilobytes of code for every pair of kinds of picture.
func scale(small *image.RGBA, whole image.Image) {
	from, to := whole.Bounds(), small.Bounds()
	at := func(i, n, low, size int) int { return low + (2*i+1)*size/(2*n) }
	for y := range to.Dy() {
		for x := range to.Dx() {
			var sum [4]uint32
			for j := range scaleSamples {
				for i := range scaleSamples {
					r, g, b, a := whole.At(
						at(x*scaleSamples+i, to.Dx()*scaleSamples, from.Min.X, from.Dx()),
						at(y*scaleSamples+j, to.Dy()*scaleSamples, from.Min.Y, from.Dy()),
					).RGBA()
					sum[0], sum[1], sum[2], sum[3] = sum[0]+r, sum[1]+g, sum[2]+b, sum[3]+a
				}
			}
			mean := func(v uint32) uint8 { return uint8(v / (scaleSamples * scaleSamples) >> 8) } //nolint:gosec // 16 bits at the most before the shift
			small.SetRGBA(x, y, color.RGBA{mean(sum[0]), mean(sum[1]), mean(sum[2]), mean(sum[3])})
		}
	}
}
