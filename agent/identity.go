package agent

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
	}
}

// openIdentity reads the identity, or makes one. previous is "none", "clean",
// "unclean" or "damaged" (the file could not be read and a new id was made), and lastAlive the last sign of life before this start.
func openIdentity(dir string) (id *identity, previous string, lastAlive time.Time, err error) {
	id = &identity{path: filepath.Join(dir, identityFile)}
	b, err := os.ReadFile(id.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		previous = "none"
		id.kept.Agent, err = newAgentID()
		if err != nil {
			return nil, "", time.Time{}, err
		}
	case err != nil:
		return nil, "", time.Time{}, fmt.Errorf("read the agent's identity: %w", err)
	default:
		st, statErr := os.Stat(id.path)
		if statErr == nil {
			lastAlive = st.ModTime()
		}
		previous = "clean"
		if err := json.Unmarshal(b, &id.kept); err != nil || id.kept.Agent == "" {
			// A damaged file must not keep the lane unobserved. It is kept for a
			// person to look at; the agent goes on under a new id.
			previous = "damaged"
			if err := os.Rename(id.path, id.path+".damaged"); err != nil {
				return nil, "", time.Time{}, fmt.Errorf("move the damaged %s aside: %w", id.path, err)
			}
			if id.kept.Agent, err = newAgentID(); err != nil {
				return nil, "", time.Time{}, err
			}
		} else if id.kept.Running {
			previous = "unclean"
		}
	}
	id.kept.Running = true
	return id, previous, lastAlive, id.write()
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
	b, err := json.MarshalIndent(id.kept, "", "  ")
	if err != nil {
		return fmt.Errorf("write the agent's identity: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(id.path), identityFile+".*")
	if err != nil {
		return fmt.Errorf("write the agent's identity: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), id.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(id.path))
	}
	if err != nil {
		_ = os.Remove(f.Name()) // already failing; a left-over temporary file does no harm
		return fmt.Errorf("write the agent's identity: %w", err)
	}
	return nil
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

func (id *identity) session() uint64 {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.kept.Session
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
