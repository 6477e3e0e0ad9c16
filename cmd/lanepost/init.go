package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lanepost/lanepost/agent/config"
)

// initOptions are what the command line says of a new configuration.
type initOptions struct {
	path  string
	force bool

	site, lane string
	devices    []string
	brokers    []string
	noBroker   bool

	caFile, certFile, keyFile string
	username, passwordFile    string
	spoolDir                  string
}

func initCommand() *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a first configuration, by a few questions or from flags",
		Long: "init writes a configuration with comments in it. On a terminal it asks for what\n" +
			"the flags leave open; without one, or if the flags say it all, it asks nothing:\n\n" +
			"  lanepost init --site medyka --lane entry-3 \\\n" +
			"    --device id=rpm-1,profile=rapiscan-tsa,connect=tcp://10.0.3.21 \\\n" +
			"    --device 'id=rpm-2,profile=rapiscan-tsa-serial,connect=serial:/dev/ttyUSB0?baud=19200&parity=odd' \\\n" +
			"    --broker tls://mqtt.example --ca-file /etc/lanepost/ca.pem \\\n" +
			"    --username lane-3 --password-file /etc/lanepost/mqtt.password\n\n" +
			"What it writes is valid, or it writes nothing. A password that it asks for is\n" +
			"not shown and stands in a file of its own. A file that is there is kept unless\n" +
			"--force is given; one that names neither a lane nor a broker yet, as the package\n" +
			"brings it, is replaced and kept with .old at its end. Nothing is connected to:\n" +
			"lanepost check does that.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return initialise(cmd.Context(), cmd.OutOrStdout(), o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.path, "config", "c", defaultConfig, "configuration file to write")
	f.BoolVar(&o.force, "force", false, "write over a configuration that is there; the old one is kept beside it with .old at its end")
	f.StringVar(&o.site, "site", "", "the crossing point, for example medyka")
	f.StringVar(&o.lane, "lane", "", "the lane, for example entry-3")
	f.StringArrayVar(&o.devices, "device", nil, "a device: id=...,profile=...,connect=... and any other of its keys; lane=... if it is in another lane (repeatable)")
	f.StringArrayVar(&o.brokers, "broker", nil, "URL of the MQTT broker, for example tls://mqtt.example:8883 (repeatable: tried in turn)")
	f.BoolVar(&o.noBroker, "no-broker", false, "no broker yet: events stay on this box")
	f.StringVar(&o.caFile, "ca-file", "", "certificate of the authority that signed the broker's, if the system does not know it")
	f.StringVar(&o.certFile, "cert-file", "", "client certificate, if the broker wants one")
	f.StringVar(&o.keyFile, "key-file", "", "key of the client certificate")
	f.StringVar(&o.username, "username", "", "user name at the broker")
	f.StringVar(&o.passwordFile, "password-file", "", "file that holds the password")
	f.StringVar(&o.spoolDir, "spool-dir", "", "directory in which events are kept (default "+defaultSpool+"; for who may not write there, the folder spool beside the configuration)")
	return cmd
}

// defaultSpool is where a package keeps events.
const defaultSpool = "/var/lib/lanepost"

// spoolFor is where events are kept unless it is said otherwise: in the package's directory, or
// beside the configuration for a user who could not make that.
func spoolFor(path string) string {
	if os.Geteuid() == 0 || tryWrite(defaultSpool) == nil {
		return defaultSpool
	}
	return filepath.Join(filepath.Dir(path), "spool")
}

// errNothingWritten ends an init that was broken off.
var errNothingWritten = errors.New("nothing was written")

