// Package command is `caddy mcp`: what an operator asks on the command line.
package command

import (
	"errors"
	"fmt"
	"io"
	"os"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "mcp",
		Usage: "<command>",
		Short: "Asks and manages the MCP gateway",
		Long: `
Asks the MCP gateway of a configuration what it would decide, and manages it.
Each command describes itself with --help.`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.AddCommand(canCommand(), testCommand(), diffCommand(), revokeCommand())
			cmd.AddCommand(userCommand(), teamCommand(), tokenCommand(), sessionCommand(), keyCommand(), serversCommand(), wellKnownCommand(), securityCommand())
			cmd.Args = cobra.ArbitraryArgs
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				if len(args) == 0 {
					return cmd.Help()
				}
				return exit(cmd, failed, fmt.Errorf("there is no command %q; see caddy mcp --help", args[0]))
			}
		},
	})
}

// The exit codes: those of diff and grep.
const (
	yes    = 0
	no     = 1
	failed = 2
)

// runner does what a command is for, and returns the exit code.
type runner func(cmd *cobra.Command, args []string) (int, error)

// newCommand makes a command whose every mistake ends with the exit code for it.
func newCommand(use, short, long string, run runner) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.ArbitraryArgs, DisableFlagsInUseLine: true}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		code, err := run(cmd, args)
		return exit(cmd, code, err)
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return exit(cmd, failed, err) })
	return cmd
}

var errNo = errors.New("the answer is no")

// exit makes the error that ends Caddy with an exit code. It has been printed then.
func exit(cmd *cobra.Command, code int, err error) error {
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %v\n", cmd.CommandPath(), err)
		code = failed
	}
	switch code {
	case yes:
		return nil
	case no:
		return errNo // 1 is what Caddy makes of any error
	}
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return code, nil })(cmd, nil)
}

// maxInput bounds what is read of a file with a token or with claims.
const maxInput = 1 << 20

// input reads a file, or standard input if its name is "-".
func input(cmd *cobra.Command, name string) ([]byte, error) {
	from := cmd.InOrStdin()
	if name != "-" {
		file, err := os.Open(name) //nolint:gosec // the file that the user names
		if err != nil {
			return nil, err
		}
		defer file.Close()
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, maxInput+1))
	if err == nil && len(text) > maxInput {
		err = fmt.Errorf("%s is too large", name)
	}
	return text, err
}

// claimsIn reads the claims of a hypothetical token, in the way those of a token are.
func claimsIn(cmd *cobra.Command, name string) (map[string]any, error) {
	text, err := input(cmd, name)
	if err != nil {
		return nil, err
	}
	var claims map[string]any
	if err := json.Unmarshal(text, &claims); err != nil || claims == nil {
		return nil, fmt.Errorf("%s: the claims are not a JSON object", name)
	}
	return claims, nil
}

// printJSON prints one object in one line.
func printJSON(cmd *cobra.Command, v any) error {
	text, err := json.Marshal(v, json.Deterministic(true))
	if err == nil {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", text)
	}
	return err
}

func addConfigFlags(cmd *cobra.Command, otherwise string) {
	cmd.Flags().StringP("config", "c", "", "Configuration file, - for standard input (default: "+otherwise+")")
	cmd.Flags().StringP("adapter", "a", "", "Name of the configuration's adapter")
}

func flag(cmd *cobra.Command, name string) string { return cmd.Flags().Lookup(name).Value.String() }

func wantsJSON(cmd *cobra.Command) bool { return flag(cmd, "json") == "true" }
