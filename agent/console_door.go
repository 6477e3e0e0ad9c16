package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"time"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
)

// openConsole lets the people at the box see the agent. That it can't be is a problem and
// no reason not to run.
func (a *Agent) openConsole() {
	opened := console.Open(console.Options{
		SpoolDir: a.cfg.Spool.Dir, Door: a.cfg.Console.Door,
		Status: a.status,
		Config: a.readConfigFile,
		Reload: func(ctx context.Context) (console.Reloaded, error) {
			done, err := a.askReload(ctx)
			return done.told(), err
		},
		Listen: a.listen, Thumbnail: a.recent.thumbnailOf,
		Simulator: func() string { return a.config().Console.Simulator },
		Events:    &a.recent.events,
		Logs:      a.logs,
		Log:       a.log.With("part", "console"),
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.console = opened
}

// told is a reload as the console tells of it.
func (r reloaded) told() console.Reloaded {
	t := console.Reloaded(r)
	if t.Problems == nil {
		t.Problems = []string{}
	}
	return t
}

// logLevels are those of a configuration.
func logLevels(cfg *config.Config) console.Levels {
	l := console.Levels{All: config.SlogLevel(cfg.Log.Level), Devices: map[string]slog.Level{}}
	for device, level := range cfg.Log.Devices {
		l.Devices[device] = config.SlogLevel(level)
	}
	return l
}

// hasRawBytes reports whether there is a stream of bytes that can be listened to.
func hasRawBytes(d config.Device) bool { return config.HasBytes(d.Endpoint) }

// listen gives the raw bytes of a device.
func (a *Agent) listen(key string) (*console.Listener, error) {
	a.mu.Lock()
	d := a.devices[key]
	a.mu.Unlock()
	switch {
	case d == nil:
		return nil, fmt.Errorf("there is no device %q; name it as lane/id", key)
	case !hasRawBytes(d.cfg):
		return nil, fmt.Errorf("%s is on a %s: link, which has no stream of bytes that could be listened to", key, d.cfg.Endpoint.Scheme())
	}
	return a.taps.tap(key).raw.Listen()
}

// configPatience bounds the reading of the configuration file, whose disk may hang.
const configPatience = 5 * time.Second

// readConfigFile reads the configuration file as it is now, without its secrets.
func (a *Agent) readConfigFile(ctx context.Context) (f console.ConfigFile, err error) {
	ctx, cancel := context.WithTimeout(ctx, configPatience)
	defer cancel()
	type read struct {
		b   []byte
		err error
	}
	done := make(chan read, 1)
	go func() {
		b, err := readBounded(a.opts.ConfigPath, yamlfile.MaxBytes)
		done <- read{b, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return f, fmt.Errorf("read the configuration: %w", r.err)
		}
		sum := sha256.Sum256(r.b)
		f = console.ConfigFile{Path: a.opts.ConfigPath, SHA256: hex.EncodeToString(sum[:]), Text: config.Redact(string(r.b))}
		f.InEffect = f.SHA256 == a.config().SHA256
		return f, nil
	case <-ctx.Done():
		return f, fmt.Errorf("the disk does not give the configuration file %s: %w", a.opts.ConfigPath, ctx.Err())
	}
}
