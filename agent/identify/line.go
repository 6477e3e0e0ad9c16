package identify

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/order"
)

// line is the settings of a serial line.
type line struct {
	baud   int
	data   int
	parity string
	stop   int
}

// parities are the letters of the trade and the words of a connect URL.
var parities = map[byte]string{'N': "none", 'O': "odd", 'E': "even", 'M': "mark", 'S': "space"}

// parseLine reads "19200 8O1".
func parseLine(text string) (line, error) {
	baud, rest, _ := strings.Cut(text, " ")
	l := line{}
	var err error
	if l.baud, err = strconv.Atoi(baud); err != nil || len(rest) != 3 || parities[rest[1]] == "" {
		return l, fmt.Errorf("%q are no settings of a serial line; write for example \"19200 8O1\"", text)
	}
	l.data, l.parity, l.stop = int(rest[0]-'0'), parities[rest[1]], int(rest[2]-'0')
	if l.data < 5 || l.data > 8 || l.stop < 1 || l.stop > 2 {
		return l, fmt.Errorf("%q: there are 5 to 8 data bits, and 1 or 2 stop bits", text)
	}
	return l, nil
}

// String writes it as the trade does.
func (l line) String() string {
	return fmt.Sprintf("%d %d%s%d", l.baud, l.data, strings.ToUpper(l.parity[:1]), l.stop)
}

// options are those of a connect URL.
func (l line) options() []string {
	return []string{"baud=" + strconv.Itoa(l.baud), "data=" + strconv.Itoa(l.data), "parity=" + l.parity, "stop=" + strconv.Itoa(l.stop)}
}

// usualLines are tried after those that profiles name, the likeliest first.
var usualLines = []string{
	"9600 8N1", "19200 8N1", "115200 8N1", "4800 8N1", "38400 8N1", "57600 8N1", "2400 8N1", "1200 8N1",
	"9600 8E1", "19200 8E1", "9600 8O1", "19200 8O1", "4800 8E1", "2400 8E1", "38400 8E1", "115200 8E1",
}

// hears is the line to listen at so that l is understood. A character of seven bits and
// a parity bit has the length of one of eight without: its parity is looked at afterwards,
// so that one setting of the port stands for five of the line (see readings).
func (l line) hears() line {
	if l.data == 7 && !(l.parity == "none" && l.stop == 1) {
		return line{l.baud, 8, "none", 1}
	}
	return l
}

// lines are what to listen at, the likeliest first: what profiles declare, those first
// that most of them do, then the usual ones.
func (r *Recogniser) lines() []line {
	count := map[line]int{}
	var sequence []line
	add := func(text string) {
		l, err := parseLine(text)
		if err != nil {
			return // the profile's own parser has told
		}
		l = l.hears()
		if count[l] == 0 {
			sequence = append(sequence, l)
		}
		count[l]++
	}
	seen := map[string]bool{}
	for _, c := range r.candidates {
		if seen[c.profile.Name] || !slices.Contains(c.driver.Schemes, "serial") {
			continue
		}
		seen[c.profile.Name] = true
		for _, l := range c.profileLines() {
			add(l.String())
		}
	}
	order.Stable(sequence, func(a, b line) int { return count[b] - count[a] })
	for _, l := range usualLines {
		add(l)
	}
	return sequence
}

// profileLines are the settings that a profile declares, complete ones only.
func (c *candidate) profileLines() []line {
	var all []line
	for _, text := range c.profile.Identify.Lines {
		if l, err := parseLine(text); err == nil {
			all = append(all, l)
		}
	}
	d := c.profile.Link
	if d["baud"] != "" && d["data"] != "" && d["parity"] != "" && d["stop"] != "" {
		if l, err := parseLine(fmt.Sprintf("%s %s%s%s", d["baud"], d["data"], strings.ToUpper(d["parity"][:1]), d["stop"])); err == nil {
			all = append(all, l)
		}
	}
	return all
}

// reading is what was heard at a line, under one of the settings that it can stand for.
type reading struct {
	line  line
	heard *heard
}

// readings gives what was heard at a line with eight bits as it came, and, if the highest
// bit is a parity of the others, without it. Seven bits with a parity and two stop bits
// are, bit for bit, eight with the other parity.
func readings(l line, h *heard) []reading {
	all := []reading{{l, h}}
	if l.data != 8 {
		return all
	}
	const few = 12
	if h.bytes < few {
		return all
	}
	var ones, even, odd int
	for _, c := range h.chunks {
		for _, b := range c.Bytes {
			ones += int(b >> 7)
			if bits.OnesCount8(b)%2 == 0 {
				even++
			} else {
				odd++
			}
		}
	}
	if ones == 0 {
		return all
	}
	nearly := func(n int) bool { return 50*(h.bytes-n) <= h.bytes }
	seven := line{l.baud, 7, "", 1}
	switch {
	case l.parity == "none" && nearly(ones):
		// A bit that is always set: a second stop bit.
		seven.parity, seven.stop = "none", 2
	case l.parity == "none" && nearly(even):
		seven.parity = "even"
	case l.parity == "none" && nearly(odd):
		seven.parity = "odd"
	case l.parity == "odd" && nearly(even):
		seven.parity, seven.stop = "even", 2
	case l.parity == "even" && nearly(odd):
		seven.parity, seven.stop = "odd", 2
	default:
		return all
	}
	stripped := &heard{bytes: h.bytes}
	for _, c := range h.chunks {
		b := slices.Clone(c.Bytes)
		for i := range b {
			b[i] &= 0x7f
		}
		stripped.chunks = append(stripped.chunks, drivers.Chunk{At: c.At, Bytes: b})
	}
	return append(all, reading{seven, stripped})
}
