package xray

import (
	"bytes"
	"image"
	"image/jpeg"
	_ "image/png" // scanners write it too

	"golang.org/x/image/draw"
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
		draw.ApproxBiLinear.Scale(small, small.Rect, whole, size, draw.Src, nil)
		for _, quality := range []int{80, 60, 40} {
			var b bytes.Buffer
			if jpeg.Encode(&b, small, &jpeg.Options{Quality: quality}) == nil && b.Len() <= maxThumbnail {
				return b.Bytes()
			}
		}
	}
	return nil
}
