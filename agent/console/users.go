package console

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// Bounds of users and their passwords.
const (
	// MaxUsersFile bounds the file, in bytes.
	MaxUsersFile = 16 << 10
	maxUsers     = 64
	// MinPassword and MaxPassword bound a password, in bytes; the latter is what bcrypt
	// looks at.
	MinPassword = 10
	MaxPassword = 72
	// maxCost bounds what it costs to check one: each step doubles it.
	maxCost = 14
)

var userName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`)

// user is one line of the file of users.
type user struct {
	name string
	hash []byte
}

// CheckUsers finds what is wrong with the content of a file of users. The error names the
// line and, after a semicolon, the mend.
func CheckUsers(b []byte) error {
	_, err := parseUsers(b)
	return err
}

// parseUsers reads the file of users: a line name:bcrypt-hash for each, empty lines and
// those that begin with # apart.
func parseUsers(b []byte) ([]user, error) {
	const mend = `let "lanepost console password NAME" make it`
	var list []user
	if len(b) > MaxUsersFile {
		return nil, fmt.Errorf("it has more than %d bytes; keep only those who may log in", MaxUsersFile)
	}
	for i, line := range bytes.Split(b, []byte("\n")) {
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(text, ":")
		if !ok || !userName.MatchString(name) {
			// The line may be a password.
			return nil, fmt.Errorf("line %d is not a name and a hash with a colon between them; %s", i+1, mend)
		}
		cost, err := bcrypt.Cost([]byte(hash))
		switch {
		case err != nil:
			return nil, fmt.Errorf("line %d: what stands behind %s is no bcrypt hash; %s", i+1, name, mend)
		case cost > maxCost:
			return nil, fmt.Errorf("line %d: the hash of %s has the cost %d, and this box would need too long for it; %s", i+1, name, cost, mend)
		case len(list) == maxUsers:
			return nil, fmt.Errorf("there are more than %d users; keep only those who may log in", maxUsers)
		}
		for _, other := range list {
			if other.name == name {
				return nil, fmt.Errorf("line %d: %s is there twice; keep one of the two", i+1, name)
			}
		}
		list = append(list, user{name, []byte(hash)})
	}
	if len(list) == 0 {
		return nil, errors.New("there is no user in it; " + mend)
	}
	return list, nil
}

func readUsers(path string) ([]user, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // opened for reading only
	b, err := io.ReadAll(io.LimitReader(f, MaxUsersFile+1))
	if err != nil {
		return nil, err
	}
	list, err := parseUsers(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// UserLine makes a line of the file of users.
func UserLine(name, password string) (string, error) {
	switch {
	case !userName.MatchString(name):
		return "", fmt.Errorf("%q is no name for a user: want up to 32 letters, digits and . _ - and a letter or digit first", name)
	case len(password) < MinPassword:
		return "", fmt.Errorf("the password has fewer than %d characters: several words make a good one", MinPassword)
	case len(password) > MaxPassword:
		return "", fmt.Errorf("the password has more than %d bytes", MaxPassword)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		return "", fmt.Errorf("make the hash of a password: %w", err)
	}
	return name + ":" + string(hash), nil
}
