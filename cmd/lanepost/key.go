package main

import (
	"crypto/ed25519"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/agent"
	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/protocol/evidence"
)

func keyCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Show or replace the key that signs the agent's checkpoints",
	}
	// both makes a command that finds the spool directory first.
	both := func(use, short, long string, do func(out io.Writer, dir string) error) {
		sub := &cobra.Command{
			Use: use, Short: short, Long: long, Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, err := config.Load(path)
				if err != nil {
					return err
				}
				return do(cmd.OutOrStdout(), cfg.Spool.Dir)
			},
		}
		sub.Flags().StringVarP(&path, "config", "c", defaultConfig, "configuration file")
		cmd.AddCommand(sub)
	}
	both("show", "Print the public key and its fingerprint",
		"show prints the public key that verifies this agent's checkpoints, and a short\n"+
			"fingerprint of it to compare by telephone.", showKey)
	both("rotate", "Make a new key",
		"rotate makes a new key. The agent takes it up at its next start or reload (SIGHUP):\n"+
			"it records the new key, endorsed by the old one, and deletes the old one.", rotateKey)
	return cmd
}

func showKey(out io.Writer, dir string) error {
	public, rotating, err := agent.SigningKey(dir)
	if err != nil {
		return fmt.Errorf("%w; the agent makes its key at its first start", err)
	}
	printKey(out, public)
	if rotating {
		fmt.Fprintln(out, "This key is new. The agent takes it up at its next start or reload.")
	}
	return nil
}

func rotateKey(out io.Writer, dir string) error {
	public, err := agent.RotateSigningKey(dir)
	if err != nil {
		return err
	}
	printKey(out, public)
	fmt.Fprintln(out, "The agent takes this key up at its next start or reload: systemctl reload lanepost")
	return nil
}

func printKey(out io.Writer, k ed25519.PublicKey) {
	fmt.Fprintf(out, "public key   %s\nfingerprint  %s\n", evidence.FormatKey(k), evidence.Fingerprint(k))
}
