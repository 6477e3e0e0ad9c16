// Package console shows a running agent to the people at its box: a snapshot of
// everything (Status), the events as they are recorded, the log, the raw bytes of a
// device, and figures for Prometheus. It serves them over HTTP behind two doors: a
// socket in the spool directory for the commands of the box, and TCP for a browser.
//
// It shows and changes nothing, but for one thing: a reload of the configuration can
// be asked for. No plate, card or document number leaves it unless the configuration
// says so. The agent gives it what there is to show by the functions of Options, and
// none of them waits for a disk or a device.
package console

import (
	"context"
	"log/slog"
	"time"
)

// Bounds of the console. What a person looks at is not evidence: it is cut, dropped
// and told to be so, rather than let grow.
const (
	// KeptOccupancies and KeptPlates are how many of the last ones are shown of a device.
	KeptOccupancies = 20
	KeptPlates      = 20
	// KeptLog is how many records of the log are kept, keptLogBytes how large they may
	// be together.
	KeptLog      = 500
	keptLogBytes = 256 << 10
	// maxLogText bounds one of them.
	maxLogText = 4 << 10

	// maxWatchers is how many may have the events at a time, maxListeners how many the
	// raw bytes of one device.
	maxWatchers  = 16
	maxListeners = 16
	// watcherEvents and watcherBytes are what may wait for one who watches events,
	// listenerPieces and listenerBytes for one who listens to a device.
	watcherEvents, watcherBytes   = 256, 2 << 20
	listenerPieces, listenerBytes = 1024, 256 << 10

	// headerTimeout, requestTimeout and answerTimeout bound a request and its answer,
	// and each piece of an answer that goes on.
	headerTimeout  = 5 * time.Second
	requestTimeout = 10 * time.Second
	answerTimeout  = 30 * time.Second
	// idleTimeout is how long a connection is kept for another request.
	idleTimeout = time.Minute
	// quietEvery spaces the signs of life on an answer that goes on.
	quietEvery = 15 * time.Second
	// stopTimeout is how long the end waits for answers.
	stopTimeout = 2 * time.Second
	// maxHeader and maxBody bound a request, in bytes.
	maxHeader = 16 << 10
	maxBody   = 16 << 10
)

// Options are what the agent lends.
type Options struct {
	// SpoolDir is where the socket is made.
	SpoolDir string
	// Door is where browsers may see the console; see Follow.
	Door Settings
	// Status makes a snapshot. It does not wait for a disk or a device.
	Status func() Status
	// Config gives the configuration file as it is on disk now.
	Config func(context.Context) (ConfigFile, error)
	// Reload has the configuration read again and tells what came of it.
	Reload func(context.Context) (Reloaded, error)
	// Listen gives the raw bytes of a device, "lane/id", until Close of what it gives.
	Listen func(device string) (*Listener, error)
	// Thumbnail gives the small picture of a scanner's last scan as JPEG; nil if there is
	// none, or it may not be shown.
	Thumbnail func(device string) []byte
	// Simulator is where the simulator tells what it plays, a URL; empty if the instruments
	// are real.
	Simulator func() string
	// Events are those that are recorded.
	Events *Events
	// Logs are the last of the log.
	Logs *Logs
	// Log is where the console tells of itself.
	Log *slog.Logger
}

// ConfigFile is a configuration file without its secrets.
type ConfigFile struct {
	// Path is where it is.
	Path string `json:"path"`
	// SHA256 is the hash of the file as it is on disk now, in lower-case hexadecimal.
	SHA256 string `json:"sha256"`
	// InEffect is false if the agent runs with another content: the file was changed
	// since the last reload, or refused.
	InEffect bool `json:"in_effect"`
	// Text is the file, with *** in place of user names, passwords and secret paths.
	Text string `json:"text"`
}

// Reloaded is what came of a reload.
type Reloaded struct {
	// Applied is false if the file was refused; then the old configuration goes on.
	Applied bool `json:"applied"`
	// ConfigSHA256 is the configuration in effect.
	ConfigSHA256 string `json:"config_sha256"`
	// Problems are why it was refused, or what of it waits for the next start.
	Problems []string `json:"problems"`
}
