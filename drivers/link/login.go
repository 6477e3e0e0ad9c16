package link

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/lanepost/lanepost/protocol/digest"
)

// ErrLogin says that the device does not let the agent in.
var ErrLogin = errors.New("login rejected")

// maxChallenges bounds how often one request is challenged. Two are usual: none
// was known, and the one that was known is stale.
const maxChallenges = 3

// login is the state of an endpoint's login. It outlives connections: a password
// that was rejected stays rejected after a reconnection.
type login struct {
	user, file, env string
	auth            string // digest or basic
	pause           time.Duration

	mu        sync.Mutex
	challenge *digest.Challenge
	count     uint32
	rejected  *RetryError
}

// credentials reads where the user name and the password are.
func (s *settings) credentials(l *login) error {
	l.user, l.file, l.env = s.values["username"], s.values["password_file"], s.values["password_env"]
	switch {
	case l.file != "" && l.env != "":
		return errors.New("connect: password_file and password_env are both set; keep one of them")
	case l.user == "" && (l.file != "" || l.env != ""):
		return errors.New("connect: there is a password without a user name; set username")
	case l.user != "" && l.file == "" && l.env == "":
		return errors.New("connect: username is set and no password; set password_file, the path of a file that holds it")
	}
	return nil
}

// password reads the password anew, so that it can be changed under a running
// agent.
func (l *login) password() (string, error) { return Secret(l.file, l.env) }

// Secret reads a password from an environment variable or, if there is none named, from a
// file with one line.
func Secret(file, env string) (string, error) {
	if env != "" {
		v := os.Getenv(env)
		if v == "" {
			return "", fmt.Errorf("password_env: the environment variable %s is not set or empty", env)
		}
		return v, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	secret := strings.TrimRight(string(b), "\r\n")
	switch {
	case err != nil:
		return "", fmt.Errorf("password_file: %w", err)
	case secret == "":
		return "", fmt.Errorf("password_file: %s is empty", file)
	case len(b) > maxSecretFile, strings.ContainsAny(secret, "\r\n\x00"), !utf8.ValidString(secret):
		return "", fmt.Errorf("password_file: %s does not hold one line of text", file)
	}
	return secret, nil
}

// mayTry fails while a rejected password must not be tried.
func (l *login) mayTry() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rejected != nil && time.Now().Before(l.rejected.Until) {
		return l.rejected
	}
	return nil
}

// begin gives what computes the Authorization of a request, "" where none is to
// be sent yet.
func (l *login) begin() (func(method, target string) (string, error), error) {
	if err := l.mayTry(); err != nil {
		return nil, err
	}
	return func(method, target string) (string, error) {
		if l.user == "" {
			return "", nil
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.challenge == nil && l.auth != "basic" {
			return "", nil
		}
		password, err := l.password()
		if err != nil {
			return "", err
		}
		if l.auth == "basic" {
			return "Basic " + base64.StdEncoding.EncodeToString([]byte(l.user+":"+password)), nil
		}
		l.count++
		return authorization(*l.challenge, l.user, password, method, target, l.count)
	}, nil
}

// authorization writes the answer to a challenge.
func authorization(c digest.Challenge, user, password, method, target string, count uint32) (string, error) {
	var nonce [8]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return "", fmt.Errorf("make a nonce: %w", err)
	}
	cnonce := hex.EncodeToString(nonce[:])
	response, err := c.Response(user, password, method, target, cnonce, count)
	if err != nil {
		return "", err
	}
	quoted := func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Digest username=%s, realm=%s, nonce=%s, uri=%s, response=%s",
		quoted(user), quoted(c.Realm), quoted(c.Nonce), quoted(target), quoted(response))
	if c.Algorithm != "" {
		fmt.Fprintf(&b, ", algorithm=%s", c.Algorithm)
	}
	if c.Opaque != "" {
		fmt.Fprintf(&b, ", opaque=%s", quoted(c.Opaque))
	}
	if c.Auth {
		fmt.Fprintf(&b, ", qop=auth, nc=%08x, cnonce=%s", count, quoted(cnonce))
	}
	return b.String(), nil
}

func (l *login) accepted() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rejected = nil
}

// challenged takes a 401. It returns nil if the request is to be sent again, with
// an answer to what the device asks; sent says that there was one already.
func (l *login) challenged(e *httpEndpoint, h http.Header, sent bool, attempt int, said []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.user == "" {
		return l.reject(fmt.Errorf("%w: %s wants a login and none is configured; set username and password_file beside connect", ErrLogin, e.place()))
	}
	var offered []string
	for _, value := range h.Values("Www-Authenticate") {
		scheme, _, _ := strings.Cut(value, " ")
		offered = append(offered, scheme)
		if l.auth == "basic" || !strings.EqualFold(scheme, "Digest") {
			continue
		}
		c, err := digest.Parse(value)
		if err != nil {
			return l.reject(fmt.Errorf("%w: the challenge of %s can't be answered: %w", ErrLogin, e.place(), err))
		}
		// With an answer sent, only a stale nonce is no rejection.
		if sent && !c.Stale || attempt+1 >= maxChallenges {
			l.challenge, l.count = nil, 0
			return l.reject(fmt.Errorf("%w: %s does not take the user name and password%s", ErrLogin, e.place(), lockedOut(said)))
		}
		l.challenge, l.count = &c, 0
		return nil
	}
	if l.auth == "basic" {
		return l.reject(fmt.Errorf("%w: %s does not take the user name and password%s", ErrLogin, e.place(), lockedOut(said)))
	}
	return l.reject(fmt.Errorf("%w: %s offers no Digest login but %q; if it can only do Basic, set auth=basic, which sends the password readable unless the link is encrypted", ErrLogin, e.place(), offered))
}

func (l *login) reject(err error) error {
	pause := l.pause
	if pause == 0 {
		pause = defaultLoginPause
	}
	l.rejected = &RetryError{Err: err, Until: time.Now().Add(pause)}
	return l.rejected
}

// lockedOut finds in the body of a 401 that the camera has locked this address
// out, as Hikvision's userCheck says it.
func lockedOut(said []byte) string {
	text := strings.ToLower(string(said))
	if strings.Contains(text, "<lockstatus>lock</lockstatus>") || strings.Contains(text, `"lockstatus":"lock"`) {
		return ", and has locked this address out for a while"
	}
	return ""
}
