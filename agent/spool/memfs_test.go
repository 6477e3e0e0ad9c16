package spool

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// memFS is a file system in memory that can lose power, fail and fill up.
//
// It is harder than a real one: what is not synced survives a power cut by the
// sector and in any choice; names survive as a prefix of what was done to them;
// and after a failed sync the pages count as clean though only some of them
// were written, as Linux has it.
type memFS struct {
	mu       sync.Mutex
	rnd      *rand.Rand
	names    map[string]*memFile // as a running process sees them
	durable  map[string]*memFile // as they are after a power cut
	undone   []nameOp            // between the two, oldest first
	capacity int64               // of all files, unlimited if zero
	hook     func(op, path string) error
	noAlloc  bool // Allocate is not supported

	syncs     int
	readFails func(path string, from, to int64) error
}

type nameOp struct {
	dirs  [2]string
	apply func(map[string]*memFile)
}

type memFile struct {
	mem, disk []byte
	dirty     map[int64]bool // sectors
	locked    bool
}

func newMemFS(seed uint64) *memFS {
	return &memFS{
		rnd:     rand.New(rand.NewPCG(seed, 1)),
		names:   map[string]*memFile{},
		durable: map[string]*memFile{},
	}
}

// powerCut returns the file system as it is found after a power cut.
func (m *memFS) powerCut() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, op := range m.undone[:m.rnd.IntN(len(m.undone)+1)] {
		op.apply(m.durable)
	}
	n := newMemFS(m.rnd.Uint64())
	n.capacity, n.noAlloc = m.capacity, m.noAlloc
	for name, f := range m.durable {
		if m.missingDir(name) {
			continue
		}
		if m.rnd.IntN(2) == 0 {
			f.resizeDisk(len(f.mem))
		}
		f.writeBack(m.rnd)
		c := slices.Clone(f.disk)
		file := &memFile{mem: c, disk: slices.Clone(c), dirty: map[int64]bool{}}
		n.names[name], n.durable[name] = file, file
	}
	return n
}

// killed returns the file system as the next process finds it after SIGKILL.
func (m *memFS) killed() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.names {
		f.locked = false
	}
	n := newMemFS(m.rnd.Uint64())
	n.capacity, n.noAlloc = m.capacity, m.noAlloc
	n.names, n.durable, n.undone = m.names, m.durable, m.undone
	return n
}

// clone is a copy of what a process sees, all of it durable.
func (m *memFS) clone() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := newMemFS(1)
	n.capacity, n.noAlloc = m.capacity, m.noAlloc
	for name, f := range m.names {
		file := &memFile{mem: slices.Clone(f.mem), disk: slices.Clone(f.mem), dirty: map[int64]bool{}}
		n.names[name], n.durable[name] = file, file
	}
	return n
}

// missingDir reports whether a directory above the name did not survive.
func (m *memFS) missingDir(name string) bool {
	for dir := filepath.Dir(name); dir != "/"; dir = filepath.Dir(dir) {
		if m.names[dir+"/"] != nil && m.durable[dir+"/"] == nil {
			return true
		}
	}
	return false
}

func (f *memFile) resizeDisk(n int) {
	if n <= len(f.disk) {
		f.disk = f.disk[:n:n]
		return
	}
	f.disk = append(f.disk, make([]byte, n-len(f.disk))...)
}

// writeBack brings some of the dirty sectors to disk.
func (f *memFile) writeBack(rnd *rand.Rand) {
	sectors := make([]int64, 0, len(f.dirty))
	for s := range f.dirty {
		sectors = append(sectors, s)
	}
	slices.Sort(sectors)
	few := rnd.IntN(3) // none, some, all
	for _, s := range sectors {
		if few == 2 || few == 1 && rnd.IntN(2) == 0 {
			f.writeSector(s)
		}
	}
}

func (f *memFile) writeSector(s int64) {
	from, to := s*sectorBytes, min((s+1)*sectorBytes, int64(len(f.mem)), int64(len(f.disk)))
	if from < to {
		copy(f.disk[from:to], f.mem[from:to])
	}
}

