// Package simulator is a lane without hardware: a world of vehicles, and
// instruments that observe it and speak their own wire protocols.
//
// A [Scenario] says which vehicles pass, which instruments stand in the lane,
// and what goes wrong. Instruments are generators on simulated time, and the
// ground truth (what really happened) is beside what they send.
//
//	Generate    gives all bytes of the portals and the truth at once, on simulated time
//	New         makes a Simulation: plays the instruments on TCP, HTTP, pseudo-terminals and in folders
//	Start       the same for a test of any Go project, with cleanup
//	Serve       plays one portal onto a connection that the caller has
//	Replay      plays a recorded file, byte for byte
//
// # What is the same each time
//
// A scenario and its seed give the same truth on the clock, at any speed, but for
// what clients and hosts have a part in: the entries of kind link, what became of a
// sighting (sent, resent, lost), and what a lost record touched. Between processor
// architectures a rounding may differ.
//
// The bytes of a tsa-portal, and the time of each, are the same at any speed and
// whoever listens. Those of the other models are not by themselves: many write
// the time by their clock, which begins with the real time, and some ids from it; and
// what is asked for depends on who asks. With a CameraSettings.ClockStart what an
// instrument sends by itself, over a line or to its host, is the same at any speed
// above 0, to a client that is there from the beginning (Options.Wait).
//
// At speed 0 no time passes: what instruments say of the vehicles comes, and most of
// what they say between them does not, such as the readings of an empty scale or
// of an area monitor, the N42 document of each second, heartbeats.
//
// # Truth
//
// The truth is written from the world and from the numbers that an instrument
// decided to send, before they were encoded; nothing in it comes from decoding
// bytes. Faults on the wire are applied to the bytes after encoding, and every
// occupancy lists which of them touched its records, so that a test can explain
// each difference between what a receiver says and what happened.
//
// # Links
//
// A TCP instrument serves one client at a time, as the controllers of portals
// do; further clients are reset. Records that fall due while no client is there
// are lost, and the truth counts them. An instrument without power also resets
// its clients: giving the port up instead could lose it to somebody else.
//
// A serial instrument is the master side of a pseudo-terminal (Linux and
// darwin). The slave side is in raw mode from the beginning. On Linux the
// simulator sees when a program opens and closes the terminal, and records are
// lost while nobody has it open; on darwin it can't see that and always sends.
// A serial line has no connection that could break: a fault that cuts a TCP
// connection makes a serial line silent.
package simulator
