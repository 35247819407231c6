package command

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/caddymcp/caddy-mcp-gateway/command/compare"
	"github.com/caddymcp/caddy-mcp-gateway/command/expect"
	"github.com/caddymcp/caddy-mcp-gateway/command/gateways"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

func diffCommand() *cobra.Command {
	cmd := newCommand("diff [flags] <old> <new>", "Lists who gains or loses what between two configurations", `
Compares what two configurations allow, and lists who gains (+) or loses (-)
what, or has it under other conditions (~).

  caddy mcp diff Caddyfile.old Caddyfile

It does not compare how they are written but what they answer, so that rules
which are only moved, renamed or put in other words are no difference. By
default it asks for every kind of principal: those whose tokens have what the
roles' conditions look for, alone and, where a role denies, two roles together,
of the teams in which the roles hold, and of those who see what is not for all.
With --as-claims or --principals it asks for certain ones.

  + everything that is named may be done now
  - nothing of what is named may be done any more; * is anything at all
  (in part, such as ...) it is so only of some of it

A principal is named by what its token says: groups=a|b is for either value,
scope=mcp:all for whatever scopes give a permission, teams=any for any team.

Names of tools and prompts are compared exactly: one of every combination of
patterns is asked. URIs are compared in the same way with some unusual spellings
of each; a difference about other spellings only can be missed. Conditions (if)
count as changed when their text has. Which tokens are accepted is not compared,
other than whose: issuers that come or go are listed, and so are authenticated
and trusted_header, of which neither peers nor the sources of claims are compared.
Of what tokens bound themselves by, teams and OAuth scopes are compared, not
is_admin and scopes.

Exit code: 0 no difference, 1 differences, 2 they could not be compared.`, runDiff)
	f := cmd.Flags()
	f.StringP("adapter", "a", "", "Name of the configurations' adapter")
	f.StringSlice("as-claims", nil, "Files with claims as JSON, each a principal to compare for")
	f.String("principals", "", "A table as for caddy mcp test, whose principals to compare for")
	f.Bool("json", false, "Print the differences as JSON")
	return cmd
}

func runDiff(cmd *cobra.Command, args []string) (int, error) {
	if len(args) != 2 {
		return failed, errors.New("name the old configuration and the new one")
	}
	principals, err := principalsOf(cmd)
	if err != nil {
		return failed, err
	}
	var sets [2]*gateways.Set
	for n, file := range args {
		if sets[n], err = gateways.Load(file, gateways.Options{Adapter: flag(cmd, "adapter")}); err != nil {
			return failed, err
		}
	}
	result, err := compare.Configurations(sets[0], sets[1], principals)
	if err != nil {
		return failed, err
	}
	if wantsJSON(cmd) {
		err = printJSON(cmd, result)
	} else {
		err = printDifferences(cmd.OutOrStdout(), result)
	}
	switch {
	case err != nil:
		return failed, err
	case result.Different:
		return no, nil
	case len(result.Partial) > 0:
		return failed, fmt.Errorf("the patterns of %s overlap in too many ways to compare them all; no difference was found", strings.Join(result.Partial, ", "))
	}
	return yes, nil
}

// principalsOf are those to compare for, nil for all kinds of them.
func principalsOf(cmd *cobra.Command) ([]compare.Principal, error) {
	files, err := cmd.Flags().GetStringSlice("as-claims")
	if err != nil {
		return nil, err
	}
	var principals []compare.Principal
	for _, file := range files {
		claims, err := claimsIn(cmd, file)
		if err != nil {
			return nil, err
		}
		principals = append(principals, compare.Principal{Name: file, Claims: claims})
	}
	file := flag(cmd, "principals")
	if file == "" {
		return principals, nil
	}
	table, err := expect.Read(file)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(table.Principals)) {
		principals = append(principals, compare.Principal{Name: name, Claims: table.Principals[name]})
	}
	return principals, nil
}

var signs = map[compare.Kind]string{compare.Gained: "+", compare.Lost: "-", compare.Changed: "~"}

func printDifferences(out io.Writer, r *compare.Result) error {
	w := tabwriter.NewWriter(out, 0, 1, 2, ' ', 0)
	several := slices.ContainsFunc(r.Changes, func(c compare.Change) bool { return c.URL != r.Changes[0].URL })
	for _, i := range r.Issuers {
		text := "is accepted"
		if i.Kind == compare.Lost {
			text = "is not accepted any more"
		}
		fmt.Fprintf(w, "%s issuer %s\t%s\n", signs[i.Kind], shown(i.Issuer), text)
	}
	last := ""
	for _, c := range r.Changes {
		header := c.Who + " (" + rolesChange(c) + ")"
		if several {
			header += " at " + c.URL
		}
		if header != last {
			last = header
			fmt.Fprintln(w, shown(header))
		}
		object := c.Server
		if c.Object != "" {
			object += "/" + c.Object
		}
		if c.Partly {
			object += " (in part"
			if c.Example != "" {
				object += ", such as " + c.Example
			}
			object += ")"
		}
		fmt.Fprintf(w, "  %s %s %s\t%s\n", signs[c.Kind], c.Permission, shown(object), shown(because(c)))
		if c.Kind == compare.Changed {
			fmt.Fprintf(w, "\twas %s\n", shown(ruleOrNothing(c.Old)))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, server := range r.Partial {
		fmt.Fprintf(out, "! the patterns of %s overlap in too many ways to compare them all\n", server)
	}
	return nil
}

func rolesChange(c compare.Change) string {
	if slices.Equal(c.OldRoles, c.NewRoles) {
		return roles(c.NewRoles)
	}
	return roles(c.OldRoles) + " -> " + roles(c.NewRoles)
}

// because says what makes the difference.
func because(c compare.Change) string {
	if c.Kind == compare.Lost {
		switch c.Layer {
		case "server":
			return "the server is gone"
		case string(mcpauth.LayerToken):
			return "its token is not accepted any more"
		case string(mcpauth.LayerVisibility):
			return "not seen any more, by " + visibilityText(c.Hides)
		case string(mcpauth.LayerTokenScope):
			return "its OAuth scopes do not give it any more"
		}
	}
	if c.New == nil {
		return "was " + ruleOrNothing(c.Old)
	}
	if c.Kind == compare.Gained && c.Hides != nil {
		return ruleText(c.New) + "; was hidden by " + visibilityText(c.Hides)
	}
	return ruleOrNothing(c.New)
}

func ruleOrNothing(r *mcpauth.WrittenRule) string {
	if r == nil {
		return "no rule"
	}
	return ruleText(r)
}
