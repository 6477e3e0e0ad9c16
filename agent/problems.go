package agent

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/agent/uplink"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/order"
)

// How bad a problem is, the worst first: what loses events or leaves a lane unobserved,
// then what will.
const (
	badDisk = iota
	badDevice
	badPressure
	badUplink
	badConfig
	badTaps
	badClock
	badSoon
)

// lossTold is how long it counts as a problem that something was lost or deleted.
const lossTold = time.Hour

// problem is something that is wrong now.
type problem struct {
	console.Problem
	bad int
}

func (p problem) text() string {
	if p.ToDo == "" {
		return p.What
	}
	return p.What + "; " + p.ToDo
}

// problems lists what is wrong now, in words, the worst first, with what the disk said, and
// since when it has not.
func (a *Agent) problems(disk onDisk, old time.Time) []string {
	var list []string
	if !old.IsZero() {
		list = append(list, problem{Problem: silentDisk(old)}.text())
	}
	for _, p := range a.problemList(disk.spool, disk.taps) {
		list = append(list, p.text())
	}
	return list
}

// silentDisk is the problem of a disk that has not answered since a time.
func silentDisk(since time.Time) console.Problem {
	return console.Problem{
		What: "the disk of the spool directory does not answer since " + since.UTC().Format(time.RFC3339),
		ToDo: "look at the system's log for errors of the disk, and replace it if there are any",
	}
}

// problemList lists what is wrong now, the worst first. What a hanging disk may hold up
// is given to it.
func (a *Agent) problemList(stats spool.Stats, taps []string) []problem {
	var list []problem
	add := func(bad int, device, what, toDo string) {
		list = append(list, problem{console.Problem{What: what, Device: device, ToDo: toDo}, bad})
	}
	a.mu.Lock()
	if a.refused != "" {
		add(badDisk, "", "the disk does not take events: "+a.refused, a.refusedHint)
	}
	for _, text := range a.refusedConfig {
		toDo := "restart the agent (systemctl restart lanepost)"
		if strings.HasPrefix(text, refusedFile) {
			toDo = "mend the file and reload; until then the old configuration goes on"
		}
		add(badConfig, "", text, toDo)
	}
	doors := a.console
	a.mu.Unlock()
	if a.joins != nil && a.joins.broken != "" {
		add(badConfig, "", a.joins.broken, "")
	}
	for _, d := range a.deviceList() {
		key := d.cfg.Lane + "/" + d.cfg.ID
		reason, toDo := d.sup.Trouble()
		if s := d.sup.State(); s.State != "online" && s.State != "connecting" {
			add(badDevice, key, fmt.Sprintf("%s is %s: %s", key, s.State, reason), toDo)
		}
		// A device can tell its time before it is online.
		if text, toDo := d.clockWords(); text != "" {
			add(badClock, key, key+": "+text, toDo)
		}
	}
	for _, text := range taps {
		add(badTaps, "", text, "")
	}
	for _, one := range pressures(stats) {
		add(badPressure, "", one[0], one[1])
	}
	now := time.Now()
	if at := stats.Deleted; !at.IsZero() && now.Sub(at) < lossTold {
		add(badDisk, "", "somebody deleted files of the spool at "+at.UTC().Format(time.RFC3339)+
			"; what can't be written anew is in a loss event", "find out who or what deletes there")
	}
	if n, at := a.recent.losses(); n > 0 && now.Sub(at) < lossTold {
		add(badPressure, "", fmt.Sprintf("%d events were lost since the agent's start, the last at %s", n, at.UTC().Format(time.RFC3339)),
			"the loss events say which and why")
	}
	for _, u := range a.currentUplinks() {
		list = append(list, uplinkProblems(u.Status(), now)...)
	}
	if sync, _ := a.clock.quality(now); sync == "no" {
		add(badClock, "", "the clock of this box is not synchronised", "check its time server")
	}
	if doors != nil {
		for _, p := range doors.Problems() {
			list = append(list, problem{p, badTaps})
		}
	}
	order.Stable(list, func(x, y problem) int { return cmp.Compare(x.bad, y.bad) })
	return list
}

// clockWords say what is wrong with the device's clock by what it told last, and what to
// do; empty if nothing is, or it told no time.
func (d *device) clockWords() (text, toDo string) {
	offset, _ := d.sup.ClockOffset()
	return drivers.ClockWords(offset)
}

// pressures tells what the spool is short of, each with what to do.
func pressures(s spool.Stats) [][2]string {
	if s.Pressure == "" {
		return nil
	}
	words := map[string][2]string{
		"disk":        {"the disk of the spool directory is nearly full: routine events give way, and a loss event says which", "make room on it, outside of the spool directory"},
		"urgent cap":  {"urgent events have nearly reached their cap: when it is reached, instruments are not read on", "bring the broker back, or raise spool.urgent.max_size"},
		"routine cap": {"routine events have nearly reached their cap: the oldest give way, and a loss event says which", "bring the broker back, or raise spool.routine.max_size"},
	}
	if s.Total > 0 && s.Free <= 0 {
		words["disk"] = [2]string{
			"the disk of the spool directory is full: routine events give way, and a loss event says which; at the end instruments wait",
			"make room on it, outside of the spool directory; delete nothing in that",
		}
	}
	var list [][2]string
	for _, one := range strings.Split(s.Pressure, ", ") {
		text, ok := words[one]
		if !ok {
			text[0] = "the spool is short of " + one
		}
		list = append(list, text)
	}
	return list
}

// shortFor is how long there must be room before a shortage is over: what gives way makes
// some for a moment.
const shortFor = time.Minute

// tellShort logs what the spool gets short of, once when it begins and once when it is over.
func (a *Agent) tellShort(s spool.Stats, now time.Time) {
	if a.short == nil {
		a.short = map[string]time.Time{}
	}
	for _, one := range pressures(s) {
		if _, told := a.short[one[0]]; !told {
			a.log.Warn("the spool is short of room", "err", one[0], "hint", one[1])
		}
		a.short[one[0]] = now
	}
	for text, last := range a.short {
		if now.Sub(last) >= shortFor {
			delete(a.short, text)
			a.log.Info("the spool has room again", "was", text)
		}
	}
}

// uplinkProblems lists what is wrong with an uplink. Others than the one that
// tells the state may be down.
func uplinkProblems(s uplink.Status, now time.Time) []problem {
	var list []problem
	add := func(bad int, what, toDo string) {
		list = append(list, problem{console.Problem{What: what, ToDo: toDo}, bad})
	}
	if s.State != uplink.Online && s.LastError != "" {
		add(badUplink, fmt.Sprintf("the uplink %s has no broker since %s: %s", s.Name, s.Since.UTC().Format(time.RFC3339), s.LastError), s.Hint)
	}
	for _, p := range s.Problems(now) {
		bad := badSoon
		if p.Critical {
			bad = badUplink
		}
		add(bad, p.What, p.ToDo)
	}
	for _, e := range s.Stuck {
		add(badUplink, fmt.Sprintf("the uplink %s can't get %s sequence %d past its broker", s.Name, e.Class, e.Sequence), uplink.StuckHint)
	}
	for _, topic := range s.LeftOut {
		add(badUplink, fmt.Sprintf("the uplink %s leaves the state %s out: its broker closes the connection when it comes", s.Name, topic), uplink.LeftOutHint)
	}
	if s.SpoolError != "" {
		add(badDisk, s.SpoolError, "")
	}
	return list
}
