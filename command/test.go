package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/caddymcp/caddy-mcp-gateway/command/expect"
	"github.com/caddymcp/caddy-mcp-gateway/command/gateways"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

func testCommand() *cobra.Command {
	cmd := newCommand("test [flags] <file>...", "Checks a table of what is expected to be allowed", `
Asks the gateway of a configuration every question of a table, as caddy mcp can
does, and compares the answers with the expected ones. It stops at the first
that differs, or with --all goes on. Keys and tokens are not needed.

  caddy mcp test policy_test.yaml

The table is YAML; what is not known in it is an error:

  config: Caddyfile            # from here; --config overrules it
  adapter: caddyfile           # if the file's name does not say it
  public_url: https://mcp.example.com   # if there are several gateways
  principals:                  # their claims
    ana: {groups: [data-team]}
  expect:
    - principal: ana
      method: tools/call
      object: warehouse/query_sales     # server/object, or the server alone
      args: {limit: 10}
      allowed: true
      rule: allow tools.execute warehouse/query_*

Each expectation needs principal, method and allowed. It may say args, ref,
protocol, client_ip and time, as the flags of caddy mcp can. And it may expect
layer, reason, role and rule, and scopes, the list of those that would help.

Exit code: 0 all are as expected, 1 some differ, 2 they could not be asked.`, runTest)
	addConfigFlags(cmd)
	cmd.Flags().Bool("all", false, "Go on after the first that differs")
	cmd.Flags().Bool("json", false, "Print the outcome as JSON")
	return cmd
}

// outcome is that of one table.
type outcome struct {
	File         string              `json:"file"`
	Expectations int                 `json:"expectations"`
	Asked        int                 `json:"asked"`
	Agreed       int                 `json:"agreed"`
	Differences  []printedDifference `json:"differences"`
}

type printedDifference struct {
	Line      int                  `json:"line"`
	Principal string               `json:"principal"`
	Differs   []expect.Point       `json:"differs"`
	Got       *mcpauth.Explanation `json:"got"`
}

func runTest(cmd *cobra.Command, args []string) (int, error) {
	if len(args) == 0 {
		return failed, errors.New("name the file with the expectations, such as policy_test.yaml")
	}
	all, err := cmd.Flags().GetBool("all")
	if err != nil {
		return failed, err
	}
	code := yes
	for _, file := range args {
		o, err := check(cmd, file, all)
		if err != nil {
			return failed, err
		}
		if len(o.Differences) > 0 {
			code = no
		}
		if wantsJSON(cmd) {
			if err := printJSON(cmd, o); err != nil {
				return failed, err
			}
		} else {
			printOutcome(cmd, o)
		}
		if code == no && !all {
			break
		}
	}
	return code, nil
}

// check asks what a table asks.
func check(cmd *cobra.Command, file string, all bool) (*outcome, error) {
	table, err := expect.Read(file)
	if err != nil {
		return nil, err
	}
	if overruled := flag(cmd, "config"); overruled != "" {
		table.Config, table.Adapter = overruled, ""
	}
	if overruled := flag(cmd, "adapter"); overruled != "" {
		table.Adapter = overruled
	}
	if table.Config == "" {
		return nil, fmt.Errorf("%s: config is missing: name the configuration's file, there or with --config", file)
	}
	set, err := gateways.Load(table.Config, gateways.Options{Adapter: table.Adapter})
	if err != nil {
		return nil, err
	}
	o := &outcome{File: file, Expectations: len(table.Expectations), Differences: []printedDifference{}}
	for _, e := range table.Expectations {
		d, err := e.Check(table, set)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, e.Line, err)
		}
		o.Asked++
		if d == nil {
			o.Agreed++
			continue
		}
		o.Differences = append(o.Differences, printedDifference{e.Line, e.Principal, d.Points, d.Got})
		if !all {
			break
		}
	}
	return o, nil
}

func printOutcome(cmd *cobra.Command, o *outcome) {
	w := cmd.OutOrStdout()
	for _, d := range o.Differences {
		fmt.Fprintf(w, "%s:%d: %s is not as expected\n", o.File, d.Line, shown(d.Principal))
		for _, p := range d.Differs {
			fmt.Fprintf(w, "  expected  %s %s\n  got       %s %s\n", p.What, quoted(p.Expected), p.What, quoted(p.Got))
		}
		printExplanation(w, "  ", d.Got)
	}
	switch {
	case len(o.Differences) == 0:
		fmt.Fprintf(w, "ok    %s: %d as expected\n", o.File, o.Agreed)
	case o.Asked < o.Expectations:
		fmt.Fprintf(w, "FAIL  %s: %d as expected, %d not, %d not asked\n", o.File, o.Agreed, len(o.Differences), o.Expectations-o.Asked)
	default:
		fmt.Fprintf(w, "FAIL  %s: %d as expected, %d not\n", o.File, o.Agreed, len(o.Differences))
	}
}

// quoted makes nothing visible.
func quoted(text string) string {
	if text == "" {
		return `""`
	}
	return shown(text)
}
