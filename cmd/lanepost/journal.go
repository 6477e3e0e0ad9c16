package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// inJournal reports whether a file is the stream to systemd's journal: JOURNAL_STREAM
// names its device and inode. A shell that was started by a service has the variable too,
// and another file.
func inJournal(f *os.File, variable string) bool {
	device, inode, ok := strings.Cut(variable, ":")
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	//nolint:unconvert // the width differs between architectures
	return ok && strconv.FormatUint(uint64(st.Dev), 10) == device && strconv.FormatUint(uint64(st.Ino), 10) == inode
}

// priorities are those of syslog, which the journal takes from the beginning of a line:
// error, warning, info, debug.
var priorities = []struct {
	from   slog.Level
	prefix string
}{
	{slog.LevelError, "<3>"}, {slog.LevelWarn, "<4>"}, {slog.LevelInfo, "<6>"}, {slog.Level(-100), "<7>"},
}

// journalHandler writes records as text for the journal, which knows the time itself.
type journalHandler struct {
	of []slog.Handler // by priority
}

func newJournalHandler(w io.Writer) slog.Handler {
	var mu sync.Mutex // each of them writes a line by itself
	h := journalHandler{}
	for _, p := range priorities {
		h.of = append(h.of, slog.NewTextHandler(prefixed{w, p.prefix, &mu}, &slog.HandlerOptions{
			Level: slog.LevelDebug,
			ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
				if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
					return slog.Attr{}
				}
				return a
			},
		}))
	}
	return h
}

// Enabled implements slog.Handler.
func (h journalHandler) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	for i, p := range priorities {
		if r.Level >= p.from {
			return h.of[i].Handle(ctx, r)
		}
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (h journalHandler) WithAttrs(list []slog.Attr) slog.Handler {
	return h.each(func(one slog.Handler) slog.Handler { return one.WithAttrs(list) })
}

// WithGroup implements slog.Handler.
func (h journalHandler) WithGroup(name string) slog.Handler {
	return h.each(func(one slog.Handler) slog.Handler { return one.WithGroup(name) })
}

func (h journalHandler) each(do func(slog.Handler) slog.Handler) slog.Handler {
	next := journalHandler{}
	for _, one := range h.of {
		next.of = append(next.of, do(one))
	}
	return next
}

// prefixed puts a prefix before each line.
type prefixed struct {
	w      io.Writer
	prefix string
	mu     *sync.Mutex
}

// Write implements io.Writer.
func (p prefixed) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.w.Write(append([]byte(p.prefix), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
