package drivers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lanepost/lanepost/drivers/link"
)

// Dropped is what an instrument does to a folder at one moment of a script.
type Dropped struct {
	// At is the moment, counted from ScriptStart.
	At time.Duration
	// Name is of a file, with slashes for folders.
	Name    string
	Content []byte
	// Remove takes it away.
	Remove bool
}

// folderTail is how long a script of a folder goes on after its last step, and folderStep
// how much time passes at least between two looks then.
const (
	folderTail = 10 * time.Minute
	folderStep = 10 * time.Second
)

// PlayFolder runs d over a folder in which the steps of the script happen, in virtual
// time. It goes on for ten minutes after the last one. The folder is made below where
// temporary files are, and taken away afterwards.
func PlayFolder(ctx context.Context, d Instrument, script []Dropped) (played Played, err error) {
	dir, err := os.MkdirTemp("", "lanepost-script-")
	if err != nil {
		return Played{}, fmt.Errorf("play: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p := &player{ctx: ctx, start: ScriptStart(), now: ScriptStart()}
	next := 0
	step := func() error {
		for ; next < len(script) && script[next].At <= p.now.Sub(p.start); next++ {
			s := script[next]
			if !filepath.IsLocal(s.Name) {
				return fmt.Errorf("play: %q leads out of the folder", s.Name)
			}
			name := filepath.Join(dir, filepath.FromSlash(s.Name))
			if s.Remove {
				if err := os.RemoveAll(name); err != nil {
					return fmt.Errorf("play: %w", err)
				}
				continue
			}
			err := os.MkdirAll(filepath.Dir(name), 0o700)
			if err == nil {
				err = os.WriteFile(name, s.Content, 0o600)
			}
			if err == nil {
				err = os.Chtimes(name, p.now, p.now)
			}
			if err != nil {
				return fmt.Errorf("play: %w", err)
			}
		}
		return nil
	}
	if err := step(); err != nil {
		return Played{}, err
	}
	var failed error
	f, err := link.FolderAt(dir, func(ctx context.Context, wait time.Duration) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if next == len(script) {
			wait = max(wait, folderStep) // nothing happens any more
		}
		p.now = p.now.Add(max(wait, time.Millisecond))
		if failed = step(); failed != nil {
			return failed
		}
		if next == len(script) && (next == 0 || p.now.Sub(p.start) > script[next-1].At+folderTail) {
			return link.ErrUnplugged
		}
		return nil
	})
	if err != nil {
		return Played{}, fmt.Errorf("play: %w", err)
	}
	err = d.Run(ctx, f, scriptedHost{p})
	_ = f.Close() // nobody uses it any more
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case failed != nil:
		return p.played, failed
	case err == nil:
		return p.played, errors.New("play: the driver ended without a reason")
	case errors.Is(err, link.ErrUnplugged):
		return p.played, nil
	}
	return p.played, err
}
