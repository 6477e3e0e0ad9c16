package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/order"
)

// maxRefused bounds what is kept of events that a broker will never take, in
// bytes. The oldest go first.
const maxRefused = 64 << 20

// quarantine keeps an event that the broker of an uplink will never take, and
// puts its loss into the stream. After a crash in between it is done again.
func (a *Agent) quarantine(ctx context.Context, uplink string, r spool.Record, reason string) error {
	dir := filepath.Join(a.config().Spool.Dir, "quarantine")
	name := fmt.Sprintf("refused-%s-%s-%s.json", uplink, r.Class, event.FormatSequence(r.Sequence))
	if err := keepRefused(dir, name, r.Payload); err != nil {
		return fmt.Errorf("keep %s sequence %d, which the broker does not take: %w", r.Class, r.Sequence, err)
	}
	a.log.Error("an event is taken out of the line: the broker will never take it", "uplink", uplink,
		"class", r.Class, "sequence", r.Sequence, "topic", r.Topic, "bytes", len(r.Payload), "reason", reason,
		"kept", filepath.Join(dir, name))
	// The disk may be full for long, and the uplink must be able to stop meanwhile.
	return within(ctx, func() error {
		sequence := event.FormatSequence(r.Sequence)
		return a.recordOwn(event.AgentLoss{
			Priority: r.Class, FirstSequence: sequence, LastSequence: sequence, Count: 1, Reason: "refused", Uplink: uplink,
			Detail: fmt.Sprintf("%s; %d bytes on topic %s, kept on the box as quarantine/%s", reason, len(r.Payload), r.Topic, name),
		})
	})
}

// keepRefused writes a file so that it is there after a power cut, or not at all.
func keepRefused(dir, name string, content []byte) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := makeRoomForRefused(dir, int64(len(content))); err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		return syncDir(dir)
	}
	_ = os.Remove(path + ".new") // already failing
	return err
}

// makeRoomForRefused deletes the oldest refused events until there is room under
// the bound.
func makeRoomForRefused(dir string, more int64) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var files []os.FileInfo
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "refused-") {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		files = append(files, info)
		more += info.Size()
	}
	order.By(files, func(a, b os.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), strings.Compare(a.Name(), b.Name()))
	})
	for _, f := range files {
		if more <= maxRefused {
			break
		}
		if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
			return err
		}
		more -= f.Size()
	}
	return nil
}
