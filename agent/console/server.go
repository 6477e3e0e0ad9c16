package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/lanepost/lanepost/agent/console/client"
)

// Console serves the agent.
type Console struct {
	o   Options
	log *slog.Logger

	// life ends answers that go on.
	life context.Context
	end  context.CancelFunc

	group sync.WaitGroup
	local *http.Server

	// changed wakes keepDoor.
	changed chan struct{}

	mu sync.Mutex
	// socketProblem is why there is no socket, doorProblem why there is no door.
	socketProblem, doorProblem string
	// wanted is what the door should be, door what it is; nil for none.
	wanted Settings
	door   *door
}

// Open makes the socket and the door and serves. That one of them is not there is no
// error: it is a problem to be told, see Problems.
func Open(o Options) *Console {
	c := &Console{o: o, log: o.Log, wanted: o.Door, changed: make(chan struct{}, 1)}
	c.life, c.end = context.WithCancel(context.Background())
	if ln, err := listenLocal(o.SpoolDir); err != nil {
		c.socketProblem = fmt.Sprintf("commands of this box can't talk to the agent: the socket %s can't be made: %v",
			filepath.Join(o.SpoolDir, client.Socket), err)
		c.log.Warn("there is no socket for the commands of this box", "err", err)
	} else {
		c.local = c.server(c.routes(true))
		c.group.Go(func() {
			if err := c.local.Serve(atMost(maxConnections, ln)); !errors.Is(err, http.ErrServerClosed) {
				c.log.Error("the console's socket is not served any more", "err", err)
			}
		})
	}
	c.group.Go(c.keepDoor)
	return c
}

// Problems lists what is wrong with the console.
func (c *Console) Problems() []Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Problem
	if c.socketProblem != "" {
		list = append(list, Problem{What: c.socketProblem, ToDo: "see to the spool directory: its file system must know sockets, and have room"})
	}
	if c.doorProblem != "" {
		list = append(list, Problem{What: c.doorProblem, ToDo: "set console.listen to another address or port, or mend the files that it names"})
	}
	return list
}

// Close ends all answers and takes socket and door away. No goroutine is left, unless a
// disk hangs.
func (c *Console) Close() {
	c.o.Events.feed.end(endedStop)
	c.end()
	if c.local != nil {
		// Who asks from now on is to be told that no agent runs.
		removeLocal(c.o.SpoolDir)
		stop(c.local)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.group.Wait()
	}()
	// The files of the certificate may be on a disk that hangs.
	patience := time.NewTimer(2 * stopTimeout)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
		c.log.Warn("the console does not come to its end, and is left")
	}
}

// stop ends a server: answers in good order if they come to an end soon.
func stop(s *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		_ = s.Close() // the time for good order is over
	}
}

// listenLocal makes the socket. It is made under another name and put in place with its
// mode, so that nobody else can connect meanwhile, and so that the socket of an agent
// that was killed is replaced. The spool's lock keeps a second agent out.
func listenLocal(dir string) (net.Listener, error) {
	next := client.Socket + ".new"
	from, release, err := client.Path(dir, next)
	if err != nil {
		return nil, err
	}
	defer release()
	_ = os.Remove(from) // of an agent that was killed in between; what is left is told by the bind
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: from, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false) // it has another name then
	if err = os.Chmod(from, 0o660); err == nil {
		err = os.Rename(filepath.Join(dir, next), filepath.Join(dir, client.Socket))
	}
	if err != nil {
		_ = ln.Close()
		_ = os.Remove(from) // already failing
		return nil, err
	}
	return ln, nil
}

func removeLocal(dir string) { _ = os.Remove(filepath.Join(dir, client.Socket)) } // a stale one is replaced

// server bounds what a peer may take.
func (c *Console) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		// What a peer does wrong is no news at a border.
		ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
}

// route is one request that is answered.
type route struct {
	method, path string
	answer       func(*Console, http.ResponseWriter, *http.Request)
	// local is true for what only commands of this box may ask.
	local bool
}

// Routes of the API. docs/console.md lists them.
var routes = []route{
	{http.MethodGet, "/api/v1/status", (*Console).status, false},
	{http.MethodGet, "/api/v1/events", (*Console).events, false},
	{http.MethodGet, "/api/v1/log", (*Console).logTail, false},
	{http.MethodGet, "/api/v1/config", (*Console).config, false},
	{http.MethodPost, "/api/v1/reload", (*Console).reload, false},
	{http.MethodGet, "/api/v1/raw", (*Console).raw, true},
	{http.MethodGet, "/api/v1/thumbnail", (*Console).thumbnail, false},
	{http.MethodGet, "/api/v1/simulator", (*Console).simulated, false},
	{http.MethodGet, "/metrics", (*Console).metrics, false},
}

// routes dispatches.
func (c *Console) routes(local bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		known := false
		for _, one := range routes {
			if one.path != r.URL.Path {
				continue
			}
			known = true
			if one.method != r.Method {
				continue
			}
			if one.local && !local {
				fail(w, http.StatusForbidden, "this is only for commands on the box itself")
				return
			}
			extend(w)
			one.answer(c, w, r)
			return
		}
		if page(w, r) {
			return
		}
		if known {
			fail(w, http.StatusMethodNotAllowed, r.Method+" is not for "+r.URL.Path)
			return
		}
		fail(w, http.StatusNotFound, "there is no "+r.URL.Path)
	})
}

