// Package simulator is a lane without hardware: a world of vehicles, and
// instruments that observe it and speak their own wire protocols.
//
// A [Scenario] says which vehicles pass, which instruments stand in the lane,
// and what goes wrong. Instruments are generators on simulated time: a scenario
// and its seed give a sequence of bytes with the time of each, and the ground
// truth (what really happened) beside it. The same seed gives the same bytes
// and the same truth, however fast they are played and whoever listens; between
// processor architectures a rounding may differ.
//
//	Generate    gives all bytes and the truth at once, on simulated time
//	New         makes a Simulation: plays the bytes on TCP or a pseudo-terminal
//	Start       the same for a test of any Go project, with cleanup
//	Serve       plays one instrument onto a connection that the caller has
//	Replay      plays a recorded file, byte for byte
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
