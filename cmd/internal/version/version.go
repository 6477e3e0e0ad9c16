// Package version tells which build of lanepost this is.
package version

import (
	"fmt"
	"runtime"
)

// Set by the linker (see the Makefile).
var (
	number = "development"
	commit = "unknown"
	date   = "unknown"
)

// Number is the version alone.
func Number() string { return number }

// String is the version, the commit and its date, and the platform.
func String() string {
	return fmt.Sprintf("%s, commit %s of %s, %s %s/%s", number, commit, date, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
