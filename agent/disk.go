package agent

import (
	"fmt"

	"github.com/lanepost/lanepost/agent/spool"
)

// diskRefuses says why the disk does not take events, and what to do; nothing for nil.
func diskRefuses(err error) (why, hint string) {
	if err == nil {
		return "", ""
	}
	if hint = spool.Hint(err); hint == "" {
		hint = "free space on the disk of the spool directory, or replace the disk"
	}
	return err.Error(), hint
}

// whatToDo adds to an error of the spool what to do about it.
func whatToDo(err error) error {
	if hint := spool.Hint(err); hint != "" {
		return fmt.Errorf("%w\n  what to do: %s", err, hint)
	}
	return err
}
