package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/drivers/registry"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
)

// Bounds of an interview.
const (
	// maxAnswer bounds a line that is typed, in bytes.
	maxAnswer = 4096
	// shownProfiles is how many profiles a search shows.
	shownProfiles = 12
	// listWidth is how wide a list is, in characters.
	listWidth = 60
	// fewPorts is how many serial ports are listed.
	fewPorts = 32
	// pathBytes is how many random bytes make a path that nobody guesses.
	pathBytes = 12
)

// asker asks questions, one line each, so that it works over any terminal and any line.
type asker struct {
	ctx context.Context
	out io.Writer
	in  *os.File
	fd  int

	typed []byte // what was read behind the line
	// mayGoBack: the answer "back" leaves what is being described.
	mayGoBack bool
}

// errBack begins a device, or the broker, from its first question again.
var errBack = errors.New("back")

func (a *asker) say(format string, values ...any) { fmt.Fprintf(a.out, format, values...) }

// refuse says why an answer won't do.
func (a *asker) refuse(format string, values ...any) {
	a.say("  "+format+"\n", values...)
}

// within runs a read that can't be broken off, and leaves it behind when the interview is
// broken off.
func (a *asker) within(read func() ([]byte, error)) ([]byte, error) {
	type line struct {
		b   []byte
		err error
	}
	done := make(chan line, 1)
	go func() {
		b, err := read()
		done <- line{b, err}
	}()
	select {
	case l := <-done:
		if l.err != nil {
			return nil, errNothingWritten // the terminal is gone, or Ctrl-D
		}
		return l.b, nil
	case <-a.ctx.Done():
		return nil, errNothingWritten
	}
}

// line reads what is typed up to the end of the line.
func (a *asker) line() (string, error) {
	b, err := a.within(func() ([]byte, error) {
		for {
			if i := bytes.IndexByte(a.typed, '\n'); i >= 0 {
				l := a.typed[:i]
				a.typed = slices.Clone(a.typed[i+1:])
				return l, nil
			}
			if len(a.typed) > maxAnswer {
				return nil, errors.New("too long")
			}
			buf := make([]byte, 1024)
			n, err := a.in.Read(buf)
			if n == 0 && err != nil {
				return nil, err
			}
			a.typed = append(a.typed, buf[:n]...)
		}
	})
	return strings.TrimSpace(string(b)), err
}

// ask asks until check has nothing against the answer. An empty answer is the fallback.
func (a *asker) ask(question, fallback string, check func(string) error) (string, error) {
	for {
		if fallback != "" {
			a.say("%s [%s]: ", question, fallback)
		} else {
			a.say("%s: ", question)
		}
		answer, err := a.line()
		if err != nil {
			return "", err
		}
		if answer == "" {
			answer = fallback
		}
		if answer == "back" && a.mayGoBack {
			return "", errBack
		}
		err = typedWell(answer)
		if err == nil && check != nil {
			err = check(answer)
		}
		if err == nil {
			return answer, nil
		}
		a.refuse("%v", err)
	}
}

// typedWell refuses what a key made that is no letter.
func typedWell(answer string) error {
	if !utf8.ValidString(answer) || strings.ContainsFunc(answer, unicode.IsControl) {
		return errors.New("there is a key in it that makes no letter (an arrow key?): type it again, backspace works")
	}
	return nil
}

func needed(answer string) error {
	if answer == "" {
		return errors.New("please type an answer, or Ctrl-C to leave")
	}
	return nil
}

func named(answer string) error {
	if !profiles.ValidName(answer) {
		return fmt.Errorf("%q can't be a name: %s", answer, profiles.NameRule)
	}
	return nil
}

// yes asks a question that is answered with yes or no.
func (a *asker) yes(question string, otherwise bool) (bool, error) {
	fallback := map[bool]string{true: "yes", false: "no"}[otherwise]
	answer, err := a.ask(question+" (yes/no)", fallback, func(s string) error {
		if !slices.Contains([]string{"y", "yes", "n", "no"}, strings.ToLower(s)) {
			return errors.New("answer yes or no")
		}
		return nil
	})
	return strings.HasPrefix(strings.ToLower(answer), "y"), err
}

