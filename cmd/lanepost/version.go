package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/cmd/internal/version"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit and its date, and the platform",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintln(cmd.OutOrStdout(), "lanepost", version.String())
			return nil
		},
	}
}
