package xray

import (
	"cmp"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/order"
)

// Bounds of what is remembered, so that the ledger has room for ever.
const (
	// rememberScans is for how long a scan of messages is known, so that what is told of it
	// again makes a revision; rememberFiles is that for scans in a folder, and for files that
	// are not in it any more. It is longer than maxDays.
	rememberScans = 90 * 24 * time.Hour
	rememberFiles = 450 * 24 * time.Hour
	// maxRemembered is how many scans and files are known; beyond it the oldest go.
	maxRemembered = 300_000
	// forgetEvery is how often old ones are forgotten, and forgetOnce how many at a time: each
	// is flushed to the disk, and a scan may wait.
	forgetEvery = time.Hour
	forgetOnce  = 500
)

// forgetOld takes scans and files out of the ledger that are from before a moment, and the
// oldest beyond a number of them. Files for which here is true are still in the folder, and
// stay with their scans.
func forgetOld(l drivers.Ledger, before time.Time, most int, here func(path string) bool) error {
	type entry struct {
		key string
		at  int64
	}
	var list []entry
	kept := 0
	add := func(key, path string, at int64) bool {
		if path != "" && here(path) {
			kept++
		} else {
			list = append(list, entry{key, at})
		}
		return true
	}
	l.Each("scan:", func(key, value string) bool {
		var t told
		_ = json.Unmarshal([]byte(value), &t) // what can't be read is from long ago
		return add(key, t.Path, t.At)
	})
	l.Each("path:", func(key, value string) bool {
		_, modified, _ := strings.Cut(value, " ") // as seal has it
		at, _ := strconv.ParseInt(modified, 10, 64)
		return add(key, strings.TrimPrefix(key, "path:"), at/int64(time.Second))
	})
	order.By(list, func(a, b entry) int { return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.key, b.key)) })
	surplus := len(list) + kept - most
	for i, e := range list[:min(len(list), forgetOnce)] {
		if e.at >= before.Unix() && i >= surplus {
			break
		}
		if err := l.Put(e.key, ""); err != nil {
			return err
		}
	}
	return nil
}
