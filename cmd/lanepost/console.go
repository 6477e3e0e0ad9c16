package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

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
			password, err := askPassword(os.Stdin, cmd.ErrOrStderr())
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
func askPassword(in *os.File, out io.Writer) (string, error) {
	fd := int(in.Fd())
	if !term.IsTerminal(fd) {
		line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	ask := func(what string) (string, error) {
		fmt.Fprint(out, what+": ")
		b, err := term.ReadPassword(fd)
		fmt.Fprintln(out)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return string(b), nil
	}
	first, err := ask("Password")
	if err != nil {
		return "", err
	}
	second, err := ask("The same again")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two are not the same; nothing was made")
	}
	return first, nil
}
