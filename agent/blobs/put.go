package blobs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/lanepost/lanepost/protocol/event"
)

// Put stores content of at most limit bytes and returns its hash and its size;
// the media type and the name are the caller's to fill in. The content is
// then on disk, and stays for Options.Keep until Announce is called for it.
// Release says that it will not be.
func (s *Store) Put(ctx context.Context, r io.Reader, limit int64) (event.Attachment, error) {
	limit = min(limit, event.MaxAttachment, s.o.MaxBytes, s.o.ChunkBytes*maxChunks)
	a, err := s.put(ctx, r, limit)
	if err != nil {
		return event.Attachment{}, fmt.Errorf("store an attachment: %w", err)
	}
	return a, nil
}

func (s *Store) put(ctx context.Context, r io.Reader, limit int64) (a event.Attachment, err error) {
	s.mu.Lock()
	s.lastTemp++
	temp := filepath.Join(s.dir, "tmp", strconv.FormatUint(s.lastTemp, 10))
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return a, ErrClosed
	}
	f, err := s.files.create(temp)
	if errors.Is(err, os.ErrNotExist) { // somebody deleted the directory
		if err = s.files.mkdir(filepath.Dir(temp)); err == nil {
			f, err = s.files.create(temp)
		}
	}
	if err != nil {
		return a, noSpace(err)
	}
	var reserved int64
	defer func() {
		if f != nil {
			_ = f.Close() // what was written is thrown away
		}
		if err != nil {
			_ = s.files.remove(temp) // Open removes what stays
			s.mu.Lock()
			s.bytes -= reserved
			s.mu.Unlock()
		}
	}()
	digest := sha256.New()
	buf := make([]byte, copyBytes)
	for end := false; !end; {
		if err := ctx.Err(); err != nil {
			return a, err
		}
		n, err := io.ReadFull(r, buf)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			end = true
		case err != nil:
			return a, fmt.Errorf("after %d bytes: %w", reserved, err)
		}
		if reserved+int64(n) > limit {
			return a, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
		}
		if err := s.reserve(int64(n)); err != nil {
			return a, err
		}
		reserved += int64(n)
		_, _ = digest.Write(buf[:n]) // a hash takes everything
		if err := s.write(f, buf[:n]); err != nil {
			return a, noSpace(err)
		}
	}
	if reserved == 0 {
		return a, ErrEmpty
	}
	if err := s.files.sync(f); err != nil {
		return a, noSpace(err)
	}
	err = f.Close()
	f = nil
	if err != nil {
		return a, err
	}
	sum := hash(digest.Sum(nil))
	if err := s.place(temp, sum, reserved); err != nil {
		return a, noSpace(err)
	}
	// The name is there; until it is durable, nobody is told.
	if err := s.files.syncDir(filepath.Dir(s.path(sum))); err != nil {
		s.release(sum)
		reserved = 0 // it is the store's now
		return a, noSpace(err)
	}
	return event.Attachment{SHA256: sum.String(), Size: reserved}, nil
}

// write writes all of b. On a full disk it makes room as long as it can.
func (s *Store) write(f *os.File, b []byte) error {
	for {
		n, err := s.files.write(f, b)
		b = b[n:]
		if err == nil {
			return nil
		}
		if !errors.Is(noSpace(err), ErrFull) {
			return err
		}
		s.mu.Lock()
		dropped := s.dropIdle()
		s.full = !dropped
		s.mu.Unlock()
		if !dropped {
			return err
		}
	}
}

// place gives a written file its name. A file that is there already has the same
// content and is replaced all the same: it may be damaged.
func (s *Store) place(temp string, sum hash, size int64) error {
	dir := filepath.Dir(s.path(sum))
	s.mu.Lock()
	there := s.dirs[dir]
	s.mu.Unlock()
	if there { // unless somebody deleted it
		_, err := os.Stat(dir)
		there = err == nil
	}
	if !there {
		if err := s.files.mkdir(dir); err != nil {
			return err
		}
		if err := s.files.syncDir(s.dir); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirs[dir] = true
	if s.closed {
		return ErrClosed
	}
	if err := s.files.rename(temp, s.path(sum)); err != nil {
		return err
	}
	b := s.blobs[sum]
	if b == nil {
		b = &blob{sum: sum, size: size}
		s.blobs[sum] = b
	} else {
		s.bytes -= b.size // there is still one of it
		if b.size != size {
			b.size = size // the one that was there was cut, and idle
		}
	}
	b.puts++
	b.fresh++
	s.settle(b)
	s.full = false
	return nil
}

// Release says that content from Put will not be announced.
func (s *Store) Release(a event.Attachment) {
	if sum, ok := parseHash(a.SHA256); ok {
		s.release(sum)
	}
}

func (s *Store) release(sum hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.blobs[sum]; b != nil && b.fresh > 0 {
		b.fresh--
		s.settle(b)
	}
}

// reserve takes n bytes of the cap, making room where it may.
func (s *Store) reserve(n int64) error {
	for {
		free, err := freeBytes(s.dir)
		if err != nil {
			return err
		}
		s.mu.Lock()
		var why string
		switch {
		case s.closed:
			s.mu.Unlock()
			return ErrClosed
		case s.bytes+n > s.o.MaxBytes:
			why = fmt.Sprintf("%d of %d bytes are taken by what is not delivered", s.bytes, s.o.MaxBytes)
		case free-n < s.o.MinFree:
			why = fmt.Sprintf("the disk has %d bytes free and %d must stay free", free, s.o.MinFree)
		default:
			s.bytes += n
			s.mu.Unlock()
			return nil
		}
		if s.dropIdle() {
			s.mu.Unlock()
			continue
		}
		evicted := s.o.Evict && s.evict(why)
		s.full = !evicted
		s.mu.Unlock()
		if !evicted {
			return fmt.Errorf("%w: %s", ErrFull, why)
		}
		// That it is given up is on disk before it is gone.
		if err := s.flush(true); err != nil {
			return err
		}
	}
}

// settle puts a blob among the idle ones, or takes it out, as its needs are.
func (s *Store) settle(b *blob) {
	needed := b.fresh > 0 || b.needs > 0
	b.since = s.o.Now()
	switch {
	case needed && b.idle != nil:
		s.idle.Remove(b.idle)
		b.idle = nil
	case !needed && b.idle == nil && s.blobs[b.sum] == b:
		b.idle = s.idle.PushBack(b)
	}
}