// extend gives the next piece of an answer its time.
func extend(w http.ResponseWriter) {
	// Without deadlines the connection is none of a network, as in a test.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
}

// failure is an answer that tells of a failure.
type failure struct {
	Error string `json:"error"`
}

func fail(w http.ResponseWriter, code int, why string) { answer(w, code, failure{why}) }

// answer writes JSON.
func answer(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // only a NaN could do this
		code, b = http.StatusInternalServerError, []byte(`{"error":"the answer can't be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // who asked is gone otherwise
}

func (c *Console) status(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, c.o.Status())
}

func (c *Console) config(w http.ResponseWriter, r *http.Request) {
	f, err := c.o.Config(r.Context())
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	answer(w, http.StatusOK, f)
}

func (c *Console) reload(w http.ResponseWriter, r *http.Request) {
	done, err := c.o.Reload(r.Context())
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	answer(w, http.StatusOK, done)
}

// logTail gives the last of the log: n records (KeptLog) from level on ("debug"), of
// device, with a higher number than after.
func (c *Console) logTail(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	level, n, after := slog.LevelDebug, KeptLog, uint64(0)
	var err error
	if v := q.Get("level"); v != "" {
		err = level.UnmarshalText([]byte(v))
	}
	if v := q.Get("n"); v != "" && err == nil {
		n, err = strconv.Atoi(v)
	}
	if v := q.Get("after"); v != "" && err == nil {
		after, err = strconv.ParseUint(v, 10, 64)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "level is debug, info, warn or error, n and after are numbers: "+err.Error())
		return
	}
	answer(w, http.StatusOK, struct {
		Records []LogRecord `json:"records"`
	}{c.o.Logs.Last(n, level, q.Get("device"), after)})
}

// thumbnail gives the small picture of a scanner's last scan.
func (c *Console) thumbnail(w http.ResponseWriter, r *http.Request) {
	b := c.o.Thumbnail(r.URL.Query().Get("device"))
	if len(b) == 0 {
		fail(w, http.StatusNotFound, "there is no picture of this device's last scan, or console.pictures does not permit to show it")
		return
	}
	w.Header().Set("Content-Type", "image/jpeg")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b) // who asked is gone otherwise
}

// events tells of each event when it is recorded, as server-sent events; of one device if
// device is given, and with the whole event if whole is "1".
func (c *Console) events(w http.ResponseWriter, r *http.Request) {
	f, err := c.o.Events.feed.follow(eventBounds)
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer f.close()
	device, whole := r.URL.Query().Get("device"), r.URL.Query().Get("whole") == "1"
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := newStream(w)
	out.write([]byte(": events follow as they are recorded\n\n"))
	quiet := time.NewTicker(quietEvery)
	defer quiet.Stop()
	for out.err == nil {
		select {
		case <-r.Context().Done():
			return
		case <-quiet.C:
			if !alive(r.Context()) {
				out.write(sse("dropped", failure{"the login has come to its end; log in again"}))
				return
			}
			out.write([]byte(":\n\n"))
		case p, ok := <-f.c:
			if !ok {
				out.write(sse("dropped", failure{f.ended}))
				return
			}
			e := f.taken(p)
			if device != "" && e.Device != device {
				continue
			}
			one := watchedEvent{Event: e.Event}
			if whole {
				one.Whole = e.Public
			}
			out.write(sse("recorded", one))
		}
	}
}

// sse is one server-sent event.
func sse(name string, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // of an event that was JSON before
		b = []byte(`{}`)
	}
	return append(append([]byte("event: "+name+"\ndata: "), b...), '\n', '\n')
}

// raw gives the raw bytes of a device as they come, a JSON object on each line.
func (c *Console) raw(w http.ResponseWriter, r *http.Request) {
	l, err := c.o.Listen(r.URL.Query().Get("device"))
	if err != nil {
		code := http.StatusNotFound
		if errors.Is(err, errTooMany) {
			code = http.StatusServiceUnavailable
		}
		fail(w, code, err.Error())
		return
	}
	defer l.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	out := newStream(w)
	out.write(nil)
	for out.err == nil {
		select {
		case <-r.Context().Done():
			return
		case <-c.life.Done():
			out.line(rawLine{At: time.Now().UTC().Format(time.RFC3339Nano), Ended: endedStop})
			return
		case p, ok := <-l.w.c:
			if !ok {
				out.line(rawLine{At: time.Now().UTC().Format(time.RFC3339Nano), Ended: l.w.ended})
				return
			}
			out.line(l.w.taken(p).line())
		}
	}
}

// stream is an answer that goes on.
type stream struct {
	w          http.ResponseWriter
	controller *http.ResponseController
	err        error
}

func newStream(w http.ResponseWriter) *stream {
	s := &stream{w: w, controller: http.NewResponseController(w)}
	// The request has come to its end; its time must not end the answer.
	s.err = s.controller.SetReadDeadline(time.Time{})
	return s
}

func (s *stream) write(b []byte) {
	if s.err != nil {
		return
	}
	extend(s.w)
	if _, s.err = s.w.Write(b); s.err == nil {
		s.err = s.controller.Flush()
	}
}

func (s *stream) line(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		s.err = err
		return
	}
	s.write(append(b, '\n'))
}
