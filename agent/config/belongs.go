package config

import (
	"strings"

	"github.com/lanepost/lanepost/drivers"
)

// Belongs says which of the devices a sample belongs to that came from d and of which d's
// own driver could make nothing, and what to do; empty if it is none of them. Two devices
// whose cables or addresses were exchanged are found so, unless they speak alike.
func Belongs(devices []Device, d Device, sample []byte) string {
	tried := map[string]bool{d.Profile.Name: true}
	profile, should := "", []string{}
	for _, o := range devices {
		if o.Lane == d.Lane && o.ID == d.ID || tried[o.Profile.Name] && o.Profile.Name != profile {
			continue
		}
		if !tried[o.Profile.Name] && profile == "" && drivers.Recognise(o.New, sample) {
			profile = o.Profile.Name
		}
		tried[o.Profile.Name] = true
		if o.Profile.Name == profile {
			should = append(should, o.Lane+"/"+o.ID)
		}
	}
	if profile == "" {
		return ""
	}
	return drivers.Exchanged(strings.Join(should, " or "), profile)
}
