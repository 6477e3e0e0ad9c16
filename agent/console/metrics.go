package console

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"

	"github.com/lanepost/lanepost/protocol/event"
)

// Metric is one family of figures for Prometheus.
type Metric struct {
	// Name and Type ("gauge" or "counter") are as they are told.
	Name, Type string
	// Help says what it is.
	Help string
	// Labels are the names of its labels. Their values are names of the configuration, or
	// of a fixed list, so that the configuration bounds how many series there are.
	Labels []string

	collect func(s *Status, tell func(value float64, labels ...string))
}

const (
	gauge   = "gauge"
	counter = "counter"
)

// deviceStates are the states that a configured device can be in.
var deviceStates = []string{"connecting", "online", "silent", "offline", "fault"}

var (
	ofDevice = []string{"lane", "device"}
	ofUplink = []string{"uplink"}
	ofClass  = []string{"class"}
)

// Metrics lists all that /metrics tells, in its order.
func Metrics() []Metric { return metrics }

var metrics = []Metric{
	{"lanepost_build_info", gauge, "1, with the version of the program and of Go.", []string{"version", "go_version"},
		func(s *Status, tell func(float64, ...string)) { tell(1, s.Version, s.Process.GoVersion) }},
	{"lanepost_start_time_seconds", gauge, "When the agent was started, in Unix time.", nil,
		func(s *Status, tell func(float64, ...string)) { tell(unix(s.Started)) }},
	{"lanepost_problems", gauge, "How many things are wrong now that a person should see to.", nil,
		func(s *Status, tell func(float64, ...string)) { tell(float64(len(s.Problems))) }},
	{"lanepost_clock_synchronised", gauge, "1 if the clock of the box is synchronised, 0 if not; absent where the system does not say.", nil,
		func(s *Status, tell func(float64, ...string)) {
			if s.Clock.Synchronised != "unknown" {
				tell(truth(s.Clock.Synchronised == "yes"))
			}
		}},
	{"lanepost_clock_max_error_seconds", gauge, "The system's bound on the error of its clock; absent where it is unknown.", nil,
		func(s *Status, tell func(float64, ...string)) {
			if s.Clock.MaxErrorMs != nil {
				tell(float64(*s.Clock.MaxErrorMs) / 1000)
			}
		}},
	{"lanepost_config_last_reload_successful", gauge, "1 if the last reload of the configuration was taken up, or there was none since the start; 0 if it was refused.", nil,
		func(s *Status, tell func(float64, ...string)) {
			tell(truth(s.Config.LastReload == nil || s.Config.LastReload.Applied))
		}},
	{"lanepost_config_last_reload_success_timestamp_seconds", gauge, "When the configuration in effect was taken up, in Unix time.", nil,
		func(s *Status, tell func(float64, ...string)) { tell(unix(s.Config.LoadedAt)) }},

	{"lanepost_device_up", gauge, "1 if fresh valid data comes from the device, else 0.", ofDevice,
		devices(func(d *Device, tell func(float64, ...string)) { tell(truth(d.State == "online")) })},
	{"lanepost_device_state", gauge, "1 for the state that the device is in, 0 for the others.", []string{"lane", "device", "state"},
		devices(func(d *Device, tell func(float64, ...string)) {
			for _, state := range deviceStates {
				tell(truth(d.State == state), state)
			}
		})},
	{"lanepost_device_records_total", counter, "Valid records that came from the device since the agent's start.", ofDevice,
		devices(func(d *Device, tell func(float64, ...string)) { tell(float64(d.Records)) })},
	{"lanepost_device_unparsed_total", counter, "Pieces from the device that no decoder understood, since the agent's start.", ofDevice,
		devices(func(d *Device, tell func(float64, ...string)) { tell(float64(d.Unparsed)) })},
	{"lanepost_device_reconnects_total", counter, "New connections to the device after the first one, since the agent's start.", ofDevice,
		devices(func(d *Device, tell func(float64, ...string)) { tell(float64(d.Reconnects)) })},
	{"lanepost_device_last_record_timestamp_seconds", gauge, "When the last valid record came from the device, in Unix time; absent if none has since the agent's start.", ofDevice,
		devices(func(d *Device, tell func(float64, ...string)) {
			if d.LastRecord != nil {
				tell(unix(*d.LastRecord))
			}
		})},
	{"lanepost_device_silence_limit_seconds", gauge, "How long the device may stay without a valid record.", ofDevice,
		devices(func(d *Device, tell func(float64, ...string)) { tell(d.SilenceLimitS) })},
	{"lanepost_device_clock_offset_seconds", gauge, "By how much the device's clock is ahead of the agent's; absent if the device tells no time.", ofDevice,
		devices(func(d *Device, tell func(float64, ...string)) {
			if d.ClockOffsetS != nil {
				tell(*d.ClockOffsetS)
			}
		})},
	{"lanepost_occupancies_total", counter, "Occupancies of the portal by outcome (alarm, no_alarm, incomplete), since the agent's start.", []string{"lane", "device", "outcome"},
		devices(func(d *Device, tell func(float64, ...string)) {
			if p := d.Passed; d.Kind == Portal || p.Occupancies > 0 {
				tell(float64(p.AlarmOccupancies), string(event.OutcomeAlarm))
				tell(float64(p.Occupancies-p.AlarmOccupancies-p.IncompleteOccupancies), string(event.OutcomeNoAlarm))
				tell(float64(p.IncompleteOccupancies), string(event.OutcomeIncomplete))
			}
		})},
	{"lanepost_occupancy_alarms_total", counter, "Occupancies of the portal with an alarm by its kind (gamma, neutron), since the agent's start.", []string{"lane", "device", "kind"},
		devices(func(d *Device, tell func(float64, ...string)) {
			if p := d.Passed; d.Kind == Portal || p.Occupancies > 0 {
				tell(float64(p.GammaAlarms), "gamma")
				tell(float64(p.NeutronAlarms), "neutron")
			}
		})},
	{"lanepost_plate_reads_total", counter, "Vehicles that the plate reader saw, by whether it read a plate (read, no_read), since the agent's start.", []string{"lane", "device", "result"},
		devices(func(d *Device, tell func(float64, ...string)) {
			if p := d.Passed; d.Kind == PlateReader || p.PlateReads+p.NoReads > 0 {
				tell(float64(p.PlateReads), "read")
				tell(float64(p.NoReads), "no_read")
			}
		})},
	{"lanepost_xray_scans_total", counter, "X-ray scans without their later revisions, since the agent's start.", ofDevice,
		devices(func(d *Device, tell func(float64, ...string)) {
			if p := d.Passed; d.Kind == Scanner || p.Scans > 0 {
				tell(float64(p.Scans))
			}
		})},

	{"lanepost_events_total", counter, "Events recorded since the agent's first start: the last sequence of the class.", ofClass,
		classes(func(c *SpoolClass, tell func(float64, ...string)) { tell(float64(c.LastSequence)) })},
	{"lanepost_events_lost_total", counter, "Events that were lost or gave way since the agent's start.", nil,
		func(s *Status, tell func(float64, ...string)) { tell(float64(s.Spool.LostEvents)) }},
	{"lanepost_spool_bytes", gauge, "What the events of the class take on disk.", ofClass,
		classes(func(c *SpoolClass, tell func(float64, ...string)) { tell(float64(c.Bytes)) })},
	{"lanepost_spool_max_bytes", gauge, "What the events of the class may take on disk.", ofClass,
		classes(func(c *SpoolClass, tell func(float64, ...string)) { tell(float64(c.MaxBytes)) })},
	{"lanepost_spool_events_waiting", gauge, "Events of the class that not every uplink has delivered.", ofClass,
		classes(func(c *SpoolClass, tell func(float64, ...string)) { tell(float64(c.Waiting)) })},
	{"lanepost_spool_oldest_waiting_timestamp_seconds", gauge, "When the oldest event of the class that waits was recorded, in Unix time; absent if none waits.", ofClass,
		classes(func(c *SpoolClass, tell func(float64, ...string)) {
			if c.OldestWaiting != nil {
				tell(unix(*c.OldestWaiting))
			}
		})},
	{"lanepost_spool_refusing", gauge, "1 while the disk takes no events, so that instruments wait.", nil,
		func(s *Status, tell func(float64, ...string)) { tell(truth(s.Spool.Refused != "")) }},
	{"lanepost_spool_answering", gauge, "0 while the disk does not answer, so that the figures of the spool are old.", nil,
		func(s *Status, tell func(float64, ...string)) { tell(truth(s.Spool.OldSince == nil)) }},
	{"lanepost_attachments_bytes", gauge, "What pictures and files take on disk.", nil,
		func(s *Status, tell func(float64, ...string)) { tell(float64(s.Spool.AttachmentsBytes)) }},
	{"lanepost_attachments_max_bytes", gauge, "What pictures and files may take on disk.", nil,
		func(s *Status, tell func(float64, ...string)) { tell(float64(s.Spool.AttachmentsMaxBytes)) }},
	{"lanepost_disk_free_bytes", gauge, "What the agent may still write to the disk of the spool.", nil,
		func(s *Status, tell func(float64, ...string)) {
			if s.Spool.DiskFreeBytes != nil {
				tell(float64(*s.Spool.DiskFreeBytes))
			}
		}},
	{"lanepost_disk_size_bytes", gauge, "How large the disk of the spool is.", nil,
		func(s *Status, tell func(float64, ...string)) {
			if s.Spool.DiskTotalBytes != nil {
				tell(float64(*s.Spool.DiskTotalBytes))
			}
		}},
	{"lanepost_disk_syncs_total", counter, "Calls of fsync and fdatasync for the spool since the agent's start.", nil,
		func(s *Status, tell func(float64, ...string)) { tell(float64(s.Spool.DiskSyncs)) }},
	{"lanepost_disk_written_bytes_total", counter, "Bytes written to the spool since the agent's start.", nil,
		func(s *Status, tell func(float64, ...string)) { tell(float64(s.Spool.DiskWrittenBytes)) }},

	{"lanepost_uplink_connected", gauge, "1 if the uplink has a session with a broker, else 0.", ofUplink,
		uplinks(func(u *Uplink, tell func(float64, ...string)) { tell(truth(u.Connected)) })},
	{"lanepost_uplink_events_published_total", counter, "Events sent, with repetitions, since the uplink was started.", ofUplink,
		uplinks(func(u *Uplink, tell func(float64, ...string)) { tell(float64(u.Published)) })},
	{"lanepost_uplink_events_confirmed_total", counter, "Events that the broker confirmed since the uplink was started.", ofUplink,
		uplinks(func(u *Uplink, tell func(float64, ...string)) { tell(float64(u.Confirmed)) })},
	{"lanepost_uplink_events_resent_total", counter, "Events sent again on request since the uplink was started.", ofUplink,
		uplinks(func(u *Uplink, tell func(float64, ...string)) { tell(float64(u.Resent)) })},
	{"lanepost_uplink_events_skipped_total", counter, "Events that the uplink's choice kept back since it was started.", ofUplink,
		uplinks(func(u *Uplink, tell func(float64, ...string)) { tell(float64(u.Skipped)) })},
	{"lanepost_uplink_events_quarantined_total", counter, "Events taken out since the broker never took them, since the uplink was started.", ofUplink,
		uplinks(func(u *Uplink, tell func(float64, ...string)) { tell(float64(u.Quarantined)) })},
	{"lanepost_uplink_reconnects_total", counter, "Sessions after the first since the uplink was started.", ofUplink,
		uplinks(func(u *Uplink, tell func(float64, ...string)) { tell(float64(u.Reconnects)) })},
	{"lanepost_uplink_events_waiting", gauge, "Events of the class that the broker has not confirmed.", []string{"uplink", "class"},
		uplinks(func(u *Uplink, tell func(float64, ...string)) {
			tell(float64(u.WaitingUrgent), string(event.Urgent))
			tell(float64(u.WaitingRoutine), string(event.Routine))
		})},
	{"lanepost_uplink_oldest_waiting_timestamp_seconds", gauge, "When the oldest event that waits for the uplink was recorded, in Unix time; absent if none waits.", ofUplink,
		uplinks(func(u *Uplink, tell func(float64, ...string)) {
			if u.OldestWaiting != nil {
				tell(unix(*u.OldestWaiting))
			}
		})},
	{"lanepost_uplink_last_confirmed_timestamp_seconds", gauge, "When the broker last confirmed an event, in Unix time; absent if it has not since the uplink was started.", ofUplink,
		uplinks(func(u *Uplink, tell func(float64, ...string)) {
			if u.LastConfirmed != nil {
				tell(unix(*u.LastConfirmed))
			}
		})},
	{"lanepost_uplink_in_flight_messages", gauge, "Messages that are on their way to the broker.", ofUplink,
		uplinks(func(u *Uplink, tell func(float64, ...string)) { tell(float64(u.InFlight)) })},
	{"lanepost_uplink_certificate_expiry_timestamp_seconds", gauge, "When the first certificate of the role (client, ca, broker) ends on which the connection rests, in Unix time; absent without TLS.", []string{"uplink", "role"},
		uplinks(func(u *Uplink, tell func(float64, ...string)) {
			first := map[string]event.Time{}
			for _, c := range u.Certificates {
				if before, ok := first[c.Role]; !ok || c.Expires.Before(before.Time) {
					first[c.Role] = c.Expires
				}
			}
			for _, role := range []string{"client", "ca", "broker"} {
				if at, ok := first[role]; ok {
					tell(unix(at), role)
				}
			}
		})},

	{"go_goroutines", gauge, "Goroutines of the agent.", nil,
		func(s *Status, tell func(float64, ...string)) { tell(float64(s.Process.Goroutines)) }},
	{"go_memstats_heap_alloc_bytes", gauge, "What the agent uses of its memory.", nil,
		func(s *Status, tell func(float64, ...string)) { tell(float64(s.Process.HeapBytes)) }},
	{"go_memstats_sys_bytes", gauge, "What the agent has of memory from the system.", nil,
		func(s *Status, tell func(float64, ...string)) { tell(float64(s.Process.SystemBytes)) }},
}

