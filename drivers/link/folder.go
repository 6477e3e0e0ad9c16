package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/order"
)

// What a link to a folder does unless its URL or profile says otherwise.
const (
	// defaultIOTimeout bounds one look into the folder: the calls of a network share
	// whose server is gone hang for minutes or for ever.
	defaultIOTimeout = 10 * time.Second
	// folderChunk is how much is read under one time limit.
	folderChunk = 256 << 10
	// MaxEntries bounds the entries of one folder that are looked at.
	MaxEntries = 200_000
)

// Errors of a folder.
var (
	// ErrHangs says that the folder does not answer.
	ErrHangs = errors.New("the folder does not answer")
	// errNotMounted and errSentinel say that what is there is not the share.
	errNotMounted = errors.New("nothing is mounted there")
	errSentinel   = errors.New("the file that marks the share is not there")
)

// Folder is a link to an instrument that drops files into a folder, often one that is
// mounted from another machine. It is read only: nothing is written, renamed or locked in
// it. Names lead nowhere outside of it, and symbolic links are not followed.
//
// A call that hangs is given up after a while; until it has returned, all others fail.
type Folder struct {
	meter
	*ending
	endpoint *folderEndpoint
	root     *os.Root
	is       fs.FileInfo // of the folder when it was opened
	// pause takes the place of waiting, for scripts.
	pause func(context.Context, time.Duration) error
}

// FolderAt opens a folder for tests and scripts; pause takes the place of waiting.
func FolderAt(dir string, pause func(context.Context, time.Duration) error) (*Folder, error) {
	e := &folderEndpoint{path: dir, ioTimeout: defaultIOTimeout, guard: &folderGuard{}}
	conn, err := e.Open(context.Background())
	if err != nil {
		return nil, err
	}
	f := conn.(*Folder)
	f.pause = pause
	return f, nil
}

// folderGuard knows of the one call that hangs. It outlives connections.
type folderGuard struct {
	mu    sync.Mutex
	stuck string
	by    any // whose call that is
}

type folderEndpoint struct {
	path      string
	mounted   bool
	sentinel  string
	ioTimeout time.Duration
	guard     *folderGuard
}

func parseFolder(rest string, s *settings) (Endpoint, error) {
	where, err := url.PathUnescape(rest)
	if err != nil {
		return nil, errors.New("connect: the path has a % that two hexadecimal digits do not follow; write % itself as %25")
	}
	if !filepath.IsAbs(where) {
		return nil, fmt.Errorf("connect: folder: needs a whole path, for example %s", schemes()["folder"].example)
	}
	e := &folderEndpoint{path: filepath.Clean(where), sentinel: s.values["sentinel"], guard: &folderGuard{}}
	if e.ioTimeout, err = s.duration("io_timeout", defaultIOTimeout, 100*time.Millisecond, 5*time.Minute, false); err != nil {
		return nil, err
	}
	mounted, err := s.choice("mounted", "maybe", []string{"maybe", "yes"})
	if err != nil {
		return nil, err
	}
	e.mounted = mounted == "yes"
	if e.sentinel != "" && !filepath.IsLocal(e.sentinel) {
		return nil, fmt.Errorf("%s: sentinel=%s is not the name of a file in the folder", s.origin["sentinel"], echo(e.sentinel))
	}
	return e, nil
}

func (e *folderEndpoint) Scheme() string { return "folder" }

func (e *folderEndpoint) String() string {
	var options []string
	if e.mounted {
		options = append(options, "mounted=yes")
	}
	if e.sentinel != "" {
		options = append(options, "sentinel="+url.QueryEscape(e.sentinel))
	}
	if e.ioTimeout != defaultIOTimeout {
		options = append(options, "io_timeout="+e.ioTimeout.String())
	}
	text := "folder:" + (&url.URL{Path: e.path}).EscapedPath()
	if len(options) > 0 {
		text += "?" + strings.Join(options, "&")
	}
	return text
}

// Open opens the folder and makes sure that it is the one that is meant.
func (e *folderEndpoint) Open(ctx context.Context) (Conn, error) {
	f := &Folder{endpoint: e, ending: newEnding()}
	opened, err := bounded(ctx, f, "open", func() (*os.Root, error) { return os.OpenRoot(e.path) })
	if err != nil {
		return nil, fmt.Errorf("open the folder %s: %w", e.path, err)
	}
	f.root = opened
	f.is, err = bounded(ctx, f, "look at", func() (fs.FileInfo, error) { return opened.Stat(".") })
	if err == nil {
		err = f.Check(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the folder %s: %w", e.path, err), f.Close())
	}
	return f, nil
}

// bounded does something with the folder that may hang.
func bounded[T any](ctx context.Context, f *Folder, what string, do func() (T, error)) (T, error) {
	v, err := f.bounded(ctx, what, func() (any, error) { return do() })
	t, _ := v.(T)
	return t, err
}

// bounded has no type of its own, since each would be another copy in the program.
func (f *Folder) bounded(ctx context.Context, what string, do func() (any, error)) (any, error) {
	g := f.endpoint.guard
	g.mu.Lock()
	stuck := g.stuck
	g.mu.Unlock()
	if stuck != "" {
		return nil, fmt.Errorf("%w: an earlier call still hangs (%s)", ErrHangs, stuck)
	}
	if err := f.over.Err(); err != nil {
		return nil, context.Cause(f.over)
	}
	type result struct {
		v   any
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := do()
		done <- result{v, err}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.by == any(done) {
			g.stuck, g.by = "", nil
		}
	}()
	timer := time.NewTimer(f.endpoint.ioTimeout)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.v, r.err
	case <-timer.C:
	case <-ctx.Done():
	case <-f.over.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case r := <-done:
		return r.v, r.err
	default:
	}
	g.stuck, g.by = what, done
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case f.over.Err() != nil:
		return nil, context.Cause(f.over)
	}
	return nil, fmt.Errorf("%w: %s took longer than %s", ErrHangs, what, f.endpoint.ioTimeout)
}

