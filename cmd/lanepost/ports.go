package main

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/drivers/link"
)

func portsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ports",
		Short: "List the serial ports with their USB identity",
		Long: "ports lists the serial ports of this machine. Use the stable name in the\n" +
			"configuration: it stays with the adapter, whichever socket it is plugged into.\n" +
			"No port is opened.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ports, err := link.Ports()
			if err != nil {
				return fmt.Errorf("list the serial ports: %w", err)
			}
			out := cmd.OutOrStdout()
			if len(ports) == 0 {
				fmt.Fprintln(out, "No serial port found. Plug the adapter in and run this again; `dmesg | tail` shows what the kernel makes of it.")
				return nil
			}
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "PORT\tUSB ID\tPRODUCT\tSERIAL\tDRIVER\tSTABLE NAME\tNOTE")
			for _, p := range ports {
				usb := ""
				if p.VID != "" {
					usb = p.VID + ":" + p.PID
				}
				note := p.Problem
				if len(p.Users) > 0 {
					note = strings.TrimPrefix(note+"; open in "+strings.Join(p.Users, ", "), "; ")
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, cmp.Or(usb, "-"),
					cmp.Or(strings.TrimSpace(p.Manufacturer+" "+p.Product), "-"), cmp.Or(p.SerialNumber, "-"), cmp.Or(p.Driver, "-"), p.Stable(), cmp.Or(note, "-"))
			}
			return w.Flush()
		},
	}
}
