package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// identityFile stands in the spool directory: who this agent is depends on the
// disk that holds its events and not on the configuration.
const identityFile = "agent.json"

// identity is what an agent remembers of itself between starts.
type identity struct {
	path string
	mu   sync.Mutex
	kept struct {
		// Agent is the id in the events, made at the first start.
		Agent string `json:"agent"`
		// Session counts MQTT sessions.
		Session uint64 `json:"session"`
		// Running is true from start to orderly stop.
		Running bool `json:"running"`
		// Devices are the sources of the devices that were configured at some
		// time, the latest last.
		Devices []string `json:"devices,omitempty"`
	}
	dirty bool // the disk did not take the last change
}

// maxKnownDevices bounds how many devices are remembered, those of the
// configuration included.
const maxKnownDevices = 512

// openIdentity reads the identity, or makes one. previous is "none", "clean",
// "unclean" or "damaged" (the file could not be read and a new id was made), and
// lastAlive the last sign of life before this start. The error of a disk that
// refuses to write comes with the identity.
func openIdentity(dir string) (id *identity, previous string, lastAlive time.Time, err error) {
	id = &identity{path: filepath.Join(dir, identityFile)}
	b, err := os.ReadFile(id.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		previous = "none"
	case errors.Is(err, fs.ErrPermission):
		return nil, "", time.Time{}, fmt.Errorf("read the agent's identity: %w", err)
	default:
		if st, statErr := os.Stat(id.path); statErr == nil {
			lastAlive = st.ModTime()
		}
		previous = "clean"
		if err != nil || json.Unmarshal(b, &id.kept) != nil || id.kept.Agent == "" {
			// A damaged file must not keep the lane unobserved. It is kept for a
			// person to look at; the agent goes on under a new id.
			previous = "damaged"
			if err := os.Rename(id.path, id.path+".damaged"); err != nil {
				return nil, "", time.Time{}, fmt.Errorf("move the damaged %s aside: %w", id.path, err)
			}
			id.kept.Agent = ""
		} else if id.kept.Running {
			previous = "unclean"
		}
	}
	if id.kept.Agent == "" {
		if id.kept.Agent, err = newAgentID(); err != nil {
			return nil, "", time.Time{}, err
		}
	}
	id.kept.Running = true
	return id, previous, lastAlive, id.write()
}

// openIdentity opens the identity. A full disk must not end the agent: a new
// identity waits for room, since events must not go out under a name that the
// next start does not know, and a known one is written later.
func (a *Agent) openIdentity(ctx context.Context) (*identity, string, time.Time, error) {
	id, previous, lastAlive, err := openIdentity(a.cfg.Spool.Dir)
	if err == nil || id == nil {
		return id, previous, lastAlive, err
	}
	if previous == "clean" || previous == "unclean" {
		a.log.Warn("the disk does not take the agent's identity now", "err", err)
		return id, previous, lastAlive, nil
	}
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return nil, "", time.Time{}, err
	}
	a.log.Error("the disk does not take the agent's identity; the agent waits", "err", err,
		"hint", "free space on the disk of the spool directory")
	for err != nil {
		select {
		case <-ctx.Done():
			return nil, "", time.Time{}, err
		case <-time.After(recordRetry):
			err = id.retry()
		}
	}
	a.log.Info("the disk takes the agent's identity again")
	return id, previous, lastAlive, nil
}

// newAgentID makes a name that a person can recognise and that no other agent
// has: the host's name and six random digits.
func newAgentID() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "lane"
	}
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, host)
	clean = strings.Trim(clean[:min(len(clean), 32)], "-")
	if clean == "" {
		clean = "lane"
	}
	var b [3]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make an agent id: %w", err)
	}
	return clean + "-" + hex.EncodeToString(b[:]), nil
}

// write replaces the file so that a power cut leaves the old or the new one.
func (id *identity) write() error {
	id.dirty = true
	b, err := json.MarshalIndent(id.kept, "", "  ")
	if err != nil {
		return fmt.Errorf("write the agent's identity: %w", err)
	}
	// One name, so that kills in between leave one file at the most.
	next := id.path + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the agent's identity: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(next, id.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(id.path))
	}
	if err != nil {
		_ = os.Remove(next) // already failing; a left-over temporary file does no harm
		return fmt.Errorf("write the agent's identity: %w", err)
	}
	id.dirty = false
	return nil
}

// retry writes what the disk did not take before.
func (id *identity) retry() error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if !id.dirty {
		return nil
	}
	return id.write()
}

// know remembers devices by their sources.
func (id *identity) know(devices []string) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	before := id.kept.Devices
	list := slices.DeleteFunc(slices.Clone(before), func(s string) bool { return slices.Contains(devices, s) })
	list = append(list, devices...)
	list = list[max(0, len(list)-maxKnownDevices):]
	if slices.Equal(list, before) {
		return nil
	}
	id.kept.Devices = list
	return id.write()
}

// known lists the devices that are remembered.
func (id *identity) known() []string {
	id.mu.Lock()
	defer id.mu.Unlock()
	return slices.Clone(id.kept.Devices)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// nextSession counts a new MQTT session.
func (id *identity) nextSession() (uint64, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	id.kept.Session++
	return id.kept.Session, id.write()
}

// alive leaves a sign of life. It is not synced: a minute more or less in the
// next start's report does not wear the flash.
func (id *identity) alive(now time.Time) error {
	return os.Chtimes(id.path, now, now)
}

// stopped marks an orderly stop.
func (id *identity) stopped() error {
	id.mu.Lock()
	defer id.mu.Unlock()
	id.kept.Running = false
	return id.write()
}
