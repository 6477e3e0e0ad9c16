package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/drivers/registry"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
)

// Modes of what init writes: the agent's group may read.
const (
	configMode = 0o640
	folderMode = 0o750
)

// starter is a configuration to be written.
type starter struct {
	site, lane string
	devices    []starterDevice
	brokers    []string

	caFile, certFile, keyFile string
	username, passwordFile    string
	spoolDir                  string
	// password was asked for, and is to be written to a file of its own.
	password string
}

type starterDevice struct {
	lane, id, profile, connect string
	beside                     [][2]string
	password                   string // as in starter
}

// yaml is the configuration. passwordFile says where a password is found.
func (s *starter) yaml(passwordFile func(name string) string) []byte {
	var b strings.Builder
	line := func(indent int, format string, values ...any) {
		b.WriteString(strings.Repeat(" ", indent))
		fmt.Fprintf(&b, format, values...)
		b.WriteByte('\n')
	}
	line(0, "# Configuration of lanepost. `lanepost check` says whether it is right and everything")
	line(0, "# answers; after a change `systemctl reload lanepost` takes it up. Indent with spaces.")
	line(0, "")
	line(0, "# The crossing point. It begins the source of every event.")
	line(0, "site: %s", scalar(s.site))
	line(0, "")
	line(0, "lanes:")
	known, err := profiles.Load("")
	for _, lane := range s.lanes() {
		line(2, "- id: %s", scalar(lane))
		line(4, "devices:")
		for _, d := range s.devices {
			if d.lane != lane {
				continue
			}
			silence := ""
			if err == nil {
				if p, ok := known.Get(d.profile); ok {
					silence = silenceOf(p)
					for _, text := range append([]string{p.Summary}, caveats(p)...) {
						comment(&b, 6, text)
					}
				}
			}
			line(6, "- id: %s", scalar(d.id))
			line(8, "profile: %s", scalar(d.profile))
			line(8, "connect: %s", scalar(d.connect))
			for _, pair := range d.beside {
				line(8, "%s: %s", pair[0], scalar(pair[1]))
			}
			if d.password != "" {
				line(8, "password_file: %s", scalar(passwordFile(d.lane+"."+d.id)))
			}
			if silence != "" {
				line(8, "# How long it may stay without a valid record before it counts as silent, unless set:")
				line(8, "# silence: %s", silence)
			}
		}
	}
	line(0, "")
	s.uplink(&b, line, passwordFile)
	line(0, "# Where events are kept until the broker has confirmed them.")
	line(0, "spool:")
	line(2, "dir: %s", scalar(s.spool()))
	line(0, "")
	line(0, "# log:")
	line(0, "#   level: info   # debug, info, warn, error")
	return []byte(b.String())
}

func (s *starter) uplink(b *strings.Builder, line func(int, string, ...any), passwordFile func(string) string) {
	if len(s.brokers) == 0 {
		line(0, "# Without this section events stay on this box. They are sent when there is one.")
		line(0, "# mqtt:")
		line(0, "#   brokers: [tls://mqtt.example:8883]")
		line(0, "")
		return
	}
	line(0, "# Where events go.")
	line(0, "mqtt:")
	if len(s.brokers) > 1 {
		line(2, "# Tried in turn.")
	}
	line(2, "brokers:")
	for _, broker := range s.brokers {
		line(4, "- %s", scalar(broker))
	}
	password := s.passwordFile
	if s.password != "" {
		password = passwordFile("mqtt")
	}
	for _, pair := range [][2]string{
		{"username", s.username}, {"password_file", password},
		{"ca_file", s.caFile}, {"cert_file", s.certFile}, {"key_file", s.keyFile},
	} {
		if pair[1] != "" {
			line(2, "%s: %s", pair[0], scalar(pair[1]))
		}
	}
	line(0, "")
}

// silenceOf is the silence limit of a device that sets none; empty if it is not known.
func silenceOf(p *profiles.Profile) string {
	limit := p.Silence
	if driver, ok := registry.ByName(p.Driver); ok && limit == 0 {
		limit = driver.Silence
	}
	if limit == 0 {
		return ""
	}
	text := limit.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	return text
}

func caveats(p *profiles.Profile) (list []string) {
	for _, c := range p.Caveats {
		list = append(list, c.Text)
	}
	return list
}

// commentWidth is how wide a comment is, in characters.
const commentWidth = 100

func comment(b *strings.Builder, indent int, text string) {
	for l := range strings.Lines(wrapped(text, 0, commentWidth-indent)) {
		b.WriteString(strings.Repeat(" ", indent) + "# " + l)
	}
}

// lanes are those of the devices, in their order.
func (s *starter) lanes() (list []string) {
	for _, d := range s.devices {
		if !slices.Contains(list, d.lane) {
			list = append(list, d.lane)
		}
	}
	return list
}

