package link

import "fmt"

// Shares of a sample by which bytes are taken for text, and for noise, in per cent.
const (
	mostlyText = 90
	mostlyNot  = 60
)

// Strange says in one sentence what to do about bytes that came over a link and of which
// no record could be made: what a wrong speed, a wrong parity or another instrument make
// of a line can be told apart. It repeats nothing of the bytes, which may be somebody's
// number plate.
func Strange(e Endpoint, sample []byte) string {
	text, bare, odd, even := 0, 0, 0, 0
	for _, b := range sample {
		if printable(b) {
			text++
		}
		if printable(b & 0x7f) {
			bare++
		}
		if ones(b)%2 == 1 {
			odd++
		} else {
			even++
		}
	}
	share := func(n int) int { return 100 * n / max(len(sample), 1) }
	on, isSerial := e.(*serialEndpoint)
	switch {
	case len(sample) == 0:
		return "check what is connected there"
	case isSerial && share(text) < mostlyText && share(bare) >= mostlyText && share(max(odd, even)) == 100:
		parity := "odd"
		if even > odd {
			parity = "even"
		}
		return fmt.Sprintf("the line is set to %s, and what comes has a parity bit in each byte: set data=7 and parity=%s", on.line, parity)
	case isSerial && share(text) < mostlyNot:
		return fmt.Sprintf("the line is set to %s, and what comes looks like the noise of a wrong speed or parity: set baud, parity and stop as in the instrument's manual; "+
			"if the manual does not say, stop the agent and let lanepost identify %s try them", on.line, SerialPath(e))
	case isSerial && share(text) >= mostlyText:
		return fmt.Sprintf("what comes is clean text, so the line (%s) is set right: another instrument is on this port, or the profile is the wrong one; with the agent stopped, lanepost identify %s tries every profile", on.line, SerialPath(e))
	case isSerial:
		return fmt.Sprintf("check baud, parity and stop (now %s) against the instrument's manual, and the profile; another instrument may be on this port", on.line)
	case share(text) >= mostlyText:
		return "what comes is text of another kind: another instrument answers there, or the profile is the wrong one; check address, port number and profile"
	}
	return "what comes is of another kind: another instrument answers there, or the profile is the wrong one; check address, port number and profile, " +
		"and the line settings of a serial gateway in between"
}

// printable says whether a byte belongs to text as instruments send it, framing
// characters among it.
func printable(b byte) bool {
	return b >= ' ' && b < 0x7f || b == '\r' || b == '\n' || b == '\t' || b == 2 || b == 3
}

func ones(b byte) (n int) {
	for ; b != 0; b &= b - 1 {
		n++
	}
	return n
}
