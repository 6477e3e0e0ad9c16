// Package rpm holds the drivers of radiation portal monitors.
package rpm

import (
	"context"
	"fmt"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
)

// TSAPortal is the driver of Rapiscan/TSA portals with an SC-7xx or SC-8xx
// controller, which send the records of package tsa.
func TSAPortal() drivers.Driver {
	return drivers.Driver{
		Name:    "tsa-portal",
		Summary: "Rapiscan/TSA radiation portal (VM-250, TM-850, RPM4500 families), line protocol",
		Schemes: []string{"tcp", "serial"},
		// Two backgrounds lost: the longest normal gap is 5 s.
		Silence: 12 * time.Second,
		New:     newPortal,
	}
}

// What is known of the portal's own rhythm.
const (
	// backgroundCadence is the time between two gamma backgrounds.
	backgroundCadence = 5 * time.Second
	minNSigma         = 0.1
	maxNSigma         = 100
	maxIntervals      = 50
)

func groupKinds() []string { return []string{"sum", "horizontal", "vertical", "single"} }

func newPortal(decode func(any) error) (drivers.Instrument, error) {
	s := defaultSettings()
	if err := decode(&s); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return &portal{settings: s}, nil
}

// portal is one portal over all its connections.
type portal struct {
	settings Settings
}

// Run implements drivers.Instrument.
func (p *portal) Run(ctx context.Context, conn link.Conn, host drivers.Host) error {
	buf := make([]byte, 4096)
	for {
		if _, err := conn.Read(buf); err != nil {
			return fmt.Errorf("read from the portal: %w", err)
		}
	}
}
