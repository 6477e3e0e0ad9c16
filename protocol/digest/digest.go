// Package digest computes HTTP Digest authentication (RFC 7616) as cameras use it:
// MD5 and SHA-256, their -sess forms, qop auth and none. It does no I/O and draws
// no random numbers: the caller gives the client nonce and counts the requests.
package digest

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// MaxChallenge bounds the length of a WWW-Authenticate value in bytes.
const MaxChallenge = 4096

// Challenge is what a server asks for in WWW-Authenticate.
type Challenge struct {
	Realm, Nonce, Opaque string
	// Algorithm is as sent; empty means MD5.
	Algorithm string
	// Auth is true when qop=auth is offered, false when no qop was sent.
	Auth bool
	// Stale tells that only the nonce was too old: the password was not rejected.
	Stale bool
}

// Parse reads one Digest challenge. It refuses an unknown algorithm and a qop
// without auth, because an answer to either would count as a failed login.
func Parse(value string) (Challenge, error) {
	var c Challenge
	if len(value) > MaxChallenge {
		return c, fmt.Errorf("digest challenge is longer than %d bytes", MaxChallenge)
	}
	value = strings.TrimSpace(value)
	if len(value) < 7 || !strings.EqualFold(value[:6], "digest") || value[6] != ' ' {
		return c, errors.New("challenge is not of the Digest scheme")
	}
	seen := map[string]bool{}
	for rest := value[7:]; ; {
		rest = strings.TrimLeft(rest, " \t,")
		if rest == "" {
			break
		}
		name, after, ok := strings.Cut(rest, "=")
		if !ok {
			return c, errors.New("digest parameter without a value")
		}
		name = strings.ToLower(strings.TrimSpace(name))
		after = strings.TrimLeft(after, " \t")
		var text string
		if strings.HasPrefix(after, `"`) {
			var b strings.Builder
			i, closed := 1, false
			for ; i < len(after); i++ {
				if after[i] == '"' {
					closed = true
					break
				}
				if after[i] == '\\' && i+1 < len(after) {
					i++
				}
				b.WriteByte(after[i])
			}
			if !closed {
				return c, errors.New("digest parameter with an open quotation")
			}
			text, rest = b.String(), after[i+1:]
		} else {
			text, rest, _ = strings.Cut(after, ",")
			text = strings.TrimSpace(text)
		}
		if seen[name] {
			return c, fmt.Errorf("digest parameter %q given twice", name)
		}
		seen[name] = true
		switch name {
		case "realm":
			c.Realm = text
		case "nonce":
			c.Nonce = text
		case "opaque":
			c.Opaque = text
		case "algorithm":
			c.Algorithm = text
		case "stale":
			c.Stale = strings.EqualFold(text, "true")
		case "qop":
			for _, q := range strings.Split(text, ",") {
				c.Auth = c.Auth || strings.EqualFold(strings.TrimSpace(q), "auth")
			}
			if !c.Auth && text != "" {
				return c, fmt.Errorf("digest qop %q does not offer auth", text)
			}
		}
	}
	if c.Nonce == "" {
		return c, errors.New("digest challenge without a nonce")
	}
	if _, _, err := algorithm(c.Algorithm); err != nil {
		return c, err
	}
	return c, nil
}

func algorithm(name string) (hash func(string) string, session bool, err error) {
	name = strings.ToUpper(name)
	base, session := strings.CutSuffix(name, "-SESS")
	switch base {
	case "", "MD5":
		return func(s string) string { b := md5.Sum([]byte(s)); return hex.EncodeToString(b[:]) }, session, nil
	case "SHA-256":
		return func(s string) string { b := sha256.Sum256([]byte(s)); return hex.EncodeToString(b[:]) }, session, nil
	}
	return nil, false, fmt.Errorf("digest algorithm %q is not supported", name)
}

// Response computes the response value. count is the number of requests made
// with this nonce, from 1. A server compares it with the one it was sent.
func (c Challenge) Response(user, password, method, uri, cnonce string, count uint32) (string, error) {
	hash, session, err := algorithm(c.Algorithm)
	if err != nil {
		return "", err
	}
	a1 := hash(user + ":" + c.Realm + ":" + password)
	if session {
		a1 = hash(a1 + ":" + c.Nonce + ":" + cnonce)
	}
	a2 := hash(method + ":" + uri)
	if !c.Auth {
		return hash(a1 + ":" + c.Nonce + ":" + a2), nil
	}
	return hash(fmt.Sprintf("%s:%s:%08x:%s:auth:%s", a1, c.Nonce, count, cnonce, a2)), nil
}
