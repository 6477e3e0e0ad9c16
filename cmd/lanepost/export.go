package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/n42"
)

// maxEventLine bounds a line of a file of events.
const maxEventLine = 64 << 20

func exportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write what was observed in a format of others",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(exportN42Command())
	return cmd
}

func exportN42Command() *cobra.Command {
	var at spoolAt
	var file, occupancy string
	about := n42Portal{Manufacturer: "unspecified", Model: "unspecified", GammaKind: "Other", NeutronKind: "Other"}
	cmd := &cobra.Command{
		Use:   "n42 FILE --occupancy ID",
		Short: "Write an occupancy of a radiation portal as ANSI N42.42-2012",
		Long: "n42 looks for an occupancy in the spool, or in a file of events as spool export and\n" +
			"receivers write them, one event to a line, and writes it as a document of ANSI\n" +
			"N42.42-2012 (IEC 62755) to a new file; with - to standard output.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("name the file to write, or - for standard output")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if occupancy == "" {
				return usageError{errors.New("--occupancy: give the id of the occupancy, which is the subject of its event")}
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			dir := ""
			var found *foundOccupancy
			if file != "" {
				f, err := os.Open(file)
				if err != nil {
					return err
				}
				found, err = occupancyInFile(f, occupancy)
				if err = errors.Join(err, f.Close()); err != nil {
					return fmt.Errorf("%s: %w", file, err)
				}
			} else {
				i, err := at.inspect()
				if err != nil {
					return err
				}
				dir = i.Dir
				if found, err = occupancyInSpool(ctx, i, occupancy); err != nil {
					return hinted(err)
				}
			}
			if found == nil {
				return fmt.Errorf("there is no occupancy %s: its event may be delivered and gone from the spool; --file reads those of a receiver", occupancy)
			}
			made, err := occupancyDocument(found, about)
			if err != nil {
				return err
			}
			document, err := n42.Append(nil, made)
			if err != nil {
				return err
			}
			write := func(out io.Writer) error {
				_, err := out.Write(document)
				return err
			}
			if args[0] == "-" {
				return write(cmd.OutOrStdout())
			}
			return newFile(args[0], dir, write)
		},
	}
	f := cmd.Flags()
	f.StringVar(&occupancy, "occupancy", "", "id of the occupancy")
	f.StringVar(&file, "file", "", "file of events, one to a line, instead of the spool")
	f.StringVarP(&at.config, "config", "c", defaultConfig, "configuration file that names the spool and its key file")
	f.StringVar(&at.dir, "spool", "", "the spool's directory, instead of a configuration")
	f.StringVar(&at.keyFile, "key-file", "", "file with the keys of an encrypted spool")
	f.StringVar(&about.Manufacturer, "manufacturer", about.Manufacturer, "manufacturer of the portal, which its events do not tell")
	f.StringVar(&about.Model, "model", about.Model, "model of the portal")
	f.StringVar(&about.GammaKind, "gamma-kind", about.GammaKind, "kind of its gamma detectors, such as PVT or NaI")
	f.StringVar(&about.NeutronKind, "neutron-kind", about.NeutronKind, "kind of its neutron detectors, such as He3")
	return cmd
}

// foundOccupancy is an occupancy with where it comes from.
type foundOccupancy struct {
	source string
	event.RadiationOccupancy
}

// occupancyOf reads an event; nil if it is none of that occupancy.
func occupancyOf(b []byte, id string) (*foundOccupancy, error) {
	if !bytes.Contains(b, []byte(id)) {
		return nil, nil
	}
	e, err := event.Parse(b)
	if err != nil {
		return nil, err
	}
	if e.Type != (event.RadiationOccupancy{}).Type() || e.Subject != id {
		return nil, nil
	}
	data, err := event.DecodeData(e)
	if err != nil {
		return nil, err
	}
	o, ok := data.(*event.RadiationOccupancy)
	if !ok {
		return nil, fmt.Errorf("an occupancy that is a %T", data)
	}
	return &foundOccupancy{e.Source, *o}, nil
}

func occupancyInSpool(ctx context.Context, i *spool.Inspection, id string) (found *foundOccupancy, err error) {
	for _, class := range event.Classes {
		err := i.Walk(ctx, spool.Walk{Class: class, Found: func(spool.Finding) {}, Record: func(r spool.Record) error {
			o, err := occupancyOf(r.Payload, id)
			if o != nil {
				found = o
			}
			return err
		}})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

func occupancyInFile(r io.Reader, id string) (found *foundOccupancy, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEventLine)
	for n := 1; lines.Scan(); n++ {
		o, err := occupancyOf(lines.Bytes(), id)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if o != nil {
			found = o
		}
	}
	return found, lines.Err()
}
