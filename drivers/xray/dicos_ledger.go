package xray

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// dicosRemembered is for how long the objects of a scan are remembered, to be told together
// with one that comes late.
const dicosRemembered = 30 * 24 * time.Hour

func dicosEntry(key string, n int) string { return fmt.Sprintf("part:%s:%d", key, n) }

// loadDICOS gives the scan as the ledger has it.
func loadDICOS(l drivers.Ledger, key string) *dicosScan {
	s := &dicosScan{key: key, alarm: l.Get("alarm:"+key) != ""}
	for n := range maxDICOSParts + maxDICOSReports {
		var p dicosPart
		text := l.Get(dicosEntry(key, n))
		if text == "" || json.Unmarshal([]byte(text), &p) != nil {
			break
		}
		s.parts = append(s.parts, &p)
	}
	return s
}

// save puts the scan into the ledger. That comes before its event, so that nothing that
// was told is forgotten by a crash.
func (s *dicosScan) save(l drivers.Ledger) error {
	for n, p := range s.parts {
		if text := string(p.encode(len(p.Threats))); l.Get(dicosEntry(s.key, n)) != text {
			if err := l.Put(dicosEntry(s.key, n), text); err != nil {
				return err
			}
		}
	}
	return nil
}

// tell makes the scan's event, unless it was told as it is. list are the contents that go
// with it.
func (s *dicosScan) tell(h drivers.Host, rules dicosRules, replayed bool, list []drivers.Attachment) error {
	if len(s.parts) == 0 {
		return nil
	}
	var before told
	if text := h.Ledger().Get("scan:" + s.key); text != "" && json.Unmarshal([]byte(text), &before) != nil {
		before = told{}
	}
	if before.SHA256 == s.digest() {
		return nil
	}
	now := h.Now()
	e, err := s.event(rules, now)
	if err != nil {
		return err
	}
	e.Replayed = replayed
	for _, a := range list {
		e.Attachments = append(e.Attachments, a.Attachment)
	}
	unsaved := s.save(h.Ledger())
	next := told{Revision: before.Revision + 1, SHA256: s.digest(), Missing: len(e.Missing), At: now.Unix()}
	if unsaved == nil {
		if err = publish(h, s.key, e, before, next, list); !errors.Is(err, errNotIntended) {
			return err
		}
		unsaved = err
	}
	// What is told twice, or without what came before, is better than what is lost.
	h.Log().Warn("a scan is told without the ledger, and may be told again", "scan", s.key, "error", unsaved)
	e.Revision, e.Supersedes = next.Revision, before.Event
	return h.Emit(observation(e, list))
}

// untoldDICOS are the scans of which the ledger has objects that were not told: the agent
// stopped before their event, and their files may be gone.
func untoldDICOS(h drivers.Host) (keys []string) {
	h.Ledger().Each("part:", func(key, _ string) bool {
		key, first := strings.CutSuffix(strings.TrimPrefix(key, "part:"), ":0")
		if t, _ := toldBefore(h, key); first && t.SHA256 != loadDICOS(h.Ledger(), key).digest() {
			keys = append(keys, key)
		}
		return true
	})
	slices.Sort(keys)
	return keys
}

// forgetDICOS takes the objects of scans out of the ledger of which nothing was heard since
// then. What was told last is kept.
func forgetDICOS(l drivers.Ledger, since time.Time) error {
	var old, gone []string
	l.Each("scan:", func(key, value string) bool {
		var t told
		key = strings.TrimPrefix(key, "scan:")
		if json.Unmarshal([]byte(value), &t) == nil && t.At < since.Unix() && l.Get(dicosEntry(key, 0)) != "" {
			old = append(old, key)
		}
		return true
	})
	l.Each("alarm:", func(key, _ string) bool {
		if key = strings.TrimPrefix(key, "alarm:"); l.Get("scan:"+key) == "" && l.Get(dicosEntry(key, 0)) == "" {
			gone = append(gone, "alarm:"+key)
		}
		return true
	})
	for _, key := range gone {
		if err := l.Put(key, ""); err != nil {
			return err
		}
	}
	for _, key := range old {
		// That there was an alarm is not forgotten as long as there is a number to go on with.
		if s := loadDICOS(l, key); l.Get("alarm:"+key) == "" && s.alarmed(since) {
			if l.Put("alarm:"+key, "1") != nil {
				continue // there is no room, so its objects are kept
			}
		}
		for n := range maxDICOSParts + maxDICOSReports {
			if l.Get(dicosEntry(key, n)) == "" {
				break
			}
			if err := l.Put(dicosEntry(key, n), ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// alarmed reports whether something was found in an inspection, and not taken back. Its
// rules are the most careful ones.
func (s *dicosScan) alarmed(now time.Time) bool {
	e, err := s.event(dicosRules{zone: time.UTC, withoutImages: true}, now)
	return err != nil || e.Class() == event.Urgent
}
