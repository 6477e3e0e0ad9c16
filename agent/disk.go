package agent

import (
	"fmt"
	"time"

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

// signOfLife leaves a sign of life, unless events wait for the disk: then instruments are not
// read, and the next start must not tell that they were.
func (a *Agent) signOfLife(now time.Time) {
	if a.refusal() != "" {
		return
	}
	if err := a.id.alive(now); err != nil {
		a.log.Warn("leave a sign of life", "err", err)
	}
}
