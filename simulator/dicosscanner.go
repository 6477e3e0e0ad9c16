package simulator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/dicos"
)

// Times of a scanner that stores.
const (
	// storeAgain is how long it waits in a scenario without a clock before it sends again
	// what was not stored, and storeAtEnd how long it tries at the end of one.
	storeAgain = 20 * time.Millisecond
	storeAtEnd = 30 * time.Second
)

// storeSwitches are what scanners that store do, or may do: on the way, and as in their
// files.
var storeSwitches = []string{
	"echo-first",           // it asks whether somebody is there before each association
	"one-association-each", // for each object, instead of one for what waits
	"cut-mid-object",       // each third object is cut off in its middle at first
	"slow",                 // in small pieces with pauses
	"small-pdu",            // in data units of 200 bytes
	"twice", "rewrites", "no-analysis", "clock-ahead",
	"implicit", "jpeg-lossless", "rle", "unknown-tags", "report-first", "no-image", "report-in-image", "overrule", "abort", "empty-roi",
	"non-operational", "test-article", "incomplete-scan", "bad-uid", "ct",
}

// dicosScanner sends what a scanner would drop as DICOS files by C-STORE to
// CameraSettings.Push, which is HOST:PORT. What is not answered with success is sent again.
// Its options are "called" and "calling", the application entity titles, and "dense".
// Username and Password are told.
type dicosScanner struct {
	*scanner
	target storeTarget
	sent   int // attempts
	due    []dueObject
}

// dueObject is an object that is not stored; cut is set when it was cut off once.
type dueObject struct {
	storable
	cut bool
}

func newDICOSScanner(env cameraEnv) (cameraModel, error) {
	if env.Settings.Push == "" {
		return nil, errors.New("a dicos-scanner sends by itself: set push to HOST:PORT")
	}
	has, options := env.Settings.Has, env.Settings.Options
	c := &dicosScanner{scanner: &scanner{env: env, dialect: "dicos", dense: 0.3}, target: storeTarget{
		address: strings.TrimPrefix(env.Settings.Push, "tcp://"), called: "LANEPOST", calling: "LANESIM",
		username: env.Settings.Username, passcode: env.Settings.Password, echo: has("echo-first"), slow: has("slow"),
	}}
	c.drop = func(content []byte) error {
		o, err := dicos.Decode(content)
		if err != nil {
			return err
		}
		if len(c.due) >= scannerQueue {
			return fmt.Errorf("more than %d objects are not stored", scannerQueue)
		}
		c.due = append(c.due, dueObject{storable: storable{class: o.SOPClass, instance: o.SOPInstance, transfer: o.TransferSyntax, dataSet: behindHead(content)}})
		return nil
	}
	for name, into := range map[string]*string{"called": &c.target.called, "calling": &c.target.calling} {
		if v, ok := options[name]; ok {
			*into = v
		}
	}
	if has("small-pdu") {
		c.target.unit = smallUnit
	}
	if v, ok := options["dense"]; ok {
		var err error
		if c.dense, err = strconv.ParseFloat(v, 64); err != nil || !(c.dense >= 0 && c.dense <= 1) {
			return nil, fmt.Errorf("dense: %q; take 0 to 1", v)
		}
	}
	return c, nil
}

func (c *dicosScanner) observe(ctx context.Context, s Sighting) error {
	if err := c.scanner.observe(ctx, s); err != nil || !c.env.Fast {
		return err
	}
	return c.storeAll(ctx)
}

// storeAll stores everything, as often as it needs.
func (c *dicosScanner) storeAll(ctx context.Context) error {
	for {
		err := c.store(ctx)
		if len(c.due) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-c.env.Done:
			return nil
		case <-time.After(storeAgain):
		}
	}
}

// store sends what is due. What is not stored stays.
func (c *dicosScanner) store(ctx context.Context) error {
	now := c.due
	c.due = nil
	for len(now) > 0 {
		step := len(now)
		if c.env.Settings.Has("one-association-each") {
			step = 1
		}
		again, err := c.associate(ctx, now[:step])
		c.due, now = append(c.due, again...), now[step:]
		if err != nil {
			c.due = append(c.due, now...)
			return err
		}
	}
	return nil
}

// associate sends objects over one association, and gives those that are to be sent again.
func (c *dicosScanner) associate(ctx context.Context, list []dueObject) (again []dueObject, err error) {
	var all []storable
	for _, o := range list {
		all = append(all, o.storable)
	}
	conn, err := c.target.associate(ctx, all)
	if err != nil {
		return list, err
	}
	for i := range list {
		o := &list[i]
		c.sent++
		if c.env.Settings.Has("cut-mid-object") && c.sent%3 == 0 && !o.cut {
			o.cut = true
			return append(again, list[i:]...), conn.store(o.storable, true)
		}
		switch err := conn.store(o.storable, false); {
		case errors.Is(err, errNotStored):
			again = append(again, *o)
			c.env.Log.Warn("an object was not taken", "instance", o.instance, "error", err)
		case err != nil:
			return append(again, list[i:]...), errors.Join(err, conn.conn.Close())
		}
	}
	return again, conn.release()
}

func (c *dicosScanner) tick(ctx context.Context, at time.Duration) {
	c.scanner.tick(ctx, at)
	if c.env.Fast {
		return
	}
	if err := c.store(ctx); err != nil && ctx.Err() == nil {
		c.env.Log.Debug("a scanner could not store, and tries again", "objects", len(c.due), "error", err)
	}
}

// finish stores what is left at the end of a scenario.
func (c *dicosScanner) finish(at time.Duration) error {
	if err := c.scanner.finish(at); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeAtEnd)
	defer cancel()
	if err := c.storeAll(ctx); err != nil {
		return fmt.Errorf("objects of a scanner are left at the end: %w", err)
	}
	return nil
}

// behindHead is the data set of a file: group 0002, which says how long it is, comes before.
func behindHead(file []byte) []byte {
	const lengthAt, groupAt = 128 + 4 + 8, 128 + 4 + 12
	return file[groupAt+binary.LittleEndian.Uint32(file[lengthAt:]):]
}
