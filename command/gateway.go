package command

import (
	"net/http"

	"github.com/spf13/cobra"
)

var keyColumns = []string{"kid", "alg", "signs", "signs_from", "verifies_until", "created_at"}

func keyCommand() *cobra.Command {
	list := newAdminCommand("list", "Lists the signing keys", "Lists the signing keys of the gateway's own tokens.", func(*cobra.Command, []string) (request, error) {
		return request{method: http.MethodGet, path: "/keys", list: "keys", columns: keyColumns}, nil
	})
	rotate := newAdminCommand("rotate", "Makes another signing key", `
Makes another signing key. It signs after ten minutes, in which others who keep the
keys come to know it; with --now, at once. The former ones verify until all tokens
that they have signed are over.`, func(cmd *cobra.Command, _ []string) (request, error) {
		return request{method: http.MethodPost, path: "/keys", body: given(cmd, object{}, map[string]string{"now": "at_once"}), columns: keyColumns}, nil
	})
	rotate.Flags().Bool("now", false, "Sign with it at once")
	withdraw := newAdminCommand("withdraw KID", "Takes a signing key away", `
Takes a signing key away at once, for one that others may know: no token that it has
signed is good any more, and everybody has to log in again.`, func(_ *cobra.Command, args []string) (request, error) {
		return request{method: http.MethodDelete, path: path("keys", args[0])}, nil
	})
	return newGroup("key", "Looks after the keys of the gateway's own tokens", list, rotate, withdraw)
}

func serversCommand() *cobra.Command {
	return newAdminCommand("servers", "Tells how the MCP servers are", `
Tells how the MCP servers and their upstreams are, as far as the health checks of
Caddy's reverse proxy know.`, func(*cobra.Command, []string) (request, error) {
		return request{method: http.MethodGet, path: "/servers", list: "servers", columns: []string{"name", "available", "tls", "upstreams"}}, nil
	})
}

func wellKnownCommand() *cobra.Command {
	return newAdminCommand("well-known", "Lists what is published", "Lists what is published, and what each of it is answered with now.", func(*cobra.Command, []string) (request, error) {
		return request{method: http.MethodGet, path: "/well-known", list: "pages", columns: []string{"url", "status", "answers", "content_type"}}, nil
	})
}

func securityCommand() *cobra.Command {
	return newAdminCommand("security", "Tells how safe the running configuration is", `
Asks the running configuration about its safety, check by check; with --json, with
the score from 0 to 100 and with what to do about each check that has failed.`, func(*cobra.Command, []string) (request, error) {
		return request{method: http.MethodGet, path: "/security", list: "checks", title: []string{"score", "healthy"}, columns: []string{"id", "weight", "status", "detail"}}, nil
	})
}
