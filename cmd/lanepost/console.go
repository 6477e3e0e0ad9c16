package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/agent/console"
)

func consoleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "console",
		Short: "Make passwords for those who may see the agent in a browser",
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "password NAME",
		Short: "Make a line of the file of users",
		Long: "password asks for a password and prints a line for the file that console.users_file\n" +
			"names. Without a terminal it reads one line from standard input.\n\n" +
			"  lanepost console password anna >> /etc/lanepost/users",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("name one user")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := askPassword(cmd.Context(), os.Stdin, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			line, err := console.UserLine(args[0], password)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), line)
			return nil
		},
	})
	return cmd
}

// askPassword asks twice on a terminal, else it reads a line.
func askPassword(ctx context.Context, in *os.File, out io.Writer) (string, error) {
	if !onTerminal(in) {
		line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	var first, second string
	err := askOnTerminal(ctx, in, out, func(a *asker) (err error) {
		if first, err = a.secret("Password"); err == nil {
			second, err = a.secret("The same again")
		}
		return err
	})
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two are not the same; nothing was made")
	}
	return first, nil
}
