package agent

import (
	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/plate"
)

// readPseudonymKey takes up the key of the pseudonyms. On an error the old one goes
// on: a plate without its pseudonym can be looked up by nobody who has only that.
func (a *Agent) readPseudonymKey(cfg *config.Config) error {
	key, err := cfg.Plates.PseudonymKey()
	if err == nil {
		a.pseudonymKey.Store(&key)
	}
	return err
}

// withPseudonym gives a read its pseudonym, if there is a key.
func (a *Agent) withPseudonym(d event.Data) (event.Data, error) {
	read, ok := d.(event.PlateRead)
	key := a.pseudonymKey.Load()
	if !ok || key == nil || len(*key) == 0 || read.Private == nil {
		return d, nil
	}
	var err error
	read.Pseudonym, err = plate.Pseudonym(*key, read.Private.MatchKey)
	return read, err
}
