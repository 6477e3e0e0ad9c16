package simulator

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/lanepost/lanepost/protocol/digest"
)

// Habits of the login of cameras.
const (
	// loginFailures lock an address out.
	loginFailures = 5
	// nonceUses is how often a nonce is taken with the switch "stale-nonce".
	nonceUses = 3
)

// digestLogin is how a camera lets clients in.
type digestLogin struct {
	user, password string
	stale          bool

	mu       sync.Mutex
	nonce    int
	used     int
	failures int
}

func newDigestLogin(s CameraSettings) *digestLogin {
	return &digestLogin{user: s.Username, password: s.Password, stale: s.Has("stale-nonce"), nonce: 1}
}

// admit lets a request in, or answers it.
func (l *digestLogin) admit(w http.ResponseWriter, r *http.Request) bool {
	if l.user == "" {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	nonce := func() string { return fmt.Sprintf("%032x", l.nonce) }
	refuse := func(stale bool) bool {
		lock := "unlock"
		if l.failures >= loginFailures {
			lock = "lock"
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Digest qop="auth", realm="IP Camera(C2183)", nonce="%s", stale="%s"`, nonce(), strings.ToUpper(strconv.FormatBool(stale))))
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, "<userCheck><statusValue>401</statusValue><lockStatus>%s</lockStatus><unlockTime>1800</unlockTime></userCheck>", lock)
		return false
	}
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Digest ")
	if !ok {
		return refuse(false)
	}
	if l.failures >= loginFailures {
		return refuse(false) // with the right password too
	}
	fields := map[string]string{}
	for rest := given; rest != ""; {
		name, after, ok := strings.Cut(rest, "=")
		if !ok {
			break
		}
		var value string
		if quoted, isQuoted := strings.CutPrefix(after, `"`); isQuoted {
			value, rest, _ = strings.Cut(quoted, `"`)
			rest = strings.TrimPrefix(rest, ",")
		} else {
			value, rest, _ = strings.Cut(after, ",")
		}
		fields[strings.Trim(name, " ,")] = value
	}
	if l.stale && l.used >= nonceUses {
		l.nonce, l.used = l.nonce+1, 0
	}
	if fields["nonce"] != nonce() {
		return refuse(true)
	}
	count, err := strconv.ParseUint(fields["nc"], 16, 32)
	want, err2 := digest.Challenge{Realm: "IP Camera(C2183)", Nonce: nonce(), Auth: true}.Response(
		l.user, l.password, r.Method, r.RequestURI, fields["cnonce"], uint32(count))
	if err != nil || err2 != nil || fields["username"] != l.user || fields["uri"] != r.RequestURI || fields["response"] != want {
		l.failures++
		return refuse(false)
	}
	l.used++
	l.failures = 0
	return true
}
