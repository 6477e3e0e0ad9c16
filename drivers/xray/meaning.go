package xray

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/cargovision"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/sidecar"
)

// Meaning are the settings that say how what a scanner says is taken, whatever way it says
// it.
type Meaning struct {
	// Verdicts say what the verdicts of an operator mean: "suspicious" or
	// "nothing_found". What is not here is "unknown". MachineResults are the same for
	// automatic analyses.
	Verdicts       map[string]string `yaml:"verdicts"`
	MachineResults map[string]string `yaml:"machine_results"`
	// Alerts are the site's own codes that say that something was found, by the scanner's
	// name for them, as {Custom2: [AL]}. Whether letters are capital does not count.
	Alerts map[string][]string `yaml:"alerts"`
	// CodePage reads documents that are neither UTF-8 nor UTF-16.
	CodePage string `yaml:"code_page"`
	// Zone is the zone of the scanner's clock, for times that it tells without one.
	Zone string `yaml:"zone"`
}

func (m *Meaning) check() error {
	if m.CodePage != "" && !slices.Contains(sidecar.CodePages(), m.CodePage) {
		return fmt.Errorf("code_page: %q is not known; there are %s", m.CodePage, strings.Join(sidecar.CodePages(), ", "))
	}
	for name, words := range map[string]map[string]string{"verdicts": m.Verdicts, "machine_results": m.MachineResults} {
		for from, to := range words {
			if to != event.DecisionSuspicious && to != event.DecisionNothingFound {
				return fmt.Errorf("%s: %q is %q; take %s or %s", name, from, to, event.DecisionSuspicious, event.DecisionNothingFound)
			}
		}
	}
	_, err := m.location()
	return err
}

func (m *Meaning) location() (*time.Location, error) { return location(m.Zone) }

func location(zone string) (*time.Location, error) {
	if zone == "" {
		return time.UTC, nil
	}
	l, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("zone: %q is no time zone that is known; take a name like Europe/Kyiv", zone)
	}
	return l, nil
}

// checkAlerts refuses codes that the dialect does not have: an alert that can never come
// must not look as if it was watched for.
func (m *Meaning) checkAlerts(dialect string) error {
	for name, codes := range m.Alerts {
		switch {
		case dialect != "cargovision":
			return fmt.Errorf("the dialect %s has no codes of the site; they are for cargovision", dialect)
		case !slices.Contains(cargovision.CodeNames(), name):
			return fmt.Errorf("there is no %q; there are %s", name, strings.Join(cargovision.CodeNames(), ", "))
		case len(codes) == 0 || len(codes) > maxCodes || slices.Contains(codes, ""):
			return fmt.Errorf("%s: write 1 to %d codes, none of them empty", name, maxCodes)
		}
	}
	return nil
}

// alert gives the code by which the site says that something was found in a scan; empty
// if there is none.
func (m *Meaning) alert(scan *sidecar.Scan) string {
	for _, name := range slices.Sorted(maps.Keys(m.Alerts)) {
		if sidecar.True(scan.Codes[name], m.Alerts[name]...) {
			return name + "=" + scan.Codes[name]
		}
	}
	return ""
}