// devices makes a collection of one over each device.
func devices(of func(*Device, func(float64, ...string))) func(*Status, func(float64, ...string)) {
	return func(s *Status, tell func(float64, ...string)) {
		for i := range s.Lanes {
			for j := range s.Lanes[i].Devices {
				d := &s.Lanes[i].Devices[j]
				of(d, func(v float64, more ...string) { tell(v, append([]string{d.Lane, d.ID}, more...)...) })
			}
		}
	}
}

func uplinks(of func(*Uplink, func(float64, ...string))) func(*Status, func(float64, ...string)) {
	return func(s *Status, tell func(float64, ...string)) {
		for i := range s.Uplinks {
			u := &s.Uplinks[i]
			of(u, func(v float64, more ...string) { tell(v, append([]string{u.Name}, more...)...) })
		}
	}
}

func classes(of func(*SpoolClass, func(float64, ...string))) func(*Status, func(float64, ...string)) {
	return func(s *Status, tell func(float64, ...string)) {
		of(&s.Spool.Urgent, func(v float64, _ ...string) { tell(v, string(event.Urgent)) })
		of(&s.Spool.Routine, func(v float64, _ ...string) { tell(v, string(event.Routine)) })
	}
}

func unix(t event.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// writeMetrics writes a snapshot in the text format of Prometheus, version 0.0.4.
func writeMetrics(b *bytes.Buffer, s *Status) {
	helpText := strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelText := strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
	for _, m := range metrics {
		begun := false
		m.collect(s, func(v float64, labels ...string) {
			if !begun {
				begun = true
				b.WriteString("# HELP " + m.Name + " " + helpText.Replace(m.Help) + "\n# TYPE " + m.Name + " " + m.Type + "\n")
			}
			b.WriteString(m.Name)
			for i, name := range m.Labels {
				sign := byte(',')
				if i == 0 {
					sign = '{'
				}
				b.WriteByte(sign)
				b.WriteString(name + `="` + labelText.Replace(labels[i]) + `"`)
			}
			if len(m.Labels) > 0 {
				b.WriteByte('}')
			}
			b.WriteByte(' ')
			b.Write(strconv.AppendFloat(b.AvailableBuffer(), v, 'f', -1, 64))
			b.WriteByte('\n')
		})
	}
}

func (c *Console) metrics(w http.ResponseWriter, _ *http.Request) {
	s := c.o.Status()
	var b bytes.Buffer
	writeMetrics(&b, &s)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b.Bytes()) // who asked is gone otherwise
}