// choose asks for one of a list, by its number or by itself.
func (a *asker) choose(question, fallback string, list []string) (int, error) {
	chosen := -1
	_, err := a.ask(question, fallback, func(s string) error {
		if n, err := strconv.Atoi(s); err == nil && n >= 1 && n <= len(list) {
			chosen = n - 1
			return nil
		}
		if chosen = slices.Index(list, s); chosen < 0 {
			return fmt.Errorf("type a number from 1 to %d", len(list))
		}
		return nil
	})
	return chosen, err
}

// secret asks for what must not be seen.
func (a *asker) secret(question string) (string, error) {
	for {
		a.say("%s (it is not shown): ", question)
		b, err := a.within(func() ([]byte, error) { return term.ReadPassword(a.fd) })
		a.say("\n")
		if err != nil {
			return "", err
		}
		s := string(b)
		switch {
		case s == "":
			a.refuse("please type the password, or Ctrl-C to leave")
		case typedWell(s) != nil || len(s) > maxAnswer:
			a.refuse("there is a key in it that makes no letter: type it again")
		default:
			return s, nil
		}
	}
}

// interview asks for what s lacks.
func (a *asker) interview(s *starter, noBroker bool, usualSpool string) (err error) {
	a.say("A few questions make a first configuration. Enter takes what stands in [ ],\nCtrl-C leaves and writes nothing.\n\n")
	if s.site == "" {
		if s.site, err = a.ask("Name of the crossing point, for example medyka", "", named); err != nil {
			return err
		}
	}
	if len(s.devices) == 0 {
		if err := a.lanes(s); err != nil {
			return err
		}
	}
	if len(s.brokers) == 0 && !noBroker {
		if err := a.broker(s); err != nil {
			return err
		}
	}
	if s.spoolDir == "" {
		a.say("\nEvents wait on disk until the broker has confirmed them.\n")
		if s.spoolDir, err = a.ask("Folder for them", usualSpool, func(dir string) error {
			if !filepath.IsAbs(dir) {
				return errors.New("write the path in full, beginning with /")
			}
			if info, err := os.Stat(dir); err == nil && !info.IsDir() {
				return fmt.Errorf("%s is a file: give a folder; it is made if it is not there", dir)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func (a *asker) lanes(s *starter) (err error) {
	known, err := profiles.Load("")
	if err != nil {
		return err
	}
	if s.lane == "" {
		if s.lane, err = a.ask("Name of the lane, for example entry-1", "entry-1", named); err != nil {
			return err
		}
	}
	for {
		a.mayGoBack = true
		d, err := a.device(s, known)
		a.mayGoBack = false
		if errors.Is(err, errBack) {
			continue
		}
		if err != nil {
			return err
		}
		s.devices = append(s.devices, d)
		a.say("  %s/%s: %s at %s\n", d.lane, d.id, d.profile, d.connect)
		more, err := a.yes("Another device", false)
		if err != nil || !more {
			return err
		}
	}
}

func (a *asker) device(s *starter, known *profiles.Set) (d starterDevice, err error) {
	a.say("\nDevice %d (\"back\" begins it again)\n", len(s.devices)+1)
	p, driver, err := a.profile(known)
	if err != nil {
		return d, err
	}
	d.lane, d.profile = s.lane, p.Name
	a.say("  %s: %s\n", p.Name, p.Summary)
	if n := len(p.Caveats); n > 0 {
		a.say("  (What is to be known about it will stand beside it in the file.)\n")
	}
	scheme, err := a.scheme(p, driver)
	if err != nil {
		return d, err
	}
	for {
		if err := a.connect(&d, scheme, p); err != nil {
			return d, err
		}
		// Whether it can stand is seen on a configuration that holds it.
		trial := *s
		trial.devices = append(slices.Clone(s.devices), d)
		trial.devices[len(trial.devices)-1].id = freeID(s, driver.Name)
		trial.brokers, trial.password, trial.passwordFile = nil, "", ""
		err := trial.check("lanepost.yaml")
		if err == nil {
			break
		}
		a.refuse("that does not go: %s", problems(err))
	}
	d.id, err = a.ask("Name of this device", freeID(s, driver.Name), func(id string) error {
		if err := named(id); err != nil {
			return err
		}
		if slices.ContainsFunc(s.devices, func(o starterDevice) bool { return o.lane == d.lane && o.id == id }) {
			return fmt.Errorf("%s is there already: take another name", id)
		}
		return nil
	})
	return d, err
}

// idPrefixes are what devices are called by the beginning of their driver's name.
var idPrefixes = [][2]string{
	{"tsa-environment", "env"}, {"tsa-", "rpm"}, {"aspect-", "rpm"}, {"n42-", "riid"}, {"area-", "area"}, {"xray-", "xray"},
	{"scale", "scale"}, {"llrp", "rfid"}, {"state-bus", "plc"}, {"lane-mrz", "mrz"}, {"", "anpr"},
}

// freeID is a name that no device of the lane has yet.
func freeID(s *starter, driver string) string {
	prefix := ""
	for _, one := range idPrefixes {
		if strings.HasPrefix(driver, one[0]) {
			prefix = one[1]
			break
		}
	}
	for n := 1; ; n++ {
		id := fmt.Sprintf("%s-%d", prefix, n)
		if !slices.ContainsFunc(s.devices, func(d starterDevice) bool { return d.lane == s.lane && d.id == id }) {
			return id
		}
	}
}

// profile finds a profile by words.
func (a *asker) profile(known *profiles.Set) (*profiles.Profile, drivers.Driver, error) {
	var shown []string
	for {
		answer, err := a.ask("What is it? A word to look for (portal, hikvision, scale, x-ray), or a profile's name", "", needed)
		if err != nil {
			return nil, drivers.Driver{}, err
		}
		name := answer
		// A longer one is a model's: 250.
		if n, err := strconv.Atoi(answer); err == nil && (len(answer) < 3 || n >= 1 && n <= len(shown)) {
			switch {
			case n >= 1 && n <= len(shown):
				name = shown[n-1]
			case len(shown) == 0:
				a.refuse("there is no list yet that %d could be of: type a word to look for", n)
				continue
			default:
				a.refuse("there is no number %d in the list: type 1 to %d, or another word", n, len(shown))
				continue
			}
		}
		if p, ok := known.Get(name); ok {
			driver, ok := registry.ByName(p.Driver)
			if !ok {
				a.refuse("this version has no driver for %s", name)
				continue
			}
			if _, err := driver.New(p.Decode); err != nil {
				a.refuse("%s needs settings that only the site knows (%v): add it to the file afterwards, deploy/lanepost.example.yaml shows how", name, err)
				continue
			}
			return p, driver, nil
		}
		shown = nil
		found := searchProfiles(known, answer)
		if len(found) == 0 {
			if near := yamlfile.Nearest(strings.ToLower(answer), known.Names()); near != "" {
				found = []*profiles.Profile{}
				if p, ok := known.Get(near); ok {
					found = append(found, p)
				}
			}
		}
		if len(found) == 0 {
			a.refuse("nothing is called %q: try the maker's name, or what it is (plate, radiation, weight)", answer)
			continue
		}
		for i, p := range found[:min(len(found), shownProfiles)] {
			shown = append(shown, p.Name)
			a.say("  %2d  %s\n%s", i+1, p.Name, wrapped(p.Summary, 6, listWidth))
		}
		if len(found) > shownProfiles {
			a.say("  and %d more: add a word to see fewer\n", len(found)-shownProfiles)
		}
		a.say("Type a number of these, or another word.\n")
	}
}

// alike are words that mean the same to a search.
var alike = map[string]string{"xray": "x-ray", "weight": "scale", "weighbridge": "scale", "anpr": "plate", "lpr": "plate", "passport": "travel document", "rpm": "portal", "tag": "rfid"}

// searchProfiles lists the profiles that have all the words in what describes them, those
// with them in the name first.
func searchProfiles(known *profiles.Set, text string) (found []*profiles.Profile) {
	words := strings.Fields(strings.ToLower(text))
	for i, w := range words {
		if other, ok := alike[w]; ok {
			words[i] = other
		}
	}
	for _, inName := range []bool{true, false} {
		for _, name := range known.Names() {
			p, ok := known.Get(name)
			if !ok {
				continue
			}
			about := strings.ToLower(p.Name + " " + p.Summary)
			for _, product := range p.Products {
				about += " " + strings.ToLower(product.Vendor+" "+product.Model)
			}
			if driver, ok := registry.ByName(p.Driver); ok {
				about += " " + strings.ToLower(driver.Summary)
			}
			has := func(where string) bool {
				return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(where, w) })
			}
			if has(about) && has(p.Name) == inName {
				found = append(found, p)
			}
		}
	}
	return found
}

// schemeWords say how a device is reached.
var schemeWords = map[string]string{
	"tcp":            "over the network: this box connects to it",
	"tcp-listen":     "over the network: it connects to this box",
	"serial":         "by a serial port of this box",
	"http":           "by HTTP: this box asks it",
	"https":          "by HTTPS: this box asks it",
	"http-listen":    "by HTTP: it posts to this box",
	"folder":         "by a folder into which it puts files",
	"modbus-tcp":     "by Modbus over the network",
	"modbus-rtu":     "by Modbus on a serial port of this box",
	"modbus-rtu-tcp": "by Modbus RTU behind a serial gateway",
	"opcua":          "by OPC UA",
	"mqtt":           "by an MQTT broker to which it publishes",
	"mqtts":          "by an MQTT broker, with TLS",
}

// scheme asks how the device is reached, if there are several ways.
func (a *asker) scheme(p *profiles.Profile, driver drivers.Driver) (string, error) {
	list := driver.Schemes
	if len(list) == 1 {
		return list[0], nil
	}
	usual := 0
	_, hasPort := p.Link["port"]
	_, hasData := p.Link["data"]
	for i, s := range list {
		if s == "serial" && hasData && !hasPort || s == "tcp" && hasPort {
			usual = i
		}
	}
	a.say("How is it connected?\n")
	for i, s := range list {
		a.say("  %2d  %s\n", i+1, schemeWords[s])
	}
	i, err := a.choose("Number", strconv.Itoa(usual+1), list)
	if err != nil {
		return "", err
	}
	return list[i], nil
}

// connect asks for what a connect URL of a scheme is made of.
func (a *asker) connect(d *starterDevice, scheme string, p *profiles.Profile) (err error) {
	d.beside, d.password = nil, ""
	switch scheme {
	case "serial", "modbus-rtu":
		port, err := a.serialPort()
		if err != nil {
			return err
		}
		line, err := a.lineSettings(p)
		d.connect = scheme + ":" + port + line
		return err
	case "tcp", "modbus-tcp", "modbus-rtu-tcp", "opcua":
		usual := map[string]string{"tcp": p.Link["port"], "modbus-tcp": "502", "opcua": "4840"}[scheme]
		address, err := a.address("Its address, for example 10.0.3.21", usual)
		d.connect = scheme + "://" + address
		return err
	case "tcp-listen":
		port, err := a.ask("Port of this box to which it connects", p.Link["port"], aPort)
		if err != nil {
			return err
		}
		d.connect = "tcp-listen://0.0.0.0:" + port
		return a.allow(d)
	case "http-listen":
		port, err := a.ask("Port of this box to which it posts", "8080", aPort)
		if err != nil {
			return err
		}
		random := make([]byte, pathBytes)
		if _, err := rand.Read(random); err != nil {
			return err
		}
		d.connect = fmt.Sprintf("http-listen://0.0.0.0:%s/%s", port, hex.EncodeToString(random))
		a.say("  It must post to http://THIS-BOX:%s/%s (a path that nobody guesses).\n", port, hex.EncodeToString(random))
		return a.allow(d)
	case "http", "https":
		usual := p.Link["port"]
		if usual == "" {
			usual = map[string]string{"http": "80", "https": "443"}[scheme]
		}
		address, err := a.address("Its address, for example 10.0.3.31", usual)
		if err != nil {
			return err
		}
		d.connect = scheme + "://" + strings.TrimSuffix(address, ":"+usual)
		return a.login(d)
	case "folder":
		dir, err := a.ask("The folder, for example /mnt/xray", "", func(s string) error {
			if !filepath.IsAbs(s) {
				return errors.New("write the path in full, beginning with /")
			}
			return nil
		})
		if err != nil {
			return err
		}
		d.connect = "folder:" + (&url.URL{Path: dir}).EscapedPath()
		share, err := a.yes("Is it a share of another machine that is mounted there", true)
		if share {
			d.connect += "?mounted=yes"
		}
		return err
	}
	d.connect, err = a.ask("Its connect URL, beginning with "+scheme+"://", "", func(s string) error {
		if !strings.HasPrefix(s, scheme+":") {
			return fmt.Errorf("it begins with %s://", scheme)
		}
		return nil
	})
	return err
}

// address asks for a host and its port.
func (a *asker) address(question, usual string) (string, error) {
	if usual != "" {
		question += " (port " + usual + " unless you add another, as in 10.0.3.21:1234)"
	} else {
		question += ":1234, with its port"
	}
	full := ""
	_, err := a.ask(question, "", func(s string) error {
		if err := needed(s); err != nil {
			return err
		}
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			host, port = strings.Trim(s, "[]"), usual
		}
		switch {
		case strings.ContainsAny(s, "/? "):
			return errors.New("only the address, without anything before or behind it")
		case host == "":
			return errors.New("the address is missing before the port")
		case port == "":
			return errors.New("the port is missing: it is in the device's manual, and written behind the address with a colon")
		}
		if err := aPort(port); err != nil {
			return err
		}
		full = net.JoinHostPort(host, port)
		return nil
	})
	return full, err
}

func aPort(s string) error {
	if n, err := strconv.Atoi(s); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%q is no port: a port is a number from 1 to 65535", s)
	}
	return nil
}

// allow asks from where a device sends.
func (a *asker) allow(d *starterDevice) error {
	from, err := a.ask("The device's own address (others are then refused; empty: any)", "", nil)
	if from != "" {
		d.beside = append(d.beside, [2]string{"allow", from})
	}
	return err
}

// login asks for a device's user name and password.
func (a *asker) login(d *starterDevice) error {
	name, err := a.ask("User name at the device (empty: none)", "", nil)
	if err != nil || name == "" {
		return err
	}
	d.beside = append(d.beside, [2]string{"username", name})
	d.password, err = a.secret("Password")
	return err
}

// serialPort lists the serial ports and asks for one.
func (a *asker) serialPort() (string, error) {
	ports, err := link.Ports()
	if err != nil {
		a.refuse("the serial ports can't be listed: %v", err)
	}
	ports = ports[:min(len(ports), fewPorts)]
	question := "Serial port, its number or its path"
	if len(ports) == 0 {
		a.say("  No serial port is there now. Plug the adapter in and press Enter to look again,\n  or type the port's path.\n")
		question = "Serial port"
	}
	for i, p := range ports {
		about := strings.TrimSpace(p.Manufacturer + " " + p.Product)
		if p.Console {
			about += " (" + p.Problem + ")"
		}
		if len(p.Users) > 0 {
			about += " (open in " + strings.Join(p.Users, ", ") + ")"
		}
		a.say("  %2d  %s  %s\n", i+1, p.Stable(), about)
	}
	answer, err := a.ask(question, "", func(s string) error {
		if n, err := strconv.Atoi(s); err == nil {
			if n < 1 || n > len(ports) {
				return fmt.Errorf("there is no number %d in the list", n)
			}
			return nil
		}
		if s == "" && len(ports) == 0 {
			return nil
		}
		if !strings.HasPrefix(s, "/dev/") {
			return errors.New("type a number of the list, or a path that begins with /dev/")
		}
		if _, err := os.Stat(s); err != nil {
			a.refuse("note: %s is not there now", s)
		}
		return nil
	})
	switch n, number := strconv.Atoi(answer); {
	case err != nil:
		return "", err
	case answer == "":
		return a.serialPort()
	case number == nil:
		return ports[n-1].Stable(), nil
	}
	return answer, nil
}

// lineForm is how the trade writes the settings of a line: 9600 8N1.
var lineForm = regexp.MustCompile(`^([0-9]{2,7})[ ,/]*([5-8])([NOEMSnoems])([12])$`)

var parityWords = map[string]string{"N": "none", "O": "odd", "E": "even", "M": "mark", "S": "space"}

// lineSettings asks for the settings of a serial line and gives them as options, as far as
// the profile does not say them.
func (a *asker) lineSettings(p *profiles.Profile) (string, error) {
	usual := ""
	if p.Link["baud"] != "" && p.Link["parity"] != "" {
		usual = fmt.Sprintf("%s %s%s%s", p.Link["baud"], cmp.Or(p.Link["data"], "8"), strings.ToUpper(p.Link["parity"][:1]), cmp.Or(p.Link["stop"], "1"))
	}
	answer, err := a.ask("Line settings as in the device's manual, for example 9600 8N1 or 19200 8O1", usual, func(s string) error {
		if !lineForm.MatchString(s) {
			return errors.New("write the speed, the data bits, the parity (N, O or E) and the stop bits: 9600 8N1")
		}
		return nil
	})
	if err != nil || answer == usual {
		return "", err
	}
	m := lineForm.FindStringSubmatch(answer)
	options := fmt.Sprintf("?baud=%s&parity=%s", m[1], parityWords[strings.ToUpper(m[3])])
	if m[2] != cmp.Or(p.Link["data"], "8") {
		options += "&data=" + m[2]
	}
	if m[4] != cmp.Or(p.Link["stop"], "1") {
		options += "&stop=" + m[4]
	}
	return options, nil
}

// broker asks where events go.
func (a *asker) broker(s *starter) error {
	a.say("\nThe MQTT broker gets the events.\n")
	for {
		if err := a.brokerAddress(s); err != nil {
			return err
		}
		if len(s.brokers) == 0 {
			a.say("  Events stay on this box until a broker is set.\n")
			return nil
		}
		if strings.HasPrefix(s.brokers[0], "tls:") && s.caFile == "" {
			ca, err := a.ask("File with the certificate of its authority (empty: a public one that this system knows)", "", func(path string) error {
				if path == "" {
					return nil
				}
				if !filepath.IsAbs(path) {
					return errors.New("write the path in full, beginning with /")
				}
				trial := starter{site: s.site, devices: s.devices, brokers: s.brokers, caFile: path}
				return worded(trial.check("lanepost.yaml"))
			})
			if err != nil {
				return err
			}
			s.caFile = ca
		}
		err := s.check("lanepost.yaml")
		if err == nil {
			break
		}
		a.refuse("that does not go: %s", problems(err))
		s.brokers, s.caFile = nil, ""
	}
	if s.username == "" {
		name, err := a.ask("User name at the broker (empty: none)", "", nil)
		if err != nil {
			return err
		}
		s.username = name
	}
	if s.username == "" || s.passwordFile != "" {
		return nil
	}
	var err error
	s.password, err = a.secret("Password of " + s.username)
	return err
}

func worded(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(problems(err))
}

// inClear reports whether a broker is most likely spoken to without TLS: on this box, or by the
// port for that.
func inClear(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
	}
	return port == "1883" || host == "localhost" || net.ParseIP(host).IsLoopback()
}

func (a *asker) brokerAddress(s *starter) error {
	answer, err := a.ask("Its address, for example mqtt.example (empty: none yet)", "", func(text string) error {
		if strings.ContainsAny(text, " @") {
			return errors.New("only the address; user name and password are asked for later")
		}
		return nil
	})
	if err != nil || answer == "" {
		return err
	}
	if !strings.Contains(answer, "://") {
		secure, err := a.yes("Does it use TLS", !inClear(answer))
		if err != nil {
			return err
		}
		answer = map[bool]string{true: "tls://", false: "tcp://"}[secure] + answer
	}
	u, err := url.Parse(answer)
	if err == nil && u.Port() == "" {
		if port, ok := map[string]string{"tls": "8883", "tcp": "1883"}[u.Scheme]; ok {
			u.Host += ":" + port
			answer = u.String()
		}
	}
	s.brokers = []string{answer}
	return nil
}
