package config

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
)

// How the console shows number plates.
const (
	// PlatesNone: not at all.
	PlatesNone = "none"
	// PlatesMasked: the first and the last character.
	PlatesMasked = "masked"
	// PlatesPseudonym: the first digits of the pseudonym.
	PlatesPseudonym = "pseudonym"
	// PlatesFull: as they are.
	PlatesFull = "full"
)

// Console says what is shown of the running agent, and to whom.
type Console struct {
	// Door is where it is shown to browsers.
	Door console.Settings
	// Plates is how number plates are shown.
	Plates string
	// Pictures says that small pictures of X-ray scans may be shown, on which a plate may
	// be read.
	Pictures bool
	// Simulator is where a simulator tells what it plays, a URL on this box; empty if the
	// instruments are real.
	Simulator string
}

var defaultConsole = Console{Door: console.Settings{Listen: console.DefaultListen, Default: true}, Plates: PlatesMasked}

// doorMend says what a door for others than this box needs.
const doorMend = `add tls: {cert_file: ..., key_file: ...} and users_file: FILE, with a line in it for each user as "lanepost console password NAME" makes it; or listen on ` +
	console.DefaultListen + " and come by SSH"

func (r *reader) readConsole(n ast.Node) {
	c := &r.c.Console
	var listenAt, tlsAt, usersAt ast.Node
	r.Mapping(n, "console",
		yamlfile.Key{Name: "listen", Read: func(n ast.Node) { c.Door.Listen, listenAt = r.doorAddress(n), n }},
		yamlfile.Key{Name: "tls", Read: func(n ast.Node) {
			tlsAt = n
			c.Door.CertFile, c.Door.KeyFile = r.serverCertificate(n, "console.tls")
		}},
		yamlfile.Key{Name: "users_file", Read: func(n ast.Node) {
			var b []byte
			if c.Door.UsersFile, b = r.file(n, "console.users_file", console.MaxUsersFile); b != nil {
				if err := console.CheckUsers(b); err != nil {
					text, hint, _ := strings.Cut(err.Error(), "; ")
					r.At(n, "console.users_file: "+text, hint)
				}
			}
			usersAt = n
		}},
		yamlfile.Key{Name: "users", Instead: "users don't belong in this file: write them to a file of their own and name that with users_file"},
		yamlfile.Key{Name: "plates", Read: func(n ast.Node) {
			c.Plates = r.oneOf(n, "console.plates", PlatesNone, PlatesMasked, PlatesPseudonym, PlatesFull)
			if c.Plates == PlatesPseudonym {
				r.checks = append(r.checks, func() {
					if r.c.Plates.PseudonymKeyFile == "" {
						r.At(n, "console.plates is pseudonym, and no pseudonyms are made", "set plates.pseudonym_key_file, or show plates masked")
					}
				})
			}
		}},
		yamlfile.Key{Name: "pictures", Read: func(n ast.Node) {
			c.Pictures = r.oneOf(n, "console.pictures", "none", "thumbnails") == "thumbnails"
		}},
		yamlfile.Key{Name: "simulator", Read: func(n ast.Node) { c.Simulator = r.simulator(n) }},
	)
	c.Door.Default = listenAt == nil
	switch open := listenAt != nil && c.Door.Listen != "" && !c.Door.Loopback(); {
	case open && (tlsAt == nil || usersAt == nil):
		r.At(listenAt, fmt.Sprintf("anybody who reaches %s could see this agent", c.Door.Listen), doorMend)
	case tlsAt == nil && usersAt != nil:
		r.At(usersAt, "console.users_file without tls: passwords would go over the line as they are", "add tls: {cert_file: ..., key_file: ...}")
	case tlsAt != nil && usersAt == nil:
		r.At(tlsAt, "console.tls without users_file: who may log in is not said", `add users_file: FILE, with a line in it for each user as "lanepost console password NAME" makes it`)
	}
}

// doorAddress reads HOST:PORT, or off.
func (r *reader) doorAddress(n ast.Node) string {
	s := r.text(n, "console.listen")
	if s == "" || s == "off" {
		return ""
	}
	at, err := netip.ParseAddrPort(strings.Replace(s, "localhost:", "127.0.0.1:", 1))
	if err != nil || at.Port() == 0 || at.Addr().Zone() != "" {
		r.At(n, fmt.Sprintf("console.listen: %s is no address of this box with a port", s), "write for example "+console.DefaultListen+", or off")
		return ""
	}
	return at.String()
}

// simulator reads where a simulator on this box tells what it plays.
func (r *reader) simulator(n ast.Node) string {
	s := r.text(n, "console.simulator")
	host, isHTTP := strings.CutPrefix(s, "http://")
	if at, err := netip.ParseAddrPort(host); s != "" && (!isHTTP || err != nil || !at.Addr().Unmap().IsLoopback() || at.Port() == 0) {
		r.At(n, "console.simulator is no address of a simulator on this box", "write for example http://127.0.0.1:7490, where lanesim run --tell 127.0.0.1:7490 tells; take the key out if the instruments are real")
		return ""
	}
	return s
}

// serverCertificate reads the files of a certificate and its key that a server shows.
func (r *reader) serverCertificate(n ast.Node, what string) (certFile, keyFile string) {
	var cert, key []byte
	r.Mapping(n, what,
		yamlfile.Key{Name: "cert_file", Required: true, Read: func(n ast.Node) { certFile, cert = r.file(n, what+".cert_file", maxPEM) }},
		yamlfile.Key{Name: "key_file", Required: true, Read: func(n ast.Node) { keyFile, key = r.file(n, what+".key_file", maxPEM) }},
	)
	if cert == nil || key == nil {
		return certFile, keyFile
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		r.At(n, fmt.Sprintf("%s and %s are no certificate and its key: %s", certFile, keyFile, strings.TrimPrefix(err.Error(), "tls: ")),
			"both are in PEM, the certificate with those between it and its authority behind it")
	}
	return certFile, keyFile
}
