package console

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// Levels say from which level on something is logged. They can be changed while the agent
// runs.
type Levels struct {
	// All is for everything but Devices, which are named "lane/id".
	All     slog.Level
	Devices map[string]slog.Level
}

// Logs keeps the last of the log, and decides what is logged.
type Logs struct {
	base   slog.Handler
	levels atomic.Pointer[Levels]

	mu    sync.Mutex
	ring  []LogRecord
	bytes int
	next  uint64 // number of the next record
}

// LogRecord is one record of the log.
type LogRecord struct {
	// Number counts the records since the agent's start, from 1.
	Number uint64 `json:"number"`
	// At is when it was made.
	At event.Time `json:"at"`
	// Level is "debug", "info", "warn" or "error".
	Level string `json:"level"`
	// Device is the one that it is about, "lane/id"; absent if it is about none.
	Device string `json:"device,omitempty"`
	// Message is what happened, Details the values to it as key=value.
	Message string `json:"message"`
	Details string `json:"details"`

	level slog.Level
}

func (r LogRecord) size() int { return len(r.Message) + len(r.Details) + len(r.Device) + 128 }

// NewLogs makes a log that goes on to base, which should let every level pass: what is
// logged is for SetLevels to say.
func NewLogs(base slog.Handler) *Logs {
	l := &Logs{base: base, next: 1}
	l.levels.Store(&Levels{})
	return l
}

// SetLevels changes what is logged.
func (l *Logs) SetLevels(v Levels) { l.levels.Store(&v) }

// Handler is what to log with.
func (l *Logs) Handler() slog.Handler { return &logHandler{logs: l, base: l.base} }

// Last gives the last n records from a level on and after a number, the oldest first; of
// one device if device is not empty.
func (l *Logs) Last(n int, from slog.Level, device string, after uint64) []LogRecord {
	list := []LogRecord{}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.ring) - 1; i >= 0 && len(list) < n; i-- {
		r := l.ring[i]
		if r.Number <= after {
			break
		}
		if r.level >= from && (device == "" || r.Device == device) {
			list = append(list, r)
		}
	}
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
	return list
}

func (l *Logs) keep(r LogRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Number = l.next
	l.next++
	l.ring = append(l.ring, r)
	l.bytes += r.size()
	drop := 0
	for len(l.ring)-drop > KeptLog || l.bytes > keptLogBytes {
		l.bytes -= l.ring[drop].size()
		l.ring[drop] = LogRecord{}
		drop++
	}
	l.ring = l.ring[drop:]
}

// logHandler gives records to the base and keeps them.
type logHandler struct {
	logs         *Logs
	base         slog.Handler
	lane, device string
	// details are those of WithAttrs, prefix that of the open groups.
	details, prefix string
}

// deviceKey is "lane/id" of the device that a record is about; empty if about none.
func deviceKey(lane, device string) string {
	switch {
	case strings.Contains(device, "/"):
		return device
	case lane == "" || device == "":
		return ""
	}
	return lane + "/" + device
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	levels := h.logs.levels.Load()
	least := levels.All
	if len(levels.Devices) > 0 {
		if v, ok := levels.Devices[deviceKey(h.lane, h.device)]; ok {
			least = v
		}
	}
	return level >= least && h.base.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	one := *h
	var b strings.Builder
	b.WriteString(h.details)
	r.Attrs(func(a slog.Attr) bool {
		one.add(&b, a)
		return b.Len() < maxLogText
	})
	l := LogRecord{
		At: event.At(r.Time), Level: strings.ToLower(r.Level.String()), Device: deviceKey(one.lane, one.device),
		Message: cut(r.Message), Details: cut(b.String()), level: r.Level,
	}
	if r.Time.IsZero() {
		l.At = event.At(time.Now())
	}
	h.logs.keep(l)
	return h.base.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(list []slog.Attr) slog.Handler {
	next := *h
	next.base = h.base.WithAttrs(list)
	var b strings.Builder
	b.WriteString(h.details)
	for _, a := range list {
		next.add(&b, a)
	}
	next.details = cut(b.String())
	return &next
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	next := *h
	next.base = h.base.WithGroup(name)
	next.prefix += name + "."
	return &next
}

// add notes an attribute: the device if it names one, else a detail.
func (h *logHandler) add(b *strings.Builder, a slog.Attr) {
	v := a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
		return
	case h.prefix == "" && a.Key == "lane":
		h.lane = v.String()
	case h.prefix == "" && a.Key == "device":
		h.device = v.String()
	default:
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		text := v.String()
		if strings.ContainsAny(text, " \t\n\"=") || text == "" {
			text = fmt.Sprintf("%q", text)
		}
		b.WriteString(h.prefix + a.Key + "=" + text)
	}
}

// cut bounds a text and makes it UTF-8.
func cut(s string) string {
	if len(s) > maxLogText {
		s = s[:maxLogText] + "..."
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
