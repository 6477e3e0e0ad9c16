package rpm

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/order"
)

// A document is known by its hash. Under "doc:" the ledger has when it was told, under
// "next:" the id of the event that is just being made of it: that is written before the
// event, so that a crash between the two makes the same event again and not another one.

func hashOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// toldBefore reports whether a document was told.
func toldBefore(l drivers.Ledger, hash string) bool { return l.Get("doc:"+hash) != "" }

// intend gives the id of the event that is about to be made of a document.
func intend(l drivers.Ledger, hash string) (string, error) {
	if id := l.Get("next:" + hash); id != "" {
		return id, nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make an event id: %w", err)
	}
	return id.String(), l.Put("next:"+hash, id.String())
}

// maxIntended is how long an id may wait for its event: what was never told by then does
// not come again.
const maxIntended = 30 * 24 * time.Hour

// sweep forgets ids that have waited too long.
func sweep(l drivers.Ledger, now time.Time) error {
	var old []string
	l.Each("next:", func(key, value string) bool {
		id, err := uuid.Parse(value)
		sec, _ := id.Time().UnixTime()
		if err != nil || now.Sub(time.Unix(sec, 0)) > maxIntended {
			old = append(old, key)
		}
		return true
	})
	for _, key := range old {
		if err := l.Put(key, ""); err != nil {
			return err
		}
	}
	return nil
}

// remember notes that a document was told. The oldest are forgotten when there are many.
func remember(l drivers.Ledger, hash string, at time.Time) error {
	if err := l.Put("doc:"+hash, strconv.FormatInt(at.Unix(), 10)); err != nil {
		return err
	}
	if err := l.Put("next:"+hash, ""); err != nil {
		return err
	}
	type entry struct {
		key string
		at  int64
	}
	var all []entry
	l.Each("doc:", func(key, value string) bool {
		n, _ := strconv.ParseInt(value, 10, 64) // what is damaged is the oldest
		all = append(all, entry{key, n})
		return true
	})
	if len(all) <= maxTold {
		return nil
	}
	order.By(all, func(a, b entry) int { return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.key, b.key)) })
	for _, e := range all[:maxTold/10] {
		if err := l.Put(e.key, ""); err != nil {
			return err
		}
	}
	return nil
}
