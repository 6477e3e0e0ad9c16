package console

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Bounds of logins.
const (
	// cookieName binds the session to this host: a browser takes it from https only.
	cookieName = "__Host-lanepost"
	// sessionIdle ends a session that nobody uses, sessionLife each.
	sessionIdle = 30 * time.Minute
	sessionLife = 12 * time.Hour
	// maxSessions is how many there may be; the one that was used longest ago goes.
	maxSessions = 64
	// failuresOfOne and failuresOfAll are how many logins may fail in failureWindow, from
	// one address and from all together.
	failuresOfOne = 5
	failuresOfAll = 50
	failureWindow = time.Minute
	// maxAddresses bounds the addresses that are remembered.
	maxAddresses = 1024
	// checksAtOnce is how many passwords are checked at a time: each takes a processor
	// for a tenth of a second and more.
	checksAtOnce = 2
	// checkPatience is how long a login waits for its turn.
	checkPatience = 5 * time.Second
)

// What a login comes to.
var (
	errWrong   = errors.New("the user name or the password is wrong")
	errTooFast = errors.New("too many logins have failed; wait a minute and try again")
	errUsers   = errors.New("the file of users can't be read: look at the agent's log")
)

// logins knows who is logged in.
type logins struct {
	now   func() time.Time
	users func() ([]user, error)
	// compare is bcrypt's.
	compare func(hash, password []byte) error

	checks chan struct{}

	mu       sync.Mutex
	sessions map[[sha256.Size]byte]*session // by the hash of the token
	failures map[netip.Prefix]window
	all      window
	// known are passwords that were right, for who comes again and again, by the bcrypt
	// hash that they fit: an HMAC under a key that only this process knows.
	known map[string][]byte
	key   []byte
}

type session struct {
	user         user
	made, active time.Time
}

// window counts failures since a time.
type window struct {
	since time.Time
	count int
}

func (w *window) full(now time.Time, most int) bool {
	if now.Sub(w.since) >= failureWindow {
		*w = window{since: now}
	}
	return w.count >= most
}

func newLogins(users func() ([]user, error)) *logins {
	return &logins{
		now: time.Now, users: users, compare: bcrypt.CompareHashAndPassword, checks: make(chan struct{}, checksAtOnce),
		sessions: map[[sha256.Size]byte]*session{}, failures: map[netip.Prefix]window{},
		known: map[string][]byte{}, key: random(),
	}
}

// random is 256 bits of it.
func random() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // it never fails: the program ends before
	return b
}

// addressOf is what logins are counted by: an address, or the network that one customer
// gets of IPv6.
func addressOf(remote string) netip.Prefix {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := a.Addr().Unmap().WithZone(""), 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// begin counts a login as failed, until right says that it was not. It reports whether
// there may be one.
func (l *logins) begin(from netip.Prefix) bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	one, known := l.failures[from]
	if l.all.full(now, failuresOfAll) || one.full(now, failuresOfOne) {
		return false
	}
	if !known && len(l.failures) >= maxAddresses {
		for a, w := range l.failures {
			if now.Sub(w.since) >= failureWindow {
				delete(l.failures, a)
			}
		}
		if len(l.failures) >= maxAddresses {
			return false
		}
	}
	one.count++
	l.all.count++
	l.failures[from] = one
	return true
}

func (l *logins) right(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one, ok := l.failures[from]; ok && one.count > 0 {
		one.count--
		l.failures[from] = one
	}
	l.all.count = max(0, l.all.count-1)
}

