package config

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"

	"github.com/lanepost/lanepost/agent/uplink"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
	"github.com/lanepost/lanepost/protocol/event"
)

// MQTT is an uplink: where events go. It holds no secret, only where to find it.
type MQTT struct {
	// Name tells the uplinks apart, "mqtt" if the file gives none. What is
	// delivered is remembered under it.
	Name string
	// Brokers are URLs, to be tried in turn.
	Brokers  []string
	ClientID string // empty for one made of the agent's id
	// Of each pair one at most is set.
	Username, UsernameFile                string
	PasswordFile, PasswordEnv             string
	CAFile, CertFile, KeyFile, ServerName string
	// ALPN are the protocols to offer in the TLS handshake.
	ALPN []string
	// Window is how many messages may be under way; zero for the default.
	Window int
	// MaxPacket is the largest message that the broker takes, in bytes; zero if
	// that is not known.
	MaxPacket int
	// Only says which events go this way.
	Only Only
	// TopicPrefix is put before each topic, with no slash at its end; empty for
	// none.
	TopicPrefix string
	// Redact takes out what is personal.
	Redact bool
	// Requests are the commands that are taken from the broker; none if empty.
	Requests []string
}

// Only chooses events. What is empty chooses everything.
type Only struct {
	Lanes []string
	// Types are patterns as of path.Match for the types of events, without their
	// version: "lanepost.radiation.*".
	Types   []string
	Classes []event.Class
}

// Equal reports whether two say the same; nil is no uplink.
func (m *MQTT) Equal(o *MQTT) bool { return reflect.DeepEqual(m, o) }

// DefaultUplink is the name of an uplink that has none.
const DefaultUplink = "mqtt"

// maxUplinks bounds the uplinks.
const maxUplinks = 8

// TLS reports whether settings for TLS are given.
func (m *MQTT) TLS() bool {
	return m.CAFile != "" || m.CertFile != "" || m.ServerName != "" || len(m.ALPN) > 0
}

// ReadUsername gives the user name, empty for none. A file is read anew each
// time, so that it can be changed under a running agent.
func (m *MQTT) ReadUsername() (string, error) {
	if m.UsernameFile == "" {
		return m.Username, nil
	}
	return readSecret("mqtt.username_file", m.UsernameFile)
}

// ReadPassword gives the password, empty for none, as ReadUsername does.
func (m *MQTT) ReadPassword() (string, error) {
	switch {
	case m.PasswordFile != "":
		return readSecret("mqtt.password_file", m.PasswordFile)
	case m.PasswordEnv != "":
		v := os.Getenv(m.PasswordEnv)
		if v == "" {
			return "", fmt.Errorf("mqtt.password_env: the environment variable %s is not set or empty", m.PasswordEnv)
		}
		return v, nil
	}
	return "", nil
}

// readSecret reads a one-line file. The line's end is not part of the secret.
func readSecret(what, path string) (string, error) {
	b, err := readFile(path, maxSecret)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	secret := strings.TrimRight(string(b), "\r\n")
	switch {
	case secret == "":
		return "", fmt.Errorf("%s: %s is empty", what, path)
	case strings.ContainsAny(secret, "\r\n\x00"):
		return "", fmt.Errorf("%s: %s has more than one line", what, path)
	case !utf8.ValidString(secret):
		return "", fmt.Errorf("%s: %s is not UTF-8 text", what, path)
	}
	return secret, nil
}

