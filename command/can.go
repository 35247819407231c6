package command

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddymcp/caddy-mcp-gateway/command/gateways"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

func canCommand() *cobra.Command {
	cmd := newCommand("can [flags] <method> [<server>[/<object>]]", "Tells whether somebody may do something, and why", `
Asks the gateway of a configuration whether the holder of a token may send a
message, and prints its answer: allowed or denied, the rule that decided and
where it is written, the layer that refused, and the fewest OAuth scopes that
would help. The answer is that of the server, from the same engine. No server
is started; the issuer's keys are fetched if the token needs them.

  caddy mcp can --token-file t tools/call warehouse/query_sales --args '{"limit":10}'
  caddy mcp can --as-claims ana.json resources/read warehouse/file:///reports/q3
  caddy mcp can --as-claims ana.json tools/list warehouse/query_sales

The method is one of MCP; with one that lists, the question is whether the item
would be listed, and with one that servers send, such as
sampling/createMessage, whether it would get to the client. The server may be
left out if there is only one.

Who asks is said by --token-file, whose token is verified, or by --as-claims, a
file with the claims of a token that need not exist. Of these, what every token
has may be left out: iss if there is one issuer, sub, aud, jti and exp. Who has
no token is described in the same way: iss is then the word authenticated or
trusted_header, and of the claims sub and those that the configuration takes
from there count.

A role that holds in teams only counts where the object belongs to one that the
claim teams names; the answer says which team that is. What the token does not
see is refused by the layer visibility, with the line that hides it.

What only a running server knows is not looked at: sessions, and how often a
token was used. Where the client's address decides, --client-ip says it.

Exit code: 0 allowed, 1 denied, 2 there is no answer.`, runCan)
	addConfigFlags(cmd, "the Caddyfile here")
	f := cmd.Flags()
	f.String("public-url", "", "Public URL of the gateway, if there are several")
	f.String("token-file", "", "File with an access token, - for standard input")
	f.String("as-claims", "", "File with claims as JSON, - for standard input")
	f.String("args", "", "Arguments of a tool or prompt, as a JSON object")
	f.String("ref", "", "What completion/complete completes for: prompt or resource (default: by the object's look)")
	f.String("client-ip", "", "Address that the request comes from (default: unknown)")
	f.String("time", "", "Time of the request, such as 2026-01-31T12:00:00Z (default: now)")
	f.String("protocol", "", "Revision of MCP (default: the newest that has the method)")
	f.Duration("timeout", 10*time.Second, "Time to wait for the issuer's keys")
	f.Bool("json", false, "Print the answer as JSON")
	return cmd
}

func runCan(cmd *cobra.Command, args []string) (int, error) {
	if len(args) < 1 || len(args) > 2 {
		return failed, errors.New("write a method and what it is about, such as: tools/call server/tool")
	}
	target := ""
	if len(args) == 2 {
		target = args[1]
	}
	server, object, _ := strings.Cut(target, "/")
	q := mcpauth.Question{
		Method: args[0], Object: object, Reference: flag(cmd, "ref"),
		Arguments: []byte(flag(cmd, "args")), Version: flag(cmd, "protocol"),
	}
	at, err := circumstances(cmd)
	if err != nil {
		return failed, err
	}
	tokenFile, claimsFile, config := flag(cmd, "token-file"), flag(cmd, "as-claims"), flag(cmd, "config")
	switch {
	case (tokenFile == "") == (claimsFile == ""):
		return failed, errors.New("say who asks: either --token-file or --as-claims")
	case config == "-" && (tokenFile == "-" || claimsFile == "-"):
		return failed, errors.New("only one file can be standard input")
	}
	set, err := gateways.Load(config, gateways.Options{Adapter: flag(cmd, "adapter"), Keys: tokenFile != ""})
	if err != nil {
		return failed, err
	}
	h, server, err := set.At(server, flag(cmd, "public-url"))
	if err != nil {
		return failed, err
	}
	var inquiry *mcpauth.Inquiry
	if tokenFile != "" {
		inquiry, err = inquireToken(cmd, h, tokenFile, server, at)
	} else {
		var claims map[string]any
		if claims, err = claimsIn(cmd, claimsFile); err == nil {
			inquiry, err = h.InquireClaims(claims, server, at)
		}
	}
	if err != nil {
		return failed, err
	}
	x, err := inquiry.Explain(q)
	if err != nil {
		return failed, err
	}
	if wantsJSON(cmd) {
		err = printJSON(cmd, x)
	} else {
		printExplanation(cmd.OutOrStdout(), "", x)
	}
	if err != nil || !x.Allowed {
		return no, err
	}
	return yes, nil
}

func inquireToken(cmd *cobra.Command, h *mcpauth.Handler, file, server string, at mcpauth.Circumstances) (*mcpauth.Inquiry, error) {
	text, err := input(cmd, file)
	if err != nil {
		return nil, err
	}
	raw := strings.TrimSpace(string(text))
	if raw == "" {
		return nil, fmt.Errorf("there is no token in %s", file)
	}
	timeout, err := cmd.Flags().GetDuration("timeout")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	return h.InquireToken(ctx, raw, server, at)
}

func circumstances(cmd *cobra.Command) (mcpauth.Circumstances, error) {
	at := mcpauth.Circumstances{Now: time.Now()}
	var err error
	if text := flag(cmd, "time"); text != "" {
		if at.Now, err = time.Parse(time.RFC3339, text); err != nil {
			return at, fmt.Errorf("--time %q is not like 2026-01-31T12:00:00Z", text)
		}
	}
	if text := flag(cmd, "client-ip"); text != "" {
		if at.ClientIP, err = netip.ParseAddr(text); err != nil {
			return at, fmt.Errorf("--client-ip %q is not an address", text)
		}
	}
	return at, nil
}
