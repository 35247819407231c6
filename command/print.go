package command

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

// printExplanation prints an answer: what was asked in the first line, and why it is so
// in those that follow, each of which begins with what it tells.
func printExplanation(w io.Writer, indent string, x *mcpauth.Explanation) {
	answer := "denied "
	if x.Allowed {
		answer = "allowed"
	}
	target := x.Server
	if x.Object != "" {
		target += "/" + x.Object
	}
	fmt.Fprintf(w, "%s%s  %s %s\n", indent, answer, shown(x.Method), shown(target))
	line := func(what, text string) { fmt.Fprintf(w, "%s  %-5s  %s\n", indent, what, shown(text)) }
	if x.Subject != "" {
		line("who", x.Subject+", "+roles(x.Roles))
	}
	if x.Layer != "" {
		line("layer", fmt.Sprintf("%s, %s: %s", x.Layer, x.Reason, x.Detail))
	}
	if x.Hides != nil {
		line("hides", visibilityText(x.Hides))
	}
	switch {
	case x.Rule == nil:
	case x.Allowed:
		line("by", decisionText(x))
	default:
		line("rule", decisionText(x))
	}
	if len(x.Scopes) > 0 {
		line("needs", "scope "+strings.Join(x.Scopes, " "))
	}
}

// roles names roles.
func roles(names []string) string {
	switch len(names) {
	case 0:
		return "no role"
	case 1:
		return "role " + names[0]
	}
	return "roles " + strings.Join(names, " ")
}

// decisionText is the rule that decided, with the team in which it did.
func decisionText(x *mcpauth.Explanation) string {
	rule := *x.Rule
	if rule.Teams = nil; x.Team != "" {
		rule.Teams = []string{x.Team}
	}
	return ruleText(&rule)
}

// visibilityText is what hides something, and where it is written.
func visibilityText(v *mcpauth.WrittenVisibility) string {
	if v.At == "" {
		return v.Text
	}
	return v.At + ": " + v.Text
}

// ruleText is a rule, where it comes from and holds, and where it is written.
func ruleText(r *mcpauth.WrittenRule) string {
	text := "role " + r.Role
	if r.From != "" {
		text += " from " + r.From
	}
	switch {
	case slices.Equal(r.Teams, []string{"*"}):
		text += " in every team"
	case len(r.Teams) == 1:
		text += " in team " + r.Teams[0]
	case len(r.Teams) > 1:
		text += " in teams " + strings.Join(r.Teams, " ")
	}
	if r.At != "" {
		text += ", " + r.At
	}
	return text + ": " + r.Text
}

// shown keeps what is not printable, which names and claims may hold, off the terminal.
func shown(text string) string {
	for _, c := range text {
		if !strconv.IsPrint(c) {
			quoted := strconv.Quote(text)
			return quoted[1 : len(quoted)-1]
		}
	}
	return text
}
