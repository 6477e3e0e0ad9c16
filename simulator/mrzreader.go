package simulator

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/framing"
	"github.com/lanepost/lanepost/protocol/mrz"
	"github.com/lanepost/lanepost/protocol/textframe"
)

// mrzSwitches are what document readers may do.
var mrzSwitches = []string{
	"misread", // a digit of each third number is taken for another
	"no-read", // before each third document it says that it could read none
	"half",    // half of each third document, and the connection ends; then the whole
	"damaged", // each third document comes with a wrong check byte first (rte6701)
	"noise",   // bytes between that belong to nothing
	"dribble", // one byte at a time
	"cards",   // cards in place of passports
}

// mrzReader reads the document of each vehicle's driver: a specimen of Utopia, which
// nobody has. Its option "format" is lines (the default) or rte6701.
type mrzReader struct {
	env    cameraEnv
	frames *framing.Format // of rte6701

	mu    sync.Mutex
	count int
}

func newMRZReader(env cameraEnv) (cameraModel, error) {
	c := &mrzReader{env: env}
	switch format := env.Settings.Options["format"]; format {
	case "", "lines":
	case "rte6701":
		var err error
		c.frames, err = framing.Framing{Kind: framing.Marks, Framing: textframe.Framing{
			Start: `\x01`, End: `\x03`, Checksum: textframe.Checksum{Kind: "xor", Place: "after_end", WithEnd: true},
		}}.Compile()
		if err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("format: %q; take lines or rte6701", format)
	}
	return c, nil
}

// ServeHTTP implements http.Handler; a reader serves nothing by HTTP.
func (c *mrzReader) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNotFound)
}

// specimen is the document of a vehicle's driver.
func (c *mrzReader) specimen(s Sighting) mrz.Document {
	rng := newRand(c.env.Seed, "document", strconv.Itoa(s.Vehicle))
	d := mrz.Document{
		Size: mrz.TD3, Code: "P", Issuer: "UTO", Nationality: "UTO", Surname: "SPECIMEN", GivenNames: "DRIVER " + string(rune('A'+rng.IntN(26))),
		Number: fmt.Sprintf("%c%07d", 'A'+rng.IntN(26), rng.IntN(10_000_000)), Sex: []string{"F", "M", "X", ""}[rng.IntN(4)],
		BirthDate:  fmt.Sprintf("%02d%02d%02d", 50+rng.IntN(50), 1+rng.IntN(12), 1+rng.IntN(28)),
		ExpiryDate: s.When.AddDate(rng.IntN(12)-1, rng.IntN(12), 0).Format("060102"),
	}
	if c.env.Settings.Has("cards") {
		d.Size, d.Code = mrz.TD1, "I"
	}
	return d
}

func (c *mrzReader) observe(ctx context.Context, s Sighting) error {
	if s.Trailer {
		return nil
	}
	has := c.env.Settings.Has
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	third := c.count%3 == 0
	lines, err := c.specimen(s).Lines()
	if err != nil {
		return err
	}
	truth := DocumentTruth{Kind: "document", AtS: seconds(s.At), Vehicle: s.Vehicle, Format: string(c.specimen(s).Size), Misread: has("misread") && third}
	if truth.Misread {
		i := map[mrz.Size]int{mrz.TD1: 0, mrz.TD3: 1}[c.specimen(s).Size]
		at := map[mrz.Size]int{mrz.TD1: 6, mrz.TD3: 1}[c.specimen(s).Size]
		b := []byte(lines[i])
		b[at] = '0' + (b[at]-'0'+1)%10
		lines[i] = string(b)
	}
	c.env.Documented(truth)
	if has("noise") {
		if err := c.send(ctx, []byte("\x7f\x00?\r\n")); err != nil {
			return err
		}
	}
	whole, err := c.frame(lines)
	if err != nil {
		return err
	}
	if has("no-read") && third {
		none := []byte("?\r\n")
		if c.frames != nil {
			if none, err = c.frame([]string{"", "", ""}); err != nil {
				return err
			}
		}
		if err := c.send(ctx, none); err != nil {
			return err
		}
	}
	if has("damaged") && third && c.frames != nil {
		wrong := slices.Clone(whole)
		wrong[len(wrong)-1] ^= 0x41
		if err := c.send(ctx, wrong); err != nil {
			return err
		}
	}
	if has("half") && third {
		if err := c.send(ctx, whole[:len(whole)/2]); err != nil {
			return err
		}
		if err := c.env.Line.breakOff(0); err != nil {
			return err
		}
	}
	return c.send(ctx, whole)
}

func (c *mrzReader) frame(lines []string) ([]byte, error) {
	if c.frames == nil {
		return []byte(strings.Join(lines, "\r\n") + "\r\n"), nil
	}
	return c.frames.Append(nil, mrz.AppendMessage(nil, lines))
}

func (c *mrzReader) send(ctx context.Context, b []byte) error {
	if c.env.Fast {
		if err := c.env.Line.client(ctx); err != nil {
			return err
		}
	}
	step := len(b)
	if c.env.Settings.Has("dribble") {
		step = 1
	}
	for piece := range slices.Chunk(b, step) {
		if _, err := c.env.Line.send(ctx, piece); err != nil {
			return err
		}
	}
	return nil
}

func (c *mrzReader) tick(context.Context, time.Duration) {}

// DocumentTruth is a travel document that a reader had before it. As everywhere, nothing of
// whose it is stands in it.
type DocumentTruth struct {
	Kind    string  `json:"kind"`
	Lane    string  `json:"lane"`
	Device  string  `json:"device"`
	AtS     float64 `json:"at_s"`
	Vehicle int     `json:"vehicle"`
	// Format is the size of its machine-readable zone. Misread: the reader took a character
	// for another.
	Format  string `json:"format"`
	Misread bool   `json:"misread,omitempty"`
}

// EntryKind implements Entry.
func (*DocumentTruth) EntryKind() string { return "document" }

// EntryTime implements Entry.
func (d *DocumentTruth) EntryTime() float64 { return d.AtS }

func (d *DocumentTruth) String() string {
	return fmt.Sprintf("%s/%s: vehicle %d shows a document (%s)", d.Lane, d.Device, d.Vehicle, d.Format)
}