func (m *memFS) setHook(hook func(op, path string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = hook
}

func (m *memFS) syncCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.syncs
}

// step counts an operation and lets the hook make it fail. It takes mu.
func (m *memFS) step(op, path string) error {
	m.mu.Lock()
	if m.hook != nil {
		if err := m.hook(op, path); err != nil {
			return &os.PathError{Op: op, Path: path, Err: err}
		}
	}
	return nil
}

func (m *memFS) change(dirs [2]string, apply func(map[string]*memFile)) {
	apply(m.names)
	m.undone = append(m.undone, nameOp{dirs, apply})
}

func (m *memFS) used() (n int64) {
	for _, f := range m.names {
		n += int64(len(f.mem))
	}
	return n
}

func (m *memFS) MkdirAll(dir string) error {
	defer m.mu.Unlock()
	if err := m.step("mkdir", dir); err != nil {
		return err
	}
	for ; dir != "/" && m.names[dir+"/"] == nil; dir = filepath.Dir(dir) {
		name, d := dir+"/", &memFile{dirty: map[int64]bool{}}
		m.change([2]string{filepath.Dir(dir)}, func(names map[string]*memFile) { names[name] = d })
	}
	return nil
}

func (m *memFS) OpenFile(name string, flag int) (File, error) {
	defer m.mu.Unlock()
	if err := m.step("open", name); err != nil {
		return nil, err
	}
	f := m.names[name]
	switch {
	case f == nil && flag&os.O_CREATE == 0:
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
	case f != nil && flag&os.O_EXCL != 0:
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EEXIST}
	case f == nil:
		f = &memFile{dirty: map[int64]bool{}}
		m.change([2]string{filepath.Dir(name)}, func(names map[string]*memFile) { names[name] = f })
	case flag&os.O_TRUNC != 0:
		f.mem = nil
	}
	return &memHandle{m: m, f: f, name: name}, nil
}

