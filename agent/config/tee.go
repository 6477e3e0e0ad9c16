package config

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/lanepost/lanepost/agent/daily"
	"github.com/lanepost/lanepost/agent/tee"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
)

const teeExample = "tcp://127.0.0.1:1700"

// byteLinks are the links on which bytes follow each other, so that others can read
// them along.
var byteLinks = map[string]bool{"tcp": true, "serial": true}

// readTee reads where others may attach to a device's stream.
func (r *reader) readTee(n ast.Node) *tee.Settings {
	s := &tee.Settings{Clients: tee.DefaultClients}
	var listenAt ast.Node
	var allowed bool
	r.Mapping(n, "tee",
		yamlfile.Key{Name: "listen", Required: true, Read: func(n ast.Node) { s.Address, listenAt = r.teeAddress(n), n }},
		yamlfile.Key{Name: "allow", Read: func(n ast.Node) { s.Allow, allowed = r.prefixes(n, "tee.allow"), true }},
		yamlfile.Key{Name: "clients", Read: func(n ast.Node) {
			if v, ok := r.Whole(n, "tee.clients", 1, tee.MaxClients); ok {
				s.Clients = v
			}
		}},
	)
	if s.Address == "" {
		return nil
	}
	if at := netip.MustParseAddrPort(s.Address); !at.Addr().IsLoopback() && !allowed { // teeAddress has read it
		r.At(listenAt, fmt.Sprintf("anybody could connect to %s and read the device's records", s.Address),
			"name in tee.allow who may, or listen on "+teeExample)
	} else if at.Port() != 0 {
		r.unique(r.tees, s.Address, listenAt, "the tee's address "+s.Address)
	}
	return s
}

// teeAddress reads tcp://HOST:PORT.
func (r *reader) teeAddress(n ast.Node) string {
	s := r.text(n, "tee.listen")
	if s == "" {
		return ""
	}
	address, ok := strings.CutPrefix(s, "tcp://")
	at, err := netip.ParseAddrPort(strings.TrimSuffix(address, "/"))
	if !ok || err != nil {
		r.At(n, fmt.Sprintf("tee.listen: %s is no address of this box with a port", s), "write for example "+teeExample)
		return ""
	}
	return at.String()
}

// prefixes reads one address or network, or a list of them.
func (r *reader) prefixes(n ast.Node, what string) []netip.Prefix {
	var list []netip.Prefix
	one := func(n ast.Node) {
		s := r.text(n, what)
		if s == "" {
			return
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(s); err == nil {
				p = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
			}
		}
		if err != nil {
			r.At(n, fmt.Sprintf("%s: %s is neither an IP address nor a network", what, s), "write for example [10.0.3.40, 10.0.4.0/24]")
			return
		}
		list = append(list, p.Masked())
	}
	sequence, ok := n.(*ast.SequenceNode)
	if !ok {
		one(n)
		return list
	}
	r.Sequence(n, what, tee.MaxAllowed, one)
	if len(sequence.Values) == 0 {
		r.At(n, what+" is empty, and would let nobody in", "name who may attach, or take the key out")
	}
	return list
}

// checkTee refuses a tee of a link on which no bytes follow each other.
func (r *reader) checkTee(d *rawDevice, e link.Endpoint) {
	if d.tee != nil && !byteLinks[e.Scheme()] {
		r.At(d.teeAt, fmt.Sprintf("a %s: link has no stream of bytes that others could read along", e.Scheme()),
			"take tee out; it is for devices on tcp: and serial: links")
	}
}

// readDaily reads where daily files are kept.
func (r *reader) readDaily(n ast.Node) {
	s := &r.c.Daily
	*s = daily.Settings{Keep: daily.DefaultKeep, MaxBytes: daily.DefaultMaxBytes}
	r.dailyAt = n
	r.Mapping(n, "daily",
		yamlfile.Key{Name: "dir", Required: true, Read: func(n ast.Node) {
			s.Dir = r.path(n, "daily.dir")
			if st, err := os.Stat(s.Dir); err == nil && !st.IsDir() {
				r.At(n, fmt.Sprintf("daily.dir: %s is not a directory", s.Dir), "name a directory; it is made if it is not there")
			}
		}},
		yamlfile.Key{Name: "keep", Read: func(n ast.Node) { s.Keep = r.days(n, "daily.keep") }},
		yamlfile.Key{Name: "max_size", Read: func(n ast.Node) { s.MaxBytes = r.size(n, "daily.max_size", minSpool, maxSpool) }},
		yamlfile.Key{Name: "zone", Read: func(n ast.Node) {
			s.Zone = r.text(n, "daily.zone")
			if _, err := daily.Location(s.Zone); err != nil {
				r.At(n, fmt.Sprintf("daily.zone: there is no zone %q on this box", s.Zone), "write it as in the IANA database, for instance Europe/Kyiv")
			}
		}},
	)
}

// isDaily reports whether daily files can keep what a device sends.
func isDaily(d drivers.Driver, e link.Endpoint) bool { return d.Lines && byteLinks[e.Scheme()] }

// checkDaily finds devices whose files would have one name, and settings that keep
// nothing.
func (r *reader) checkDaily() {
	if r.dailyAt == nil {
		return
	}
	names := map[string]string{}
	for _, d := range r.c.devices {
		if d.Daily == "" {
			continue
		}
		if other, ok := names[d.Daily]; ok {
			r.At(r.dailyAt, fmt.Sprintf("the daily files of %s and of %s/%s would both be called %s", other, d.Lane, d.ID, d.Daily),
				"give one of the lanes or devices another id")
		}
		names[d.Daily] = d.Lane + "/" + d.ID
	}
	if len(names) == 0 {
		r.warn(r.dailyAt, "no device sends lines on a tcp: or serial: link, so there will be no daily files", "")
	}
}

// HasBytes reports whether bytes follow each other on a link, so that others can read them
// along.
func HasBytes(e link.Endpoint) bool { return byteLinks[e.Scheme()] }