// check finds the user whose password it is. For a name that nobody has it takes as long
// as for one that somebody has.
func (l *logins) check(from netip.Prefix, name, password string) (user, error) {
	users, err := l.users()
	if err != nil {
		return user{}, errors.Join(errUsers, err)
	}
	found, who := false, users[0]
	for _, u := range users {
		if u.name == name {
			found, who = true, u
		}
	}
	mac := hmac.New(sha256.New, l.key)
	mac.Write(who.hash)
	mac.Write([]byte(password))
	sum := mac.Sum(nil)
	l.mu.Lock()
	before := l.known[string(who.hash)]
	l.mu.Unlock()
	if found && before != nil && hmac.Equal(before, sum) {
		return who, nil
	}
	if !l.begin(from) {
		return user{}, errTooFast
	}
	turn := time.NewTimer(checkPatience)
	defer turn.Stop()
	select {
	case l.checks <- struct{}{}:
		defer func() { <-l.checks }()
	case <-turn.C:
		return user{}, errTooFast
	}
	if len(password) > MaxPassword {
		password = ""
	}
	if err := l.compare(who.hash, []byte(password)); err != nil || !found {
		return user{}, errWrong
	}
	l.right(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.known) >= maxUsers {
		clear(l.known)
	}
	l.known[string(who.hash)] = sum
	return who, nil
}

// login begins a session and gives its token.
func (l *logins) login(from netip.Prefix, name, password string) (token string, err error) {
	who, err := l.check(from, name, password)
	if err != nil {
		return "", err
	}
	secret := random()
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sessions) >= maxSessions {
		var oldest [sha256.Size]byte
		at := now.Add(time.Second) // after all of them
		for id, s := range l.sessions {
			if s.active.Before(at) {
				oldest, at = id, s.active
			}
		}
		delete(l.sessions, oldest)
	}
	l.sessions[sha256.Sum256(secret)] = &session{user: who, made: now, active: now}
	return hex.EncodeToString(secret), nil
}

// session finds the session of a token. use says that somebody uses it.
func (l *logins) session(token string, use bool) bool {
	secret, err := hex.DecodeString(token)
	if err != nil {
		return false
	}
	id, now := sha256.Sum256(secret), l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sessions[id]
	if s == nil {
		return false
	}
	if now.Sub(s.made) >= sessionLife || now.Sub(s.active) >= sessionIdle {
		delete(l.sessions, id)
		return false
	}
	if use {
		s.active = now
	}
	return true
}

func (l *logins) logout(token string) {
	if secret, err := hex.DecodeString(token); err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.sessions, sha256.Sum256(secret))
	}
}

// prune ends the sessions of those who are no longer in the file, or have another
// password.
func (l *logins) prune() {
	users, err := l.users()
	if err != nil {
		users = nil // who can't be checked is out
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, s := range l.sessions {
		still := false
		for _, u := range users {
			still = still || u.name == s.user.name && string(u.hash) == string(s.user.hash)
		}
		if !still {
			delete(l.sessions, id)
		}
	}
}

// token is the session token of a request, empty for none.
func token(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	return c.Value
}

func setCookie(w http.ResponseWriter, value string) {
	c := &http.Cookie{
		Name: cookieName, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		MaxAge: int(sessionLife / time.Second),
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// loginForm takes what was typed into the page login.html, and leads on: to the page, or
// back to where it says what is wrong.
func (d *door) loginForm(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		fail(w, http.StatusBadRequest, "the form can't be read")
		return
	}
	name := r.PostForm.Get("user")
	from := addressOf(r.RemoteAddr)
	made, err := d.logins.login(from, name, r.PostForm.Get("password"))
	to := "/"
	switch {
	case err == nil:
		d.log.Info("somebody has logged in", "user", name, "address", hostOf(r.RemoteAddr))
		setCookie(w, made)
	case errors.Is(err, errWrong):
		d.log.Warn("a login has failed", "address", hostOf(r.RemoteAddr))
		to = "/login#wrong"
	case errors.Is(err, errTooFast):
		to = "/login#wait"
		w.Header().Set("Retry-After", strconv.Itoa(int(failureWindow/time.Second)))
	default:
		d.log.Error("nobody can log in", "err", err)
		to = "/login#unavailable"
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func hostOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

func (d *door) logoutForm(w http.ResponseWriter, r *http.Request) {
	d.logins.logout(token(r))
	setCookie(w, "")
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}
