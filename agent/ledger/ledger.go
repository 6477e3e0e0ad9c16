// Package ledger keeps what a driver must still know after the agent was started anew: a
// small table of texts in one file for each device.
//
// The file is a log of lines of JSON, each flushed before Put returns, and is written anew
// when most of its lines are out of date. A line that was cut off by a power failure is
// left out: what it said was not promised yet.
package ledger

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/lanepost/lanepost/drivers"
)

// Bounds of a ledger.
const (
	// MaxKeys is how many keys it holds, MaxText the length of a key or a value in
	// bytes.
	MaxKeys = drivers.MaxLedgerKeys
	MaxText = drivers.MaxLedgerText
	// maxLine bounds a line: everything in it may be escaped.
	maxLine = 2*6*MaxText + 64
	// spare is how many lines may be out of date beyond as many as there are keys.
	spare = 1000
)

// ErrFull says that there is no room for another key.
var ErrFull = fmt.Errorf("the ledger holds %d keys, and no more fit", MaxKeys)

// Ledger is the table of one device. It implements drivers.Ledger.
type Ledger struct {
	path string

	mu     sync.Mutex
	values map[string]string
	file   *os.File
	size   int64 // of the good part of the file
	lines  int
	// Left is how many lines of the file could not be read when it was opened.
	Left int
}

type line struct {
	Key   string `json:"k"`
	Value string `json:"v,omitempty"`
}

// Open opens the ledger at a path, or makes it.
func Open(path string) (*Ledger, error) {
	l := &Ledger{path: path, values: map[string]string{}}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	// What can't be read is not carried on, so that a later line does not hang on to it.
	if l.file == nil || l.Left > 0 || l.lines > 2*len(l.values)+spare {
		if err := l.rewrite(); err != nil {
			return nil, errors.Join(fmt.Errorf("write the ledger %s anew: %w", path, err), l.Close())
		}
	}
	return l, nil
}

func (l *Ledger) load() error {
	f, err := os.OpenFile(l.path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	r := bufio.NewReaderSize(f, maxLine)
	for {
		b, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(b) == 0:
			l.file = f
			return nil
		case errors.Is(err, io.EOF):
			l.Left++ // cut off
			l.file = f
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			l.Left++
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = r.ReadSlice('\n')
			}
			continue
		case err != nil:
			return errors.Join(err, f.Close())
		}
		l.size += int64(len(b))
		var x line
		if json.Unmarshal(b, &x) != nil || x.Key == "" {
			l.Left++
			continue
		}
		l.lines++
		if x.Value == "" {
			delete(l.values, x.Key)
		} else if len(l.values) < MaxKeys {
			l.values[x.Key] = x.Value
		}
	}
}

// rewrite puts a file with what counts in place of the old one.
func (l *Ledger) rewrite() (err error) {
	temp, err := os.OpenFile(l.path+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, temp.Close())
		}
	}()
	w := bufio.NewWriter(temp)
	var size int64
	for k, v := range l.values {
		b, err := encode(k, v)
		if err != nil {
			return err
		}
		size += int64(len(b))
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := temp.Sync(); err != nil {
		return err
	}
	if err := os.Rename(l.path+".new", l.path); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(l.path)); err != nil {
		return err
	}
	if l.file != nil {
		_ = l.file.Close() // nothing is waiting in it
	}
	l.file, l.size, l.lines = temp, size, len(l.values)
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func encode(key, value string) ([]byte, error) {
	b, err := json.Marshal(line{key, value})
	return append(b, '\n'), err
}

// Get implements drivers.Ledger.
func (l *Ledger) Get(key string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.values[key]
}

// Put implements drivers.Ledger.
func (l *Ledger) Put(key, value string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, known := l.values[key]
	switch {
	case l.file == nil:
		return fmt.Errorf("write the ledger %s: %w", l.path, os.ErrClosed)
	case key == "" || len(key) > MaxText || len(value) > MaxText:
		return fmt.Errorf("the ledger takes keys and values of at most %d bytes", MaxText)
	case old == value:
		return nil
	case !known && len(l.values) >= MaxKeys:
		return ErrFull
	}
	b, err := encode(key, value)
	if err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	if _, err = l.file.WriteAt(b, l.size); err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		_ = l.file.Truncate(l.size) // or the next line is written over what is there
		return fmt.Errorf("write the ledger %s: %w", l.path, err)
	}
	l.size += int64(len(b))
	l.lines++
	if l.values[key] = value; value == "" {
		delete(l.values, key)
	}
	if l.lines > 2*len(l.values)+spare {
		if err := l.rewrite(); err != nil {
			// The line is durable where it is; the file is written anew another time.
			l.lines = 0
		}
	}
	return nil
}

// Each implements drivers.Ledger.
func (l *Ledger) Each(prefix string, f func(key, value string) bool) {
	l.mu.Lock()
	var found []line
	for k, v := range l.values {
		if strings.HasPrefix(k, prefix) {
			found = append(found, line{k, v})
		}
	}
	l.mu.Unlock()
	for _, x := range found {
		if !f(x.Key, x.Value) {
			return
		}
	}
}

// Close closes the file. Everything is on disk already.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
