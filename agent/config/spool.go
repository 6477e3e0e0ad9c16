package config

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
)

// Bounds of the spool's settings. Zero stands for the spool's own default.
const (
	minSpool       = 1 << 20
	maxSpool       = 1 << 50
	minAge         = time.Minute
	maxAge         = 10 * 365 * 24 * time.Hour
	maxCommitDelay = 100 * time.Millisecond
	maxFreeShare   = 0.9
)

// Spool is where and how events are kept. A zero value of a setting means the
// spool's default.
type Spool struct {
	// Dir is the directory.
	Dir string
	// Urgent and Routine bound the classes.
	Urgent, Routine SpoolClass
	// Attachments bounds the contents of attachments, pictures for instance.
	Attachments SpoolClass
	// MinFreeShare and MinFreeBytes say what of the disk is left alone; one of
	// the two is set at the most.
	MinFreeShare float64
	MinFreeBytes int64
	// RetainFor and RetainBytes say how long and how much of what is delivered is
	// kept for a resend; if both are set, what comes first counts.
	RetainFor   time.Duration
	RetainBytes int64
	// CommitDelay is how long a routine event may wait for others to share a
	// write with.
	CommitDelay time.Duration
	// KeyFile holds the keys for encryption; empty for none.
	KeyFile string
}

// SpoolClass bounds one class of events, or the attachments.
type SpoolClass struct {
	MaxBytes int64
	// MaxAge is of routine events only: urgent ones are never dropped.
	MaxAge time.Duration
}

func (r *reader) readSpool(n ast.Node) {
	s := &r.c.Spool
	r.Mapping(n, "spool",
		yamlfile.Key{Name: "dir", Required: true, Read: func(n ast.Node) {
			s.Dir = r.path(n, "spool.dir")
			if st, err := os.Stat(s.Dir); err == nil && !st.IsDir() {
				r.At(n, fmt.Sprintf("spool.dir: %s is not a directory", s.Dir), "name a directory; it is made if it is not there")
			}
		}},
		yamlfile.Key{Name: "urgent", Read: func(n ast.Node) {
			r.Mapping(n, "spool.urgent",
				yamlfile.Key{Name: "max_size", Read: func(n ast.Node) { s.Urgent.MaxBytes = r.size(n, "spool.urgent.max_size", minSpool, maxSpool) }},
				yamlfile.Key{Name: "max_age", Instead: "urgent events are never dropped, however old they are: take it out"},
			)
		}},
		yamlfile.Key{Name: "routine", Read: func(n ast.Node) {
			r.Mapping(n, "spool.routine",
				yamlfile.Key{Name: "max_size", Read: func(n ast.Node) { s.Routine.MaxBytes = r.size(n, "spool.routine.max_size", minSpool, maxSpool) }},
				yamlfile.Key{Name: "max_age", Read: func(n ast.Node) {
					s.Routine.MaxAge = r.days(n, "spool.routine.max_age")
				}},
			)
		}},
		yamlfile.Key{Name: "attachments", Read: func(n ast.Node) {
			r.Mapping(n, "spool.attachments",
				yamlfile.Key{Name: "max_size", Read: func(n ast.Node) { s.Attachments.MaxBytes = r.size(n, "spool.attachments.max_size", minSpool, maxSpool) }},
			)
		}},
		yamlfile.Key{Name: "min_free", Read: func(n ast.Node) { s.MinFreeShare, s.MinFreeBytes = r.share(n, "spool.min_free") }},
		yamlfile.Key{Name: "retain", Read: func(n ast.Node) {
			r.Mapping(n, "spool.retain",
				yamlfile.Key{Name: "for", Read: func(n ast.Node) { s.RetainFor = r.days(n, "spool.retain.for") }},
				yamlfile.Key{Name: "max_size", Read: func(n ast.Node) { s.RetainBytes = r.size(n, "spool.retain.max_size", minSpool, maxSpool) }},
			)
		}},
		yamlfile.Key{Name: "commit_delay", Read: func(n ast.Node) {
			s.CommitDelay, _ = r.Duration(n, "spool.commit_delay", 0, maxCommitDelay)
		}},
		yamlfile.Key{Name: "key_file", Read: func(n ast.Node) {
			if s.KeyFile = r.path(n, "spool.key_file"); s.KeyFile == "" {
				return
			}
			r.needs(s.KeyFile)
			if _, err := spool.ReadKeyring(s.KeyFile); err != nil {
				r.At(n, "spool."+strings.Replace(err.Error(), "key file: ", "key_file: ", 1), "the first line is the key, 32 random bytes in hexadecimal or base64: openssl rand -hex 32")
			}
		}},
		yamlfile.Key{Name: "key", Instead: "keys don't belong in this file: write it to a file of its own and name that with key_file"},
	)
}

var sizeText = regexp.MustCompile(`^([0-9]{1,12}) ?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)$`)

var sizeUnits = map[string]int64{
	"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

// size reads an amount of bytes with its unit.
func (r *reader) size(n ast.Node, what string, low, high int64) int64 {
	s := r.text(n, what)
	if s == "" {
		return 0
	}
	m := sizeText.FindStringSubmatch(s)
	if m == nil {
		r.At(n, fmt.Sprintf("%s: %s is not a size", what, s), "write a whole number and its unit, for instance 500MB or 2GiB")
		return 0
	}
	v, err := strconv.ParseInt(m[1], 10, 64)
	unit := sizeUnits[m[2]]
	if err != nil || v > high/unit || v*unit < low {
		r.At(n, fmt.Sprintf("%s: %s is out of range", what, s), fmt.Sprintf("want %s to %s", bytesText(low), bytesText(high)))
		return 0
	}
	return v * unit
}

func bytesText(n int64) string {
	for _, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if u := sizeUnits[unit]; n >= u && n%u == 0 {
			return fmt.Sprintf("%d%s", n/u, unit)
		}
	}
	return fmt.Sprintf("%dB", n)
}

// days reads a time that may be given in days, which time.ParseDuration does not
// know.
func (r *reader) days(n ast.Node, what string) time.Duration {
	s := r.text(n, what)
	if s == "" {
		return 0
	}
	var d time.Duration
	var err error
	if count, ok := strings.CutSuffix(s, "d"); ok {
		var v int
		v, err = strconv.Atoi(count)
		v = max(-1, min(v, int(maxAge/(24*time.Hour))+1))
		d = time.Duration(v) * 24 * time.Hour
	} else {
		d, err = time.ParseDuration(s)
	}
	switch {
	case err != nil:
		r.At(n, fmt.Sprintf("%s: %s is not a time", what, s), "write a number and its unit, for instance 30d, 12h or 90m")
	case d < minAge || d > maxAge:
		r.At(n, fmt.Sprintf("%s: %s is out of range", what, s), fmt.Sprintf("want 1m to %dd", int(maxAge.Hours()/24)))
	default:
		return d
	}
	return 0
}

// share reads a part of a disk: "5%" or a size.
func (r *reader) share(n ast.Node, what string) (share float64, bytes int64) {
	s, ok := r.Text(n, what)
	if !ok {
		return 0, 0
	}
	percent, isShare := strings.CutSuffix(s, "%")
	if !isShare {
		return 0, r.size(n, what, minSpool, maxSpool)
	}
	v, err := strconv.ParseFloat(percent, 64)
	if err != nil || !(v > 0 && v <= maxFreeShare*100) {
		r.At(n, fmt.Sprintf("%s: %s is not a share of the disk", what, s), "write for instance 5%, at most 90%, or a size such as 2GiB")
		return 0, 0
	}
	return v / 100, 0
}
