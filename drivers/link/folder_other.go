//go:build !unix

package link

import "errors"

// mountPoint is for Unix only.
func mountPoint(string) (bool, error) {
	return false, errors.New("mounted=yes can't be checked on this system; use sentinel=FILE")
}
