// Package registry is the table of drivers: one line each.
package registry

import (
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/anpr"
	"github.com/lanepost/lanepost/drivers/lane"
	"github.com/lanepost/lanepost/drivers/own"
	"github.com/lanepost/lanepost/drivers/rpm"
	"github.com/lanepost/lanepost/drivers/xray"
)

// All returns every driver.
func All() []drivers.Driver {
	return []drivers.Driver{
		rpm.TSAPortal(),
		rpm.N42Stream(),
		rpm.N42Folder(),
		rpm.N42Push(),
		rpm.AreaMonitor(),
		rpm.TSAEnvironment(),
		rpm.AspectPortal(),
		anpr.HikvisionStream(),
		anpr.HikvisionPush(),
		anpr.HikvisionPlates(),
		anpr.HikvisionOnDemand(),
		anpr.AxisLPV(),
		anpr.DahuaPush(),
		anpr.DahuaStream(),
		anpr.VzenPush(),
		anpr.Rekor(),
		anpr.PlateRecognizer(),
		anpr.SharpV(),
		anpr.TVT(),
		anpr.Milesight(),
		anpr.Uniview(),
		anpr.Template(),
		xray.Folder(),
		xray.Messages(),
		xray.Network(),
		lane.Scale(),
		lane.LLRP(),
		lane.StateBus(),
		lane.MRZ(),
		anpr.NedapTLV(),
		anpr.NedapRS485(),
		anpr.ONVIFPullPoint(),
		anpr.ONVIFMQTT(),
		own.Device(),
	}
}

// ByName returns the driver of that name, and whether there is one.
func ByName(name string) (drivers.Driver, bool) {
	for _, d := range All() {
		if d.Name == name {
			return d, true
		}
	}
	return drivers.Driver{}, false
}