// Check makes sure that the folder is still the one that was opened. A share that is no
// longer mounted leaves an empty folder, which would look like a quiet lane.
func (f *Folder) Check(ctx context.Context) error {
	e := f.endpoint
	now, err := bounded(ctx, f, "look at", func() (fs.FileInfo, error) { return os.Stat(e.path) })
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnplugged, err)
	case !os.SameFile(now, f.is):
		return fmt.Errorf("%w: another folder has come in the place of %s: the share was mounted or unmounted", ErrUnplugged, e.path)
	}
	if e.mounted {
		is, err := bounded(ctx, f, "look at", func() (bool, error) { return mountPoint(e.path) })
		if err != nil {
			return err
		}
		if !is {
			return fmt.Errorf("%w: %w at %s", ErrUnplugged, errNotMounted, e.path)
		}
	}
	if e.sentinel != "" {
		if _, err := f.Stat(ctx, e.sentinel); err != nil {
			return fmt.Errorf("%w: %w (%s)", ErrUnplugged, errSentinel, e.sentinel)
		}
	}
	return nil
}

// local gives a name that leads nowhere outside of the folder.
func local(name string) (string, error) {
	name = path.Clean(name)
	if !filepath.IsLocal(filepath.FromSlash(name)) || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%q leads out of the folder", echo(name))
	}
	return filepath.FromSlash(name), nil
}

// Entry is one file or folder, with its name alone.
type Entry struct {
	Name string
	// Dir is true for a folder. What is neither folder nor file is left out.
	Dir bool
}

// ReadDir gives what is in a folder below, in the order of names; "." is the folder
// itself.
func (f *Folder) ReadDir(ctx context.Context, name string) ([]Entry, error) {
	name, err := local(name)
	if err != nil {
		return nil, err
	}
	return bounded(ctx, f, "read the folder "+name, func() ([]Entry, error) {
		d, err := f.root.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = d.Close() }() // it was only read
		var list []Entry
		for len(list) < MaxEntries {
			some, err := d.ReadDir(1024)
			for _, e := range some {
				if e.IsDir() || e.Type().IsRegular() {
					list = append(list, Entry{e.Name(), e.IsDir()})
				}
			}
			if errors.Is(err, io.EOF) || err == nil && len(some) == 0 {
				break
			}
			if err != nil {
				return nil, err
			}
		}
		order.By(list, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
		return list, nil
	})
}

// Stat looks at a file or folder. A symbolic link is not there.
func (f *Folder) Stat(ctx context.Context, name string) (fs.FileInfo, error) {
	name, err := local(name)
	if err != nil {
		return nil, err
	}
	return bounded(ctx, f, "look at "+name, func() (fs.FileInfo, error) {
		// None of the folders on the way may be a link either.
		for i := 0; i < len(name); i++ {
			if name[i] == filepath.Separator {
				if info, err := f.root.Lstat(name[:i]); err != nil || !info.IsDir() {
					return nil, errors.Join(err, fmt.Errorf("%s: %w", name, fs.ErrNotExist))
				}
			}
		}
		info, err := f.root.Lstat(name)
		if err == nil && !info.IsDir() && !info.Mode().IsRegular() {
			err = fmt.Errorf("%s is neither a file nor a folder: %w", name, fs.ErrNotExist)
		}
		return info, err
	})
}

// Open opens a file for reading; each piece that is read has the time limit.
func (f *Folder) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if _, err := f.Stat(ctx, name); err != nil {
		return nil, err
	}
	name, err := local(name)
	if err != nil {
		return nil, err
	}
	file, err := bounded(ctx, f, "open "+name, func() (*os.File, error) { return f.root.Open(name) })
	if err != nil {
		return nil, err
	}
	return &folderFile{f: f, ctx: ctx, file: file, name: name}, nil
}

type folderFile struct {
	f    *Folder
	ctx  context.Context
	file *os.File
	name string
}

// Read implements io.Reader.
func (r *folderFile) Read(p []byte) (int, error) {
	// A call that hangs writes into memory of its own.
	size := min(len(p), folderChunk)
	b, err := bounded(r.ctx, r.f, "read "+r.name, func() ([]byte, error) {
		own := make([]byte, size)
		n, err := r.file.Read(own)
		return own[:n], err
	})
	n := copy(p, b)
	r.f.count(n)
	return n, err
}

// Close implements io.Closer. Of a file that was only read there is nothing to report.
func (r *folderFile) Close() error { return r.file.Close() }

// ReadFile reads a file of at most most bytes.
func (f *Folder) ReadFile(ctx context.Context, name string, most int64) ([]byte, error) {
	r, err := f.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return b, err
}

// Wait waits between two looks.
func (f *Folder) Wait(ctx context.Context, d time.Duration) error {
	if f.pause != nil {
		return f.pause(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-f.over.Done():
		return context.Cause(f.over)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Read implements Conn; a folder is not read like a line.
func (f *Folder) Read([]byte) (int, error) {
	return 0, errors.New("a folder is not read like a line: the driver and the link do not fit")
}

// Write implements Conn; nothing is ever written to a folder.
func (f *Folder) Write([]byte) (int, error) {
	return 0, errors.New("a folder is not written to: the driver and the link do not fit")
}

// Close ends every wait. Calls that hang are left behind.
func (f *Folder) Close() error {
	f.end(ErrClosed)
	if f.root == nil {
		return nil
	}
	root := f.root
	done := make(chan error, 1)
	go func() { done <- root.Close() }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Second): // it hangs with the share
		return nil
	}
}
