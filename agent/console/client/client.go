// Package client is for the commands of the box: it finds the running agent by its
// spool directory and asks it over the socket there.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Socket is the name of the socket in the spool directory.
const Socket = "console.sock"

// Base is where the paths of the API begin, for the client that Dial gives: Base +
// "/api/v1/status".
const Base = "http://lanepost"

const (
	// maxPath is how long the path of a socket may be: its place in the system's
	// structure has 108 bytes, and one is for the end.
	maxPath = 107
	// dialTimeout bounds the connect. A socket on a disk of the box answers at once.
	dialTimeout = 5 * time.Second
	// answerTimeout bounds the wait for an answer that is read as a whole. The agent gives
	// what it knows within half a second. doneTimeout bounds that for something it does.
	answerTimeout = 5 * time.Second
	doneTimeout   = time.Minute
	// maxAnswer bounds an answer that is read as a whole, in bytes.
	maxAnswer = 16 << 20
)

// ErrNotRunning says that no agent serves the spool directory.
var ErrNotRunning = errors.New("no agent is running on this spool")

// Path gives a path by which a socket in dir can be bound or connected to, however long
// that of dir is. It is valid until release is called.
func Path(dir, name string) (path string, release func(), err error) {
	path = filepath.Join(dir, name)
	if len(path) <= maxPath {
		return path, func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), name), func() { _ = f.Close() }, nil
}

// Dial gives a client of the agent that runs on a spool directory; its requests go to
// Base. It looks whether there is one: without, the error is an ErrNotRunning. The
// client waits a minute for the beginning of an answer; for the whole of it there is no limit,
// since some go on. Get and Post have one.
func Dial(spoolDir string) (*http.Client, error) {
	dial := func(ctx context.Context) (net.Conn, error) {
		path, release, err := Path(spoolDir, Socket)
		if err != nil {
			return nil, explain(spoolDir, err)
		}
		defer release()
		d := net.Dialer{Timeout: dialTimeout}
		c, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return nil, explain(spoolDir, err)
		}
		return c, nil
	}
	c, err := dial(context.Background())
	if err != nil {
		return nil, err
	}
	_ = c.Close() // it was to see that somebody answers
	return &http.Client{Transport: &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableCompression: true, MaxIdleConns: 1, IdleConnTimeout: time.Second, ResponseHeaderTimeout: doneTimeout,
	}}, nil
}

// explain says in words why the agent can't be asked.
func explain(dir string, err error) error {
	socket := filepath.Join(dir, Socket)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: %s; start it, or name the spool directory of the one that runs", ErrNotRunning, dir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this user may not talk to the agent over %s: call the command with sudo, or as the agent's user: %w", socket, err)
	}
	return fmt.Errorf("talk to the agent over %s: %w", socket, err)
}

// Get asks for a path of the API ("/api/v1/status") and decodes the answer into into. It
// waits no longer than a few seconds.
func Get(ctx context.Context, c *http.Client, path string, into any) error {
	return ask(ctx, c, http.MethodGet, path, answerTimeout, into)
}

// Post does the same for a path that does something, which may take a minute.
func Post(ctx context.Context, c *http.Client, path string, into any) error {
	return ask(ctx, c, http.MethodPost, path, doneTimeout, into)
}

func ask(ctx context.Context, c *http.Client, method, path string, patience time.Duration, into any) error {
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	late := func(err error) error {
		if asking.Err() == nil || ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("the agent has not answered %s within %s; if it stays so, start it anew: %w", path, patience, context.DeadlineExceeded)
	}
	r, err := Open(asking, c, method, path)
	if err != nil {
		return late(err)
	}
	defer r.Close() //nolint:errcheck // it is read to its end, or the error is told
	if err := json.NewDecoder(io.LimitReader(r, maxAnswer)).Decode(into); err != nil {
		if asking.Err() != nil {
			return late(err)
		}
		return fmt.Errorf("read the agent's answer to %s: %w", path, err)
	}
	return nil
}

// Open asks for a path and gives the answer to be read as it comes. An answer that
// tells of a failure is an error with the agent's words.
func Open(ctx context.Context, c *http.Client, method, path string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, method, Base+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask the agent for %s: %w", path, err)
	}
	answer, err := c.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask the agent for %s: %w", path, err)
	}
	if answer.StatusCode == http.StatusOK {
		return answer.Body, nil
	}
	defer answer.Body.Close() //nolint:errcheck // it was only read
	var failure struct {
		Error string `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(&failure); err != nil || failure.Error == "" {
		failure.Error = "it answered " + answer.Status
	}
	return nil, fmt.Errorf("the agent does not give %s: %s", path, strings.TrimSpace(failure.Error))
}
