package xray

import (
	"image"
	"image/color"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScaleMeansWhatItCovers(t *testing.T) {
	whole := image.NewGray(image.Rect(10, 20, 10+64, 20+32)) // it need not begin at zero
	for y := 20; y < 52; y++ {
		for x := 10; x < 74; x++ {
			if x >= 42 {
				whole.SetGray(x, y, color.Gray{200})
			}
			if y >= 36 && x%2 == 0 && x < 42 {
				whole.SetGray(x, y, color.Gray{100})
			}
		}
	}
	small := image.NewRGBA(image.Rect(0, 0, 4, 2))
	scale(small, whole)
	at := func(x, y int) uint8 {
		c := small.RGBAAt(x, y)
		require.Equal(t, c.R, c.G)
		require.EqualValues(t, 255, c.A)
		return c.R
	}
	require.EqualValues(t, 0, at(0, 0))
	require.EqualValues(t, 200, at(2, 0))
	require.EqualValues(t, 200, at(3, 1))
	same := image.NewRGBA(image.Rect(0, 0, 64, 32))
	scale(same, whole)
	require.EqualValues(t, 200, same.RGBAAt(63, 0).R)
	require.EqualValues(t, 100, same.RGBAAt(0, 31).R)
	require.EqualValues(t, 0, same.RGBAAt(1, 31).R)
}