func (m *memFS) ReadDir(dir string) ([]FileInfo, error) {
	defer m.mu.Unlock()
	if err := m.step("readdir", dir); err != nil {
		return nil, err
	}
	var files []FileInfo
	for name, f := range m.names {
		if filepath.Dir(name) == dir && !strings.HasSuffix(name, "/") {
			files = append(files, FileInfo{filepath.Base(name), int64(len(f.mem))})
		}
	}
	slices.SortFunc(files, func(a, b FileInfo) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return files, nil
}

func (m *memFS) Rename(from, to string) error {
	defer m.mu.Unlock()
	if err := m.step("rename", from); err != nil {
		return err
	}
	f := m.names[from]
	if f == nil {
		return &os.PathError{Op: "rename", Path: from, Err: syscall.ENOENT}
	}
	m.change([2]string{filepath.Dir(from), filepath.Dir(to)}, func(names map[string]*memFile) {
		if names[from] == f {
			delete(names, from)
		}
		names[to] = f
	})
	return nil
}

func (m *memFS) Remove(name string) error {
	defer m.mu.Unlock()
	if err := m.step("remove", name); err != nil {
		return err
	}
	if m.names[name] == nil {
		return &os.PathError{Op: "remove", Path: name, Err: syscall.ENOENT}
	}
	m.change([2]string{filepath.Dir(name)}, func(names map[string]*memFile) { delete(names, name) })
	return nil
}

func (m *memFS) SyncDir(dir string) error {
	defer m.mu.Unlock()
	if err := m.step("syncdir", dir); err != nil {
		return err
	}
	m.syncs++
	var rest []nameOp
	for _, op := range m.undone {
		if slices.Contains(op.dirs[:], dir) {
			op.apply(m.durable)
		} else {
			rest = append(rest, op)
		}
	}
	m.undone = rest
	return nil
}

func (m *memFS) Free(dir string) (free, total int64, err error) {
	defer m.mu.Unlock()
	if err := m.step("statfs", dir); err != nil {
		return 0, 0, err
	}
	if m.capacity == 0 {
		return 1 << 40, 16 << 10, nil // so that the reserve is small
	}
	return max(0, m.capacity-m.used()), m.capacity, nil
}

type memHandle struct {
	m      *memFS
	f      *memFile
	name   string
	locked bool
}

func (h *memHandle) ReadAt(b []byte, off int64) (int, error) {
	defer h.m.mu.Unlock()
	if err := h.m.step("read", h.name); err != nil {
		return 0, err
	}
	if h.m.readFails != nil {
		if err := h.m.readFails(h.name, off, off+int64(len(b))); err != nil {
			return 0, err
		}
	}
	if off >= int64(len(h.f.mem)) {
		return 0, io.EOF
	}
	n := copy(b, h.f.mem[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) WriteAt(b []byte, off int64) (int, error) {
	defer h.m.mu.Unlock()
	err := h.m.step("write", h.name)
	if err != nil && len(b) > 0 {
		// Part of it is written. What lacks its last byte only can't be told from damage
		// (scanner.torn).
		b = b[:max(0, h.m.rnd.IntN(len(b))-1)]
	}
	if grow := off + int64(len(b)) - int64(len(h.f.mem)); grow > 0 {
		if h.m.capacity > 0 && h.m.used()+grow > h.m.capacity {
			return 0, &os.PathError{Op: "write", Path: h.name, Err: syscall.ENOSPC}
		}
		h.f.mem = append(h.f.mem, make([]byte, grow)...)
	}
	copy(h.f.mem[off:], b)
	for s := off / sectorBytes; s*sectorBytes < off+int64(len(b)); s++ {
		h.f.dirty[s] = true
	}
	return len(b), err
}

func (h *memHandle) Close() error {
	defer h.m.mu.Unlock()
	err := h.m.step("close", h.name)
	if h.locked {
		h.f.locked = false
	}
	return err
}

func (h *memHandle) Size() (int64, error) {
	defer h.m.mu.Unlock()
	return int64(len(h.f.mem)), h.m.step("stat", h.name)
}

func (h *memHandle) Truncate(size int64) error {
	defer h.m.mu.Unlock()
	if err := h.m.step("truncate", h.name); err != nil {
		return err
	}
	if size < int64(len(h.f.mem)) {
		h.f.mem = h.f.mem[:size:size]
	}
	return nil
}

func (h *memHandle) Allocate(size int64) error {
	defer h.m.mu.Unlock()
	if err := h.m.step("fallocate", h.name); err != nil {
		return err
	}
	if h.m.noAlloc {
		return errors.ErrUnsupported
	}
	grow := size - int64(len(h.f.mem))
	if h.m.capacity > 0 && h.m.used()+grow > h.m.capacity {
		return &os.PathError{Op: "fallocate", Path: h.name, Err: syscall.ENOSPC}
	}
	if grow > 0 {
		h.f.mem = append(h.f.mem, make([]byte, grow)...)
	}
	return nil
}

func (h *memHandle) Sync() error {
	defer h.m.mu.Unlock()
	if err := h.m.step("sync", h.name); err != nil {
		// Some pages are written, all count as clean, and those that were not
		// written may be read back as they are on disk.
		h.f.writeBack(h.m.rnd)
		for s := range h.f.dirty {
			from, to := s*sectorBytes, min((s+1)*sectorBytes, int64(len(h.f.mem)), int64(len(h.f.disk)))
			if h.m.rnd.IntN(2) == 0 && from < to {
				copy(h.f.mem[from:to], h.f.disk[from:to])
			}
		}
		clear(h.f.dirty)
		return err
	}
	h.m.syncs++
	h.f.resizeDisk(len(h.f.mem))
	for s := range h.f.dirty {
		h.f.writeSector(s)
	}
	clear(h.f.dirty)
	return nil
}

func (h *memHandle) Gone(name string) bool {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	return h.m.names[name] != h.f
}

func (h *memHandle) Lock() error {
	defer h.m.mu.Unlock()
	if err := h.m.step("lock", h.name); err != nil {
		return err
	}
	if h.f.locked {
		return ErrLocked
	}
	h.f.locked, h.locked = true, true
	return nil
}
