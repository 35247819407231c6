package command

import (
	"bytes"
	"errors"
	"net/http"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

func revokeCommand() *cobra.Command {
	cmd := newCommand("revoke [flags]", "Revokes tokens, on every node and at once", `
Has the running gateway refuse tokens from now on, and ends what they have open:
event streams and MCP sessions. With a shared store, every node does.

  caddy mcp revoke --id 7f3a --issuer https://login.example.com
  caddy mcp revoke --subject alice --before 2026-11-22T10:00:00Z
  caddy mcp revoke --everyone --before 2026-11-22T10:00:00Z

Name one of --id, --hash, --subject, --client and --everyone. Without --issuer,
tokens of every issuer are meant. --before spares tokens that are issued from
that moment on; --everyone needs it. Without it, who is named cannot come back
before the revocation is forgotten, which is at --expires, or never.

It asks the admin endpoint of the running Caddy.
Exit code: 0 revoked, 2 not.`, runRevoke)
	f := cmd.Flags()
	f.String("id", "", "The claim jti of a token")
	f.String("hash", "", "The SHA-256 of a token's header and payload, for one without an id")
	f.String("subject", "", "The claim sub of tokens")
	f.String("client", "", "The OAuth client of tokens")
	f.Bool("everyone", false, "All tokens")
	f.String("issuer", "", "Whose tokens are meant")
	f.String("before", "", "Only tokens that were issued before that time (RFC 3339)")
	f.String("expires", "", "When such tokens have expired anyhow (RFC 3339)")
	f.String("address", "", "The address of Caddy's admin endpoint")
	addConfigFlags(cmd, "none; it is only read for the admin endpoint's address")
	return cmd
}

func runRevoke(cmd *cobra.Command, args []string) (int, error) {
	if len(args) > 0 {
		return failed, errors.New("name what to revoke with a flag, such as --id")
	}
	asked := mcpauth.RevocationRequest{Issuer: flag(cmd, "issuer")}
	for _, by := range []string{"id", "hash", "subject", "client", "everyone"} {
		if !cmd.Flags().Changed(by) {
			continue
		}
		if asked.By != "" {
			return failed, errors.New("name one of --id, --hash, --subject, --client and --everyone")
		}
		if asked.By = by; by != "everyone" {
			asked.Value = flag(cmd, by)
		}
	}
	if asked.By == "" {
		return failed, errors.New("name one of --id, --hash, --subject, --client and --everyone")
	}
	for name, at := range map[string]*time.Time{"before": &asked.Before, "expires": &asked.Expires} {
		if text := flag(cmd, name); text != "" {
			var err error
			if *at, err = time.Parse(time.RFC3339, text); err != nil {
				return failed, errors.New("--" + name + " must be a time such as 2026-11-22T10:00:00Z")
			}
		}
	}
	body, err := json.Marshal(asked)
	if err != nil {
		return failed, err
	}
	address, err := caddycmd.DetermineAdminAPIAddress(flag(cmd, "address"), nil, flag(cmd, "config"), flag(cmd, "adapter"))
	if err != nil {
		return failed, err
	}
	header := http.Header{"Content-Type": {"application/json"}}
	answer, err := caddycmd.AdminAPIRequest(address, http.MethodPost, "/mcp_gateway/revocations", header, bytes.NewReader(body))
	if err != nil {
		return failed, readable(err)
	}
	return yes, answer.Body.Close()
}
