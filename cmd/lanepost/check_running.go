package main

import (
	"context"
	"fmt"
	"time"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/agent/console/client"
	"github.com/lanepost/lanepost/drivers"
)

// devicesOfAgent are the rows of devices that a running agent has: nobody else may open
// them, so it is asked how they are.
func devicesOfAgent(ctx context.Context, cfg *config.Config) (rows []result) {
	var status console.Status
	c, err := client.Dial(cfg.Spool.Dir)
	if err == nil {
		defer c.CloseIdleConnections()
		err = client.Get(ctx, c, "/api/v1/status", &status)
	}
	known := map[string]console.Device{}
	for _, lane := range status.Lanes {
		for _, d := range lane.Devices {
			known[d.Device] = d
		}
	}
	for _, d := range cfg.Devices() {
		key := d.Lane + "/" + d.ID
		place := d.Endpoint.String() + " is in use by the running agent"
		is, ok := known[key]
		switch {
		case err != nil:
			rows = append(rows, result{key, "device", isSkipped, place + ", which can't be asked: " + err.Error(), "stop the agent to check the device itself"})
		case !ok:
			rows = append(rows, result{
				key, "device", isWarning, "the running agent does not have this device: it is in the file and not loaded",
				"systemctl reload lanepost loads it",
			})
		default:
			rows = append(rows, deviceOfAgent(is)...)
		}
	}
	return rows
}

// deviceOfAgent are the rows of one device as the agent tells them.
func deviceOfAgent(d console.Device) []result {
	state := result{d.Device, "device", isOK, "online in the running agent, as " + d.Profile, ""}
	if d.LastRecord != nil {
		state.Detail += ", last record " + drivers.Span(time.Since(d.LastRecord.Time).Round(100*time.Millisecond)) + " ago"
	}
	switch {
	case d.State == "connecting":
		state.State, state.Detail = isWarning, "the running agent is connecting to it"
		state.Hint = "run this again in a minute"
	case d.State != "online":
		state.State, state.Detail, state.Hint = isFailed, fmt.Sprintf("%s in the running agent: %s", d.State, d.Reason), d.ToDo
		if state.Hint == "" {
			state.Hint = "check the device's power, cable and address; the agent's log says more (journalctl -u lanepost)"
		}
	}
	if d.ClockOffsetS == nil {
		return []result{state}
	}
	offset := time.Duration(*d.ClockOffsetS * float64(time.Second))
	clock := result{d.Device, "clock", isOK, "within " + drivers.Span(offset.Abs().Round(time.Second)+time.Second) + " of this box's", ""}
	if text, hint := drivers.ClockWords(offset); text != "" {
		clock = result{d.Device, "clock", isFailed, text, hint}
	}
	return []result{state, clock}
}