func initialise(ctx context.Context, out io.Writer, o initOptions) error {
	if o.noBroker && len(o.brokers) > 0 {
		return usageError{errors.New("--broker and --no-broker can't be together")}
	}
	path, err := filepath.Abs(o.path)
	if err != nil {
		return err
	}
	o.path = path
	if _, err := os.Lstat(o.path); err == nil && !o.force && !replaceable(o.path) {
		return fmt.Errorf("%s is there already and stays as it is: edit it, or give --force to replace it (it is then kept as %s.old)", o.path, o.path)
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s, err := o.starter()
	if err != nil {
		return usageError{err}
	}
	if err := writableFolder(filepath.Dir(o.path)); err != nil {
		return err
	}
	usualSpool := spoolFor(o.path)
	missing := s.missing(o.noBroker)
	switch {
	case len(missing) == 0:
	case !onTerminal(os.Stdin):
		return usageError{fmt.Errorf("this is no terminal to ask questions on, and there is no %s", strings.Join(missing, ", no "))}
	default:
		if err := askOnTerminal(ctx, os.Stdin, out, func(a *asker) error { return a.interview(s, o.noBroker, usualSpool) }); err != nil {
			if errors.Is(err, errNothingWritten) {
				fmt.Fprintln(out)
			}
			return err
		}
	}
	s.spoolDir = cmp.Or(s.spoolDir, usualSpool)
	// Files that the shell would have found.
	for _, f := range []*string{&s.caFile, &s.certFile, &s.keyFile, &s.passwordFile} {
		if *f != "" {
			if *f, err = filepath.Abs(*f); err != nil {
				return err
			}
		}
	}
	// Asked once more: it may have been edited while questions were answered.
	replaced := !o.force && replaceable(o.path)
	if err := s.write(o.path, o.force || replaced, o.force); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nWritten: %s\n", o.path)
	if replaced {
		fmt.Fprintf(out, "         %s.old is what was there; it named neither a lane nor a broker\n", o.path)
	}
	for _, f := range s.secretFiles(o.path) {
		fmt.Fprintf(out, "         %s, with the password\n", f)
	}
	run := "lanepost run"
	if o.path != defaultConfig {
		run += " --config " + o.path
	}
	checkIt := strings.Replace(run, " run", " check", 1)
	if os.Geteuid() == 0 && o.path == defaultConfig && len(serviceProperties()) > 0 {
		run = "systemctl enable --now lanepost"
		if replaced {
			// The package's service runs already and waits for a configuration.
			run = "systemctl reload-or-restart lanepost"
		}
	}
	fmt.Fprintf(out, "\nNow see whether everything answers, and then start it:\n\n  %s\n  %s\n", checkIt, run)
	return nil
}

// replaceable reports whether a configuration is like the one that a package brings:
// valid, with neither a lane nor a broker. One that would push an older file from its
// place as .old is not.
func replaceable(path string) bool {
	if _, err := os.Lstat(path + ".old"); !errors.Is(err, os.ErrNotExist) {
		return false
	}
	cfg, err := config.Load(path)
	return err == nil && cfg.Blank()
}

// starter makes what the flags say.
func (o *initOptions) starter() (*starter, error) {
	s := &starter{
		site: o.site, brokers: slices.Clone(o.brokers), caFile: o.caFile, certFile: o.certFile, keyFile: o.keyFile,
		username: o.username, passwordFile: o.passwordFile, spoolDir: o.spoolDir, lane: o.lane,
	}
	for _, text := range o.devices {
		d, err := parseDevice(text, o.lane)
		if err != nil {
			return nil, fmt.Errorf("--device %s: %w", text, err)
		}
		s.devices = append(s.devices, d)
		if s.lane == "" {
			s.lane = d.lane
		}
	}
	return s, nil
}

// parseDevice reads a device of the command line. A comma that no key follows belongs to
// the value before it.
func parseDevice(text, lane string) (starterDevice, error) {
	d := starterDevice{lane: lane}
	var keys, values []string
	for _, piece := range strings.Split(text, ",") {
		key, value, ok := strings.Cut(piece, "=")
		if ok && isKey(key) {
			keys, values = append(keys, key), append(values, value)
			continue
		}
		if len(values) == 0 {
			return d, fmt.Errorf("%q is not key=value; write for example id=rpm-1,profile=rapiscan-tsa,connect=tcp://10.0.3.21", piece)
		}
		values[len(values)-1] += "," + piece
	}
	for i, key := range keys {
		switch key {
		case "id":
			d.id = values[i]
		case "lane":
			d.lane = values[i]
		case "profile":
			d.profile = values[i]
		case "connect":
			d.connect = values[i]
		default:
			d.beside = append(d.beside, [2]string{key, values[i]})
		}
	}
	for _, one := range []struct{ key, value string }{{"id", d.id}, {"profile", d.profile}, {"connect", d.connect}, {"lane", d.lane}} {
		if one.value == "" {
			more := ""
			if one.key == "lane" {
				more = " (or give --lane)"
			}
			return d, fmt.Errorf("it has no %s=...%s", one.key, more)
		}
	}
	return d, nil
}

func isKey(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}

// missing names the flags that a configuration still needs.
func (s *starter) missing(noBroker bool) (flags []string) {
	for _, one := range []struct {
		flag  string
		there bool
	}{
		{"--site", s.site != ""}, {"--lane", s.lane != ""}, {"--device", len(s.devices) > 0},
		{"--broker (or --no-broker)", len(s.brokers) > 0 || noBroker},
	} {
		if !one.there {
			flags = append(flags, one.flag)
		}
	}
	return flags
}

// writableFolder finds out before any question whether the answers could be written.
func writableFolder(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil // it is made
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory; give another file with --config", dir)
	}
	if err := tryWrite(dir); err != nil {
		return fmt.Errorf("can't write to %s: %s; run it as root (sudo lanepost init), or give another file with --config", dir, reason(err))
	}
	return nil
}

// askOnTerminal has questions asked on a terminal. However it ends, the terminal is as it was.
func askOnTerminal(ctx context.Context, in *os.File, out io.Writer, ask func(*asker) error) (err error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	fd := int(in.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return fmt.Errorf("ask on this terminal: %w", err)
	}
	defer func() {
		if restored := term.Restore(fd, state); restored != nil && err == nil {
			err = fmt.Errorf("the terminal: %w", restored)
		}
	}()
	return ask(&asker{ctx: ctx, out: out, in: in, fd: fd})
}

// problems are what config.Parse says of a text that is in no file yet: without places.
func problems(err error) string {
	var list []string
	for _, line := range config.Lines(err) {
		if _, rest, ok := strings.Cut(line, ": "); ok && strings.Contains(line[:len(line)-len(rest)], ".yaml:") {
			line = rest
		}
		list = append(list, strings.Replace(line, "; hint: ", ": ", 1))
	}
	return strings.Join(list, "; ")
}
