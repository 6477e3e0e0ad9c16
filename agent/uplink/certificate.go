package uplink

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Bounds of the care for certificates.
const (
	// renewEvery is how often the files of a TLS connection are looked at.
	renewEvery = 30 * time.Second
	// settleDivisor: files that have changed are looked at this much more often,
	// and must be the same twice before they count.
	settleDivisor = 15
	// ExpiryWarning is how long before its end a certificate is a problem.
	ExpiryWarning = 30 * 24 * time.Hour
	// maxCertificates bounds how many of a chain are told of.
	maxCertificates = 8
)

// Role is whose certificate it is.
type Role string

// The roles.
const (
	// RoleClient is the certificate that the agent shows, and its chain.
	RoleClient Role = "client"
	// RoleCA is the authority that the broker's certificate comes from. As long as
	// no broker has shown one, it is the one of the CA file that lasts longest.
	RoleCA Role = "ca"
	// RoleBroker is the certificate that the broker showed last, and its chain.
	RoleBroker Role = "broker"
)

// CertificateStatus is a certificate that the connection depends on.
type CertificateStatus struct {
	Role     Role
	Subject  string
	NotAfter time.Time
	// File holds it; empty for the broker's, and for an authority of the
	// system's.
	File string
}

// Problem is a condition that a person must know of.
type Problem struct {
	// Critical: it stops the delivery, or is about to at the next connect. If
	// not, it will.
	Critical bool
	// What it is, and what to do about it; ToDo is empty if What says that already.
	What, ToDo string
}

// Text is all of it in one.
func (p Problem) Text() string {
	if p.ToDo == "" {
		return p.What
	}
	return p.What + ": " + p.ToDo
}

// roleWords say whose a certificate is, and what to do about its end. {in file}
// is left out if the certificate is in no file of ours.
var roleWords = map[Role]struct{ name, remedy, remote string }{
	RoleClient: {name: "the client certificate", remedy: "put a renewed one in its place; the agent takes it up by itself"},
	RoleCA: {name: "the authority's certificate", remedy: "add the one that follows it to the file; the agent takes it up by itself",
		remote: "bring this system's list of certificate authorities up to date"},
	RoleBroker: {name: "the broker's certificate", remote: "those who run the broker must renew it; once it has expired, events wait in the spool"},
}

// Problems tells what is wrong with the certificates, or will be: those that
// expire within ExpiryWarning, and files that have changed and don't fit.
func (s Status) Problems(now time.Time) []Problem {
	var list []Problem
	for _, c := range s.Certificates {
		left := c.NotAfter.Sub(now)
		if left > ExpiryWarning {
			continue
		}
		words := roleWords[c.Role]
		text := words.name
		remedy := words.remote
		if c.File != "" {
			text += " " + c.File
			remedy = words.remedy
		}
		text += " (" + c.Subject + ")"
		if left <= 0 {
			text += " has expired on " + day(c.NotAfter)
		} else {
			text += fmt.Sprintf(" expires in %s (%s)", inDays(left), day(c.NotAfter))
		}
		list = append(list, Problem{Critical: left <= 0, What: text, ToDo: remedy})
	}
	if s.RenewalError != "" {
		list = append(list, Problem{What: s.RenewalError})
	}
	return list
}

