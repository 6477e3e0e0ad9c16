package xray

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/dicos"
	"github.com/lanepost/lanepost/protocol/event"
)

// keeping is the driver as it is.
func keeping(t *testing.T) *network {
	t.Helper()
	d, err := Network().New(func(any) error { return nil })
	require.NoError(t, err)
	return d.(*network)
}

// reportFile is what an operator found.
func reportFile(t *testing.T, instance, decision string) stored {
	t.Helper()
	o := dicos.Object{
		TransferSyntax: dicos.ExplicitLE, SOPClass: dicos.ClassTDR, SOPInstance: instance, Modality: "TDR", Version: "V03", ScanInstance: "2.25.77",
		ScanType: "OPERATIONAL", Report: &dicos.Report{Type: "OPERATOR", Decision: decision, Operator: true},
	}
	b, err := dicos.Form{}.Append(nil, &o, nil)
	require.NoError(t, err)
	return stored{content: b, instance: instance}
}

func pictureFile(t *testing.T, instance string) stored {
	t.Helper()
	return stored{content: dicosFile(t, dicos.ExplicitLE, instance), instance: instance}
}

// names are those of the attachments of an event.
func names(o drivers.Observation) (list []string) {
	for _, a := range o.Attachments {
		list = append(list, a.Name)
	}
	return list
}

func TestKeepTellsEachObjectOnce(t *testing.T) {
	n, h := keeping(t), newHost()
	for range 2 {
		require.NoError(t, n.keep(h, pictureFile(t, "2.25.77.1")))
	}
	for range 2 {
		require.NoError(t, n.keep(h, reportFile(t, "2.25.77.2", "ALARM")))
	}
	require.NoError(t, keeping(t).keep(h, pictureFile(t, "2.25.77.1")), "after the agent was started anew")
	require.Len(t, h.observations, 2)
	require.Equal(t, []string{"thumbnail.jpg", "2.25.77.1.dcm"}, names(h.observations[0]))
	require.Equal(t, []string{"2.25.77.2.dcm"}, names(h.observations[1]))
	a := h.observations[0].Attachments[1]
	require.Equal(t, "application/dicom", a.MediaType)
	require.Equal(t, pictureFile(t, "2.25.77.1").content, a.Content)
	first, second := h.observations[0].Data.(event.XrayScan), h.observations[1].Data.(event.XrayScan)
	require.Equal(t, event.DecisionPending, first.Decision)
	require.Equal(t, event.DecisionSuspicious, second.Decision)
	require.Equal(t, "2.25.77", second.ScanID)
	require.Equal(t, 2, second.Revision)
	require.Equal(t, h.observations[0].ID, second.Supersedes)
	require.Len(t, second.Files, 2)
}

// An object whose event did not become durable is not forgotten, and its content goes with
// its event, whatever the scanner sends first.
func TestKeepAfterTheAgentStopped(t *testing.T) {
	h := newHost()
	require.NoError(t, keeping(t).keep(h, pictureFile(t, "2.25.77.1")))
	h.refuse = func(drivers.Observation) error { return errStop }
	require.ErrorIs(t, keeping(t).keep(h, reportFile(t, "2.25.77.2", "ALARM")), errStop)
	h.refuse = nil
	require.NoError(t, keeping(t).keep(h, pictureFile(t, "2.25.77.3")))
	require.NoError(t, keeping(t).keep(h, reportFile(t, "2.25.77.2", "ALARM")))
	require.Len(t, h.observations, 3)
	require.Equal(t, []string{"thumbnail.jpg", "2.25.77.3.dcm"}, names(h.observations[1]))
	require.Len(t, h.observations[1].Data.(event.XrayScan).Files, 2)
	require.Equal(t, []string{"2.25.77.2.dcm"}, names(h.observations[2]))
	require.Equal(t, event.DecisionSuspicious, h.observations[2].Data.(event.XrayScan).Decision)

	// The event was durable, and that was not known any more: the same one comes again.
	h.lose = func(drivers.Observation) error { return errStop }
	require.ErrorIs(t, keeping(t).keep(h, reportFile(t, "2.25.77.4", "CLEAR")), errStop)
	h.lose = nil
	require.NoError(t, keeping(t).keep(h, reportFile(t, "2.25.77.4", "CLEAR")))
	require.Len(t, h.observations, 5)
	require.Equal(t, h.observations[3].ID, h.observations[4].ID)
	require.Equal(t, h.observations[3].Data.(event.XrayScan).Revision, h.observations[4].Data.(event.XrayScan).Revision)
}

func TestKeepRefusesWhatItCannotRead(t *testing.T) {
	n, h := keeping(t), newHost()
	whole := pictureFile(t, "2.25.77.1")
	require.ErrorIs(t, n.keep(h, stored{content: whole.content[:150], instance: "2.25.77.1"}), errObject)
	require.ErrorIs(t, n.keep(h, stored{content: []byte(strings.Repeat("x", 500)), instance: "1"}), errObject)
	require.Empty(t, h.observations)
	require.Equal(t, ".._.._etc_x.dcm", fileName("../../etc/x"))
	// An object that names no scan is one of its own, by the name that the command has.
	o := dicos.Object{TransferSyntax: dicos.ExplicitLE, SOPClass: dicos.ClassTDR, Modality: "TDR", Report: &dicos.Report{Type: "MACHINE", Decision: "ALARM"}}
	b, err := dicos.Form{}.Append(nil, &o, nil)
	require.NoError(t, err)
	require.NoError(t, n.keep(h, stored{content: b, instance: "2.25.9"}))
	require.Equal(t, "2.25.9", h.observations[0].Data.(event.XrayScan).ScanID)
	require.Contains(t, h.observations[0].Data.(event.XrayScan).Remarks, "without_scan_uid")
}
