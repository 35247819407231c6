package command

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"
)

var (
	tokenColumns      = []string{"id", "name", "user_email", "team_id", "resource_scopes", "is_active", "is_revoked", "expires_at", "last_used"}
	usageColumns      = []string{"total_requests", "successful_requests", "blocked_requests", "success_rate", "average_response_time_ms"}
	mcpSessionColumns = []string{"session_id", "user", "server_info.name", "connected_at", "last_activity", "message_count"}
)

func tokenCommand() *cobra.Command {
	list := newAdminCommand("list", "Lists API tokens", `
Lists the API tokens of all users, or of one; those included that are not good any
more. With --json, next says what to give to --after for those that follow.`, func(cmd *cobra.Command, _ []string) (request, error) {
		query := url.Values{"limit": {flag(cmd, "limit")}}
		for name, parameter := range map[string]string{"user": "user_email", "after": "after"} {
			if value := flag(cmd, name); value != "" {
				query.Set(parameter, value)
			}
		}
		return request{method: http.MethodGet, path: "/tokens?" + query.Encode(), list: "tokens", columns: tokenColumns}, nil
	})
	list.Flags().String("user", "", "The address of the only user whose tokens are listed")
	list.Flags().String("limit", "1000", "How many to list")
	list.Flags().String("after", "", "The id of the token after which to begin")

	create := newAdminCommand("create EMAIL NAME", "Makes an API token for a user", `
Makes an API token for a user and prints it, alone, on standard output: it cannot be
had again. What is known of it goes to standard error. Whatever it may be for, it
never does more than its user may do at the time.

  caddy mcp token create anna@example.com ci --days 90 --permission tools.read > token`, func(cmd *cobra.Command, args []string) (request, error) {
		days, err := cmd.Flags().GetInt64("days")
		if err != nil {
			return request{}, err
		}
		body := object{"user_email": args[0], "name": args[1], "expires_in_days": days}
		if err := tokenBody(cmd, body); err != nil {
			return request{}, err
		}
		columns := make([]string, len(tokenColumns))
		for i, column := range tokenColumns {
			columns[i] = "token." + column
		}
		return request{method: http.MethodPost, path: "/tokens", body: given(cmd, body, map[string]string{"team": "team_id"}), columns: columns, alone: "access_token"}, nil
	})
	create.Flags().Int64("days", 30, "For how many days it is good")
	create.Flags().String("team", "", "The team whose objects it sees (default: none, a personal token)")
	addTokenFlags(create)

	show := newAdminCommand("show ID", "Shows an API token", "Shows what is known of an API token; with --json, all of it.", func(_ *cobra.Command, args []string) (request, error) {
		return request{method: http.MethodGet, path: path("tokens", args[0]), columns: tokenColumns}, nil
	})

	set := newAdminCommand("set ID", "Changes an API token", `
Changes an API token, which holds for the token in circulation at once. What is said
of its scope takes the place of the whole scope before, and cannot permit more than
the token was made for.

  caddy mcp token set ID --active=false`, func(cmd *cobra.Command, args []string) (request, error) {
		body := object{}
		if err := tokenBody(cmd, body); err != nil {
			return request{}, err
		}
		return request{method: http.MethodPut, path: path("tokens", args[0]), body: given(cmd, body, map[string]string{"name": "name"}), columns: tokenColumns}, nil
	})
	set.Flags().String("name", "", "Another name")
	addTokenFlags(set)

	revoke := newAdminCommand("revoke ID", "Revokes an API token", "Revokes an API token, on every node and for good.", func(cmd *cobra.Command, args []string) (request, error) {
		return request{method: http.MethodDelete, path: path("tokens", args[0]), body: given(cmd, object{}, map[string]string{"reason": "reason"})}, nil
	})
	revoke.Flags().String("reason", "", "Why, for the record")

	usage := newAdminCommand("usage ID", "Tells how an API token was used", `
Tells how an API token was used in the last days; with --json, with the endpoints.`, func(cmd *cobra.Command, args []string) (request, error) {
		return request{method: http.MethodGet, path: path("tokens", args[0], "usage") + "?days=" + url.QueryEscape(flag(cmd, "days")), columns: usageColumns}, nil
	})
	usage.Flags().String("days", "30", "For how many days, today included")
	return newGroup("token", "Looks after the API tokens of all users", list, create, show, set, revoke, usage)
}

func addTokenFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.String("description", "", "What it is for")
	f.StringSlice("tag", nil, "A word to find it by; can be repeated")
	f.Bool("active", true, "Whether it can be used")
	f.StringSlice("permission", nil, "What it permits at most, such as tools.read; can be repeated (default: its user's roles alone bound it)")
	f.String("server", "", "The only server it is for")
	f.StringSlice("ip", nil, "An address or CIDR block from which it can be used; can be repeated")
	f.String("scope", "", "File with its whole scope as JSON, - for standard input, instead of the three before")
}

// tokenBody adds to a body what the flags of tokens say.
func tokenBody(cmd *cobra.Command, body object) error {
	given(cmd, body, map[string]string{"description": "description", "active": "is_active"})
	scope := object{}
	for name, member := range map[string]string{"permission": "permissions", "ip": "ip_restrictions"} {
		if cmd.Flags().Changed(name) {
			list, err := cmd.Flags().GetStringSlice(name)
			if err != nil {
				return err
			}
			scope[member] = list
		}
	}
	given(cmd, scope, map[string]string{"server": "server_id"})
	if cmd.Flags().Changed("tag") {
		tags, err := cmd.Flags().GetStringSlice("tag")
		if err != nil {
			return err
		}
		body["tags"] = tags
	}
	if file := flag(cmd, "scope"); file != "" {
		if len(scope) > 0 {
			return errors.New("a scope is in a file, or in --permission, --server and --ip")
		}
		text, err := input(cmd, file)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &scope); err != nil || scope == nil {
			return fmt.Errorf("%s: the scope is not a JSON object", file)
		}
		body["scope"] = scope
	}
	if len(scope) > 0 {
		body["scope"] = scope
	}
	return nil
}

func sessionCommand() *cobra.Command {
	list := newAdminCommand("list", "Lists MCP sessions", "Lists the MCP sessions of all users, or of one.", func(cmd *cobra.Command, _ []string) (request, error) {
		query := make(url.Values)
		for _, name := range []string{"limit", "offset", "user", "issuer"} {
			if value := flag(cmd, name); value != "" {
				query.Set(name, value)
			}
		}
		return request{method: http.MethodGet, path: "/mcp-sessions?" + query.Encode(), list: "sessions", columns: mcpSessionColumns}, nil
	})
	addPaging(list)
	list.Flags().String("user", "", "The address of the only user whose sessions are listed")
	list.Flags().String("issuer", "", "Whose subject --user is, if it is not the gateway's own tokens'")
	end := newAdminCommand("end ID", "Ends an MCP session", "Ends an MCP session on every node, and its event streams, and tells the server.", func(_ *cobra.Command, args []string) (request, error) {
		return request{method: http.MethodDelete, path: path("mcp-sessions", args[0])}, nil
	})
	return newGroup("session", "Looks after MCP sessions", list, end)
}