// readFile reads a file of at most so many bytes, and waits for nothing else
// than a file. Its errors begin with the path.
func readFile(path string, most int64) ([]byte, error) {
	b, err := readBounded(path, most)
	var inPath *os.PathError
	if errors.As(err, &inPath) {
		err = inPath.Err // without the name of the system call
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

func readBounded(path string, most int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("not a file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // opened for reading only
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("more than %d bytes", most)
	}
	return b, nil
}

// brokerSchemes are the kinds of broker URL, and whether TLS guards them.
var brokerSchemes = map[string]bool{
	"tcp": false, "mqtt": false, "ws": false, "tls": true, "ssl": true, "mqtts": true, "wss": true,
}

// readMQTT reads one uplink, or a list of them.
func (r *reader) readMQTT(n ast.Node) {
	if _, isList := n.(*ast.SequenceNode); !isList {
		r.readUplink(n, false)
		return
	}
	r.Sequence(n, "mqtt", maxUplinks, func(n ast.Node) { r.readUplink(n, true) })
	if len(r.c.MQTT) == 0 {
		r.At(n, "mqtt is empty", "describe at least one uplink, or take the mqtt section out")
	}
}

var uplinkName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

func (r *reader) readUplink(n ast.Node, named bool) {
	m := &MQTT{Name: DefaultUplink}
	r.c.MQTT = append(r.c.MQTT, m)
	at := map[string]ast.Node{}
	var cert, key []byte
	var open []ast.Node // brokers without TLS
	secure := false
	keep := func(name string, read func(n ast.Node, what string)) yamlfile.Key {
		return yamlfile.Key{Name: name, Read: func(n ast.Node) { at[name] = n; read(n, "mqtt."+name) }}
	}
	brokers := keep("brokers", func(n ast.Node, what string) {
		seen := map[string]ast.Node{}
		count := 0
		r.Sequence(n, what, maxBrokers, func(n ast.Node) {
			count++
			s, guarded, ok := r.broker(n)
			if !ok {
				return
			}
			r.unique(seen, s, n, "broker "+s)
			m.Brokers = append(m.Brokers, s)
			if guarded {
				secure = true
			} else {
				open = append(open, n)
			}
		})
		if _, isList := n.(*ast.SequenceNode); isList && count == 0 {
			r.At(n, what+" is empty", "name at least one broker, or take the mqtt section out")
		}
	})
	brokers.Required = true
	r.Mapping(n, "mqtt",
		brokers,
		yamlfile.Key{Name: "name", Required: named, Read: func(n ast.Node) {
			m.Name = r.text(n, "mqtt.name")
			if m.Name != "" && !uplinkName.MatchString(m.Name) {
				r.At(n, fmt.Sprintf("mqtt.name: %s can't name an uplink", m.Name), "use 1 to 32 small letters, digits and -")
			}
			r.unique(r.uplinks, m.Name, n, "the uplink's name "+m.Name)
		}},
		keep("client_id", func(n ast.Node, what string) { m.ClientID = r.text(n, what) }),
		keep("username", func(n ast.Node, what string) { m.Username = r.text(n, what) }),
		keep("username_file", func(n ast.Node, what string) { m.UsernameFile = r.secretFile(n, what) }),
		yamlfile.Key{Name: "password", Instead: "passwords don't belong in this file: write it to a file of its own and name that with password_file, or use password_env"},
		keep("password_file", func(n ast.Node, what string) { m.PasswordFile = r.secretFile(n, what) }),
		keep("password_env", func(n ast.Node, what string) { m.PasswordEnv = r.variable(n, what) }),
		keep("ca_file", func(n ast.Node, what string) {
			var b []byte
			if m.CAFile, b = r.file(n, what, maxPEM); b != nil && !x509.NewCertPool().AppendCertsFromPEM(b) {
				r.At(n, fmt.Sprintf("%s: %s holds no certificate", what, m.CAFile), "it must hold the certificate of the authority that signed the broker's, in PEM form")
			}
		}),
		keep("cert_file", func(n ast.Node, what string) { m.CertFile, cert = r.file(n, what, maxPEM) }),
		keep("key_file", func(n ast.Node, what string) { m.KeyFile, key = r.file(n, what, maxPEM) }),
		keep("server_name", func(n ast.Node, what string) { m.ServerName = r.text(n, what) }),
		keep("alpn", func(n ast.Node, what string) {
			r.Sequence(n, what, maxALPN, func(n ast.Node) { m.ALPN = append(m.ALPN, r.text(n, what)) })
		}),
		keep("window", func(n ast.Node, what string) { m.Window, _ = r.Whole(n, what, 1, maxWindow) }),
		keep("max_packet", func(n ast.Node, what string) { m.MaxPacket = int(r.size(n, what, minPacket, maxPacket)) }),
		keep("only", func(n ast.Node, _ string) { r.readOnly(n, m) }),
		keep("topic_prefix", func(n ast.Node, what string) { m.TopicPrefix = r.topicPrefix(n, what) }),
		keep("redact", func(n ast.Node, what string) { m.Redact = r.yes(n, what) }),
		keep("requests", func(n ast.Node, what string) {
			var names []string
			for _, c := range uplink.Commands() {
				names = append(names, c.Name)
			}
			r.Sequence(n, what, len(names), func(n ast.Node) { m.Requests = append(m.Requests, r.oneOf(n, "a request", names...)) })
		}),
	)

	// What can't be together.
	for _, pair := range [][2]string{{"username", "username_file"}, {"password_file", "password_env"}} {
		if at[pair[0]] != nil && at[pair[1]] != nil {
			r.At(at[pair[1]], pair[0]+" and "+pair[1]+" are both given", "keep one of the two")
		}
	}
	password := cmp.Or(at["password_file"], at["password_env"])
	if password != nil && at["username"] == nil && at["username_file"] == nil {
		r.At(password, "a password without a username", "add username")
	}
	for _, pair := range [][2]string{{"cert_file", "key_file"}, {"key_file", "cert_file"}} {
		if at[pair[0]] != nil && at[pair[1]] == nil {
			r.At(at[pair[0]], pair[0]+" without "+pair[1], "a client certificate needs both: add "+pair[1])
		}
	}
	if cert != nil && key != nil {
		if _, err := tls.X509KeyPair(cert, key); err != nil {
			r.At(at["cert_file"], fmt.Sprintf("%s and %s are no client certificate and its key: %s", m.CertFile, m.KeyFile, strings.TrimPrefix(err.Error(), "tls: ")),
				"both must be in PEM form, the key without a passphrase, and belong together")
		}
	}
	if len(open) == 0 || len(m.Brokers) == 0 {
		return
	}
	if !secure {
		for _, name := range []string{"ca_file", "cert_file", "key_file", "server_name", "alpn"} {
			if at[name] != nil {
				r.At(at[name], name+" is for TLS, but no broker is reached by TLS", "write tls:// before the broker's name, or take "+name+" out")
			}
		}
	}
	if password != nil {
		for _, n := range open {
			if s, _ := r.Text(n, ""); !loopback(s) {
				r.warn(n, "the password goes to this broker in the clear", "use tls:// if the broker can")
			}
		}
	}
}

// Bounds of an uplink's settings.
const (
	maxALPN   = 8
	maxTypes  = 64
	minPacket = 1 << 10
	maxPacket = 256 << 20 // what MQTT can carry
)

// readOnly reads which events go to an uplink.
func (r *reader) readOnly(n ast.Node, m *MQTT) {
	r.Mapping(n, "mqtt.only",
		yamlfile.Key{Name: "lanes", Read: func(n ast.Node) {
			r.Sequence(n, "mqtt.only.lanes", maxLanes+1, func(n ast.Node) {
				lane := r.name(n, "lane")
				m.Only.Lanes = append(m.Only.Lanes, lane)
				r.checks = append(r.checks, func() {
					if lane != "" && lane != event.AgentLane && r.lanes[lane] == nil {
						r.At(n, fmt.Sprintf("mqtt.only.lanes: there is no lane %s", lane), nearestHint(lane, slices.Collect(maps.Keys(r.lanes)), "name one of the lanes above"))
					}
				})
			})
		}},
		yamlfile.Key{Name: "types", Read: func(n ast.Node) {
			r.Sequence(n, "mqtt.only.types", maxTypes, func(n ast.Node) {
				m.Only.Types = append(m.Only.Types, r.eventTypes(n))
			})
		}},
		yamlfile.Key{Name: "classes", Read: func(n ast.Node) {
			r.Sequence(n, "mqtt.only.classes", len(event.Classes), func(n ast.Node) {
				class := r.oneOf(n, "mqtt.only.classes", string(event.Urgent), string(event.Routine))
				m.Only.Classes = append(m.Only.Classes, event.Class(class))
			})
		}},
	)
}

// eventTypes reads a pattern of types, which must fit one at least.
func (r *reader) eventTypes(n ast.Node) string {
	pattern := r.text(n, "mqtt.only.types")
	if pattern == "" {
		return ""
	}
	var names []string
	for _, name := range event.TypeNames() {
		names = append(names, name)
		fits, err := path.Match(pattern, name)
		if err != nil {
			r.At(n, fmt.Sprintf("mqtt.only.types: %s is not a pattern", pattern), "write a type, or a pattern such as lanepost.radiation.*")
			return ""
		}
		if fits {
			return pattern
		}
	}
	r.At(n, fmt.Sprintf("mqtt.only.types: no type of event is called %s", pattern), nearestHint(pattern, names, "docs/events.md lists them"))
	return ""
}

// nearestHint proposes the word of the list that is like the one that is wrong.
func nearestHint(word string, list []string, otherwise string) string {
	slices.Sort(list)
	if near := yamlfile.Nearest(word, list); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return otherwise
}

// topicPrefix reads what is put before topics.
func (r *reader) topicPrefix(n ast.Node, what string) string {
	s := strings.TrimSuffix(r.text(n, what), "/")
	if strings.ContainsAny(s, "+#\x00") || strings.HasPrefix(s, "/") || strings.HasPrefix(s, "$") {
		r.At(n, fmt.Sprintf("%s: %s can't begin a topic", what, s), "use words with / between them, without + and #")
		return ""
	}
	return s
}

// yes reads true or false.
func (r *reader) yes(n ast.Node, what string) bool {
	v, ok := n.(*ast.BoolNode)
	if !ok {
		r.At(n, fmt.Sprintf("%s is neither true nor false", what), "write true or false, without quotes")
		return false
	}
	return v.Value
}

// loopback reports whether a broker is on this box.
func loopback(broker string) bool {
	u, err := url.Parse(broker)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// variable reads the name of an environment variable that must be set.
func (r *reader) variable(n ast.Node, what string) string {
	s := r.text(n, what)
	switch {
	case s == "":
		return ""
	case !variableName.MatchString(s) || s != strings.ToUpper(s):
		// The text is not repeated: it may be the password itself.
		r.At(n, what+" is not the name of an environment variable", "write its name, in capitals, not what is in it")
		return ""
	case os.Getenv(s) == "":
		r.At(n, fmt.Sprintf("the environment variable %s is not set or empty", s), "set it for the agent, for instance with EnvironmentFile=FILE in its systemd unit; to check with what stands there: sudo systemd-run --wait --pipe -p EnvironmentFile=FILE lanepost check")
	}
	return s
}

// broker reads a broker's URL, and whether TLS guards it. No error repeats the
// text where a password may stand in it.
func (r *reader) broker(n ast.Node) (s string, guarded, ok bool) {
	const example = "for instance tls://mqtt.example:8883"
	if _, isMap := n.(*ast.MappingNode); isMap {
		r.At(n, "the broker is not a URL", "put it in quotes; "+example)
		return "", false, false
	}
	s = r.text(n, "a broker")
	if s == "" {
		return "", false, false
	}
	u, err := url.Parse(s)
	switch {
	case err == nil && u.User != nil:
		r.At(n, "a broker URL with a user name", "take it out of the URL and use username and password_file")
		return "", false, false
	case err != nil || u.Hostname() == "":
		r.At(n, "the broker is not a URL", example)
		return "", false, false
	}
	guarded, known := brokerSchemes[u.Scheme]
	port, portErr := strconv.ParseUint(u.Port(), 10, 16)
	isWeb := strings.HasPrefix(u.Scheme, "ws")
	switch {
	case !known:
		r.At(n, fmt.Sprintf("the broker's kind of link %q is not known", u.Scheme), "use tls:// or tcp://")
	case strings.HasSuffix(u.Host, ":"), u.Port() != "" && (portErr != nil || port == 0):
		r.At(n, "the broker's port is not a number from 1 to 65535", example)
	case u.RawQuery != "", u.Fragment != "", !isWeb && strings.Trim(u.Path, "/") != "":
		r.At(n, "the broker's URL has more than host and port", example)
	default:
		return s, guarded, true
	}
	return "", false, false
}
