package config

import (
	"github.com/lanepost/lanepost/drivers"
)

// Belongs says which of the devices a sample belongs to that came from d and of which d's
// own driver could make nothing, and what to do; empty if it is none of them. Two devices
// whose cables or addresses were exchanged are found so, unless they speak alike.
func Belongs(devices []Device, d Device, sample []byte) string {
	tried := map[string]bool{d.Profile.Name: true}
	for _, o := range devices {
		if o.Lane == d.Lane && o.ID == d.ID || tried[o.Profile.Name] {
			continue
		}
		tried[o.Profile.Name] = true
		if drivers.Recognise(o.New, sample) {
			return drivers.Exchanged(o.Lane+"/"+o.ID, o.Profile.Name)
		}
	}
	return ""
}