// inDays says how long something still lasts, rounded down.
func inDays(d time.Duration) string {
	switch days, hours := int(d/(24*time.Hour)), int(d/time.Hour); {
	case days > 1:
		return fmt.Sprintf("%d days", days)
	case hours > 1:
		return fmt.Sprintf("%d hours", hours)
	default:
		return "less than two hours"
	}
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// subject is a certificate's name for people.
func subject(c *x509.Certificate) string {
	return cmp.Or(c.Subject.CommonName, c.Subject.String(), "serial number "+c.SerialNumber.String())
}

// trust is what a connection by TLS rests on. It is empty without TLS.
type trust struct {
	options *TLSOptions
	*material
	// broker is the chain that the broker showed, root the authority that it was
	// verified with; nil before that.
	broker []*x509.Certificate
	root   *x509.Certificate
}

// configure reads the files and makes the configuration for a broker.
func (t *trust) configure(o *TLSOptions, host string) (*tls.Config, error) {
	m, err := o.load()
	if err != nil {
		return nil, err
	}
	t.options, t.material = o, m
	config := m.config(o, host)
	// Called when the chain and the name are verified.
	config.VerifyConnection = func(state tls.ConnectionState) error {
		t.broker = state.PeerCertificates
		if len(state.VerifiedChains) > 0 {
			chain := state.VerifiedChains[0]
			t.root = chain[len(chain)-1]
		}
		return nil
	}
	return config, nil
}

// failed notes the chain of a broker that was not verified.
func (t *trust) failed(err error) {
	var refused *tls.CertificateVerificationError
	if errors.As(err, &refused) {
		t.broker = refused.UnverifiedCertificates
	}
}

// certificates lists what the connection depends on.
func (t *trust) certificates() (list []CertificateStatus) {
	if t.material == nil {
		return nil
	}
	o := t.options
	if o == nil {
		o = &TLSOptions{}
	}
	add := func(role Role, file string, chain ...*x509.Certificate) {
		for _, c := range chain[:min(len(chain), maxCertificates)] {
			list = append(list, CertificateStatus{Role: role, Subject: subject(c), NotAfter: c.NotAfter, File: file})
		}
	}
	add(RoleClient, o.CertFile, t.chain...)
	root := t.root
	for _, c := range t.authorities {
		if t.root == nil && (root == nil || c.NotAfter.After(root.NotAfter)) {
			root = c
		}
	}
	if root != nil {
		add(RoleCA, o.CAFile, root)
	}
	for _, c := range t.broker[:min(len(t.broker), maxCertificates)] {
		if root == nil || !c.Equal(root) { // some brokers send their authority along
			add(RoleBroker, "", c)
		}
	}
	return list
}

// renewal watches the files of a session's TLS connection.
type renewal struct {
	options *TLSOptions
	used    [sha256.Size]byte
	every   time.Duration
	next    time.Time
	since   time.Time         // when they were first seen to differ
	last    [sha256.Size]byte // what was seen the last time
}

// newRenewal watches for the files of a connection to change; nil if it has
// none.
func newRenewal(t *trust, now time.Time) *renewal {
	if t.options == nil || t.options.CAFile == "" && t.options.CertFile == "" {
		return nil
	}
	every := cmp.Or(t.options.every, renewEvery)
	return &renewal{options: t.options, used: t.sum, every: every, next: now.Add(every)}
}

// look reads the files. ready tells that they have changed and fit
// together, problem that they have changed for a while and don't.
func (r *renewal) look(now time.Time) (ready bool, problem error) {
	m, err := r.options.load()
	if err == nil && m.sum == r.used {
		r.since, r.last, r.next = time.Time{}, r.used, now.Add(r.every)
		return false, nil
	}
	r.next = now.Add(r.every / settleDivisor)
	if r.since.IsZero() {
		r.since = now
	}
	if err == nil {
		// A file may be under way still: what counts is the same twice.
		settled := m.sum == r.last
		r.last = m.sum
		if err = m.fits(now); err == nil {
			return settled, nil
		}
	}
	if now.Sub(r.since) < r.every {
		return false, nil
	}
	return false, fmt.Errorf("the certificate files were changed and can't be used: %w; the session keeps the old ones as long as it lasts", err)
}

// renew ends the session in good order when the files of its TLS connection were
// changed and fit together.
func (s *session) renew(now time.Time) {
	if s.renewal == nil || now.Before(s.renewal.next) {
		return
	}
	ready, problem := s.renewal.look(now)
	text := ""
	if problem != nil {
		text = problem.Error()
	}
	u := s.u
	u.mu.Lock()
	was := u.status.RenewalError
	u.status.RenewalError = text
	u.mu.Unlock()
	if text != "" && text != was {
		u.log.Warn("changed certificate files wait", "err", problem)
	}
	if ready {
		u.log.Info("the certificate files were changed; the next session uses them")
		s.renewal = nil
		s.leave()
	}
}