func (s *starter) spool() string {
	return cmp.Or(s.spoolDir, defaultSpool)
}

// plain is what needs no quotes in YAML wherever it stands.
var plain = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./:?&=@%+~-]*$`)

// scalar writes a text so that YAML reads the same text.
func scalar(text string) string {
	switch strings.ToLower(text) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		return strconv.Quote(text)
	}
	if plain.MatchString(text) && !strings.HasSuffix(text, ":") {
		return text
	}
	return strconv.Quote(text)
}

// secrets are the passwords that were asked for, by the names of their files.
func (s *starter) secrets() (names, passwords []string) {
	if s.password != "" {
		names, passwords = append(names, "mqtt"), append(passwords, s.password)
	}
	for _, d := range s.devices {
		if d.password != "" {
			names, passwords = append(names, d.lane+"."+d.id), append(passwords, d.password)
		}
	}
	return names, passwords
}

func secretFile(path, name string) string { return filepath.Join(filepath.Dir(path), name+".password") }

func (s *starter) secretFiles(path string) (list []string) {
	names, _ := s.secrets()
	for _, n := range names {
		list = append(list, secretFile(path, n))
	}
	return list
}

// check says whether the configuration is valid. Passwords that are in no file yet are
// taken as good.
func (s *starter) check(path string) error {
	without := *s
	if without.password != "" {
		without.password, without.username = "", ""
	}
	without.devices = slices.Clone(s.devices)
	for i := range without.devices {
		if d := &without.devices[i]; d.password != "" {
			d.password = ""
			d.beside = slices.DeleteFunc(slices.Clone(d.beside), func(p [2]string) bool { return p[0] == "username" })
		}
	}
	_, err := config.Parse(path, without.yaml(nil))
	return err
}

// write writes the configuration and its passwords: all of it, or nothing.
func (s *starter) write(path string, replace, overSecrets bool) (err error) {
	if err := s.check(path); err != nil {
		return fmt.Errorf("that would be no valid configuration, so nothing was written: %s", problems(err))
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return fmt.Errorf("make the folder of the configuration: %w", err)
	}
	group := agentGroup()
	var drafts []string
	defer func() {
		for _, d := range drafts {
			err = errors.Join(err, gone(d))
		}
	}()
	draft := func(content []byte) (string, error) {
		f, err := os.CreateTemp(dir, ".lanepost-init-*")
		if err != nil {
			return "", fmt.Errorf("write to %s: %w", dir, err)
		}
		drafts = append(drafts, f.Name())
		_, err = f.Write(content)
		if group >= 0 {
			// Before the mode: nobody else may read it in between.
			err = errors.Join(err, f.Chown(-1, group))
		}
		return f.Name(), errors.Join(err, f.Chmod(configMode), f.Sync(), f.Close())
	}
	names, passwords := s.secrets()
	kept := map[string]string{}
	for i, name := range names {
		to := secretFile(path, name)
		if _, err := os.Lstat(to); err == nil && !overSecrets {
			return fmt.Errorf("%s is there already and stays as it is: take it away, or give --force to replace it", to)
		}
		if kept[name], err = draft([]byte(passwords[i] + "\n")); err != nil {
			return err
		}
	}
	// What is written is what was found valid, but for the passwords' names.
	if _, err := config.Parse(path, s.yaml(func(name string) string { return kept[name] })); err != nil {
		return fmt.Errorf("that would be no valid configuration, so nothing was written: %s", problems(err))
	}
	text, err := draft(s.yaml(func(name string) string { return secretFile(path, name) }))
	if err != nil {
		return err
	}
	// The old one stays in its place until the new one takes it.
	if _, err := os.Lstat(path); err == nil && replace {
		if err := errors.Join(gone(path+".old"), os.Link(path, path+".old")); err != nil {
			return fmt.Errorf("keep the old configuration: %w", err)
		}
	}
	for _, name := range names {
		if err := os.Rename(kept[name], secretFile(path, name)); err != nil {
			return fmt.Errorf("write a password: %w", err)
		}
	}
	place := os.Link // which writes over nothing
	if replace {
		place = os.Rename
	}
	if err := place(text, path); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return syncFolder(dir)
}

// gone takes a file away that may be there.
func gone(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncFolder brings the new names to disk.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// agentGroup is the group that may read what root writes; -1 for none.
func agentGroup() int {
	if os.Geteuid() != 0 {
		return -1
	}
	g, err := user.LookupGroup(serviceUser)
	if err != nil {
		return -1
	}
	id, err := strconv.Atoi(g.Gid)
	if err != nil {
		return -1
	}
	return id
}
