// Package tsa is the line protocol of Rapiscan/TSA radiation portal monitors
// (SC-7xx and SC-8xx controllers; VM-250, TM-850 and RPM4500 families): ASCII
// records parted by commas, ended by CR LF, sent by the controller without
// being asked and without a time.
//
// It decodes and encodes; it does no I/O and reads no clock.
package tsa

import "time"

// Tag is the name that a record begins with. Known tags are the constants;
// any other tag of two to four capital letters and digits is kept as it came.
type Tag string

// Classic records: a tag and four groups of six characters, 30 in all.
const (
	GB Tag = "GB" // gamma background, normal
	GH Tag = "GH" // gamma background, high fault
	GL Tag = "GL" // gamma background, low fault
	NB Tag = "NB" // neutron background, normal
	NH Tag = "NH" // neutron background, high fault
	GS Tag = "GS" // gamma scan sample, 200 ms
	GA Tag = "GA" // gamma scan sample, alarming
	NS Tag = "NS" // neutron scan sample, 1 s
	NA Tag = "NA" // neutron scan sample, alarming
	GX Tag = "GX" // end of occupancy
	SP Tag = "SP" // speed
	TT Tag = "TT" // tamper on
	TC Tag = "TC" // tamper clear
)

// Setup records, sent in one burst.
const (
	SG1 Tag = "SG1"
	SG2 Tag = "SG2"
	SG3 Tag = "SG3"
	SN1 Tag = "SN1"
	SN2 Tag = "SN2"
)

// Extended records of newer firmware. Only NB1 is understood; the others are
// kept as text.
const (
	NB1 Tag = "NB1" // neutron background, not cut to whole numbers
	AB1 Tag = "AB1"
	AR  Tag = "AR"
	AS  Tag = "AS"
	AM  Tag = "AM"
	AX  Tag = "AX"
	AA  Tag = "AA"
	AC  Tag = "AC"
	NC  Tag = "NC"
	NX  Tag = "NX"
	NZ  Tag = "NZ"
	RW  Tag = "RW"
)

// Detectors is the number of detector places in a record.
const Detectors = 4

// Record is one decoded record. Which fields hold something depends on Tag.
type Record struct {
	Tag Tag
	// Counts of the four detectors: counts per second in GB GH GL NB NH,
	// counts in 200 ms in GS GA, counts in 1 s in NS NA; the bare values of
	// TT and TC.
	Counts [Detectors]int
	// Counter is the occupancy number of GX.
	Counter int
	// NeutronBackground is the second field of GX in 1/1000 counts per second.
	NeutronBackground int
	// Speed is what SP tells.
	Speed Speed
	// NeutronRates are the uncut neutron backgrounds of NB1 in counts per second.
	NeutronRates [Detectors]float64
	// Setup is set for SG1 to SN2.
	Setup *Setup
	// Fields is the rest of the line after the tag, as it came, for setup,
	// extended and unknown records. It aliases the line that was parsed.
	Fields []byte

	// Time is the time column that files append and the wire does not have.
	Time TimeColumn
	// Guarded is true when the record came between '!' and '#'.
	Guarded bool
}

// Known reports whether the tag is one of this package's constants.
func (r Record) Known() bool { return known[r.Tag] }

// Speed is the content of SP. One foot is the distance between the beams.
type Speed struct {
	// SecondsPerFoot has four decimals; it may be zero.
	SecondsPerFoot float64
	// MPH is capped at 99.999, KPH at 160.93 by the portal.
	MPH, KPH float64
}

// TimeColumn is the optional last field of a record in a file.
type TimeColumn struct {
	// Form tells which of the two forms it had.
	Form TimeForm
	// At is the time. With FormDaily only the time of day is known: At is then
	// on 1 January of year 1, in UTC, and stands for local time.
	At time.Time
}

// TimeForm is the form of a time column.
type TimeForm int

// Forms of the time column.
const (
	FormNone  TimeForm = iota // none, as on the wire
	FormDaily                 // HH-MM-SS.mmm, local
	FormFull                  // YYYY-MM-DD HH:MM:SS.mmm -07
)

// known holds the tags that this package has a name for.
var known = map[Tag]bool{
	GB: true, GH: true, GL: true, NB: true, NH: true, GS: true, GA: true, NS: true, NA: true,
	GX: true, SP: true, TT: true, TC: true, SG1: true, SG2: true, SG3: true, SN1: true, SN2: true,
	NB1: true, AB1: true, AR: true, AS: true, AM: true, AX: true, AA: true, AC: true,
	NC: true, NX: true, NZ: true, RW: true,
}
