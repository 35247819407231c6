package command

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

var (
	userColumns       = []string{"email", "full_name", "is_admin", "is_active", "password_change_required", "last_login"}
	assignmentColumns = []string{"role", "team_id", "is_active", "expires_at", "assigned_by"}
	teamColumns       = []string{"id", "name", "description"}
	memberColumns     = []string{"email", "role", "joined_at"}
)

func userCommand() *cobra.Command {
	list := newAdminCommand("list", "Lists the users", "Lists the users, in the order of their addresses.", func(cmd *cobra.Command, _ []string) (request, error) {
		return request{method: http.MethodGet, path: "/users" + paging(cmd), list: "users", columns: userColumns}, nil
	})
	addPaging(list)

	add := newAdminCommand("add EMAIL", "Makes a user", `
Makes a user. Without --password, nobody can log in until one is set. With one, it
has to be changed at the first login. The file has it in one line, - is standard
input:

  caddy mcp user add anna@example.com --name Anna --password - < anna.txt`, func(cmd *cobra.Command, args []string) (request, error) {
		body := given(cmd, object{"email": args[0]}, map[string]string{"name": "full_name", "admin": "is_admin", "active": "is_active"})
		if cmd.Flags().Changed("password") {
			secret, err := password(cmd, "password")
			if err != nil {
				return request{}, err
			}
			body["password"] = secret
		}
		return request{method: http.MethodPost, path: "/users", body: body, columns: userColumns}, nil
	})
	addUserFlags(add)
	add.Flags().String("password", "", "File with the first password, - for standard input")

	show := newAdminCommand("show EMAIL", "Shows a user", "Shows a user; with --json, the teams and roles as well.", func(_ *cobra.Command, args []string) (request, error) {
		columns := make([]string, len(userColumns))
		for i, column := range userColumns {
			columns[i] = "user." + column
		}
		return request{method: http.MethodGet, path: path("users", args[0]), columns: columns}, nil
	})

	set := newAdminCommand("set EMAIL", "Changes a user", `
Changes a user. --admin=false ends the user's sessions, --active=false the tokens
as well:

  caddy mcp user set anna@example.com --active=false`, func(cmd *cobra.Command, args []string) (request, error) {
		body := given(cmd, object{}, map[string]string{"name": "full_name", "admin": "is_admin", "active": "is_active"})
		return request{method: http.MethodPatch, path: path("users", args[0]), body: body, columns: userColumns}, nil
	})
	addUserFlags(set)

	remove := newAdminCommand("remove EMAIL", "Ends a user", "Ends a user, with all sessions and tokens.", func(_ *cobra.Command, args []string) (request, error) {
		return request{method: http.MethodDelete, path: path("users", args[0])}, nil
	})

	setPassword := newAdminCommand("password EMAIL", "Sets a user's password", `
Sets the password of a user, which has to be changed at the next login, and ends the
sessions. The file has it in one line, - is standard input:

  caddy mcp user password anna@example.com < anna.txt`, func(cmd *cobra.Command, args []string) (request, error) {
		secret, err := password(cmd, "password")
		if err != nil {
			return request{}, err
		}
		return request{method: http.MethodPut, path: path("users", args[0], "password"), body: object{"password": secret}}, nil
	})
	setPassword.Flags().String("password", "-", "File with the password")

	logout := newAdminCommand("logout EMAIL", "Ends a user's sessions", "Ends all interactive sessions of a user; with --tokens, all tokens as well.", func(cmd *cobra.Command, args []string) (request, error) {
		what := "sessions"
		if flag(cmd, "tokens") == "true" {
			what = "tokens"
		}
		return request{method: http.MethodDelete, path: path("users", args[0], what)}, nil
	})
	logout.Flags().Bool("tokens", false, "Revoke all tokens that were issued until now, too")
	return newGroup("user", "Looks after those who can log in", list, add, show, set, remove, setPassword, logout, userRoleCommand())
}

func userRoleCommand() *cobra.Command {
	list := newAdminCommand("list EMAIL", "Lists a user's roles", "Lists the roles of a user that have not expired.", func(_ *cobra.Command, args []string) (request, error) {
		return request{method: http.MethodGet, path: path("users", args[0], "roles"), list: "roles", columns: assignmentColumns}, nil
	})
	add := newAdminCommand("add EMAIL ROLE", "Assigns a role to a user", `
Assigns a role to a user, everywhere or in a team, or changes how the user has it:

  caddy mcp user role add anna@example.com reader --expires 2027-01-31T12:00:00Z`, func(cmd *cobra.Command, args []string) (request, error) {
		body := given(cmd, object{"role": args[1]}, map[string]string{"team": "team_id", "expires": "expires_at", "active": "is_active"})
		return request{method: http.MethodPost, path: path("users", args[0], "roles"), body: body, list: "roles", columns: assignmentColumns}, nil
	})
	add.Flags().String("team", "", "The team in which the role is had (default: everywhere)")
	add.Flags().String("expires", "", "When it ends (RFC 3339)")
	add.Flags().Bool("active", true, "Whether it gives anything")
	remove := newAdminCommand("remove EMAIL ROLE", "Takes a role from a user", "Takes a role from a user, everywhere or in a team.", func(cmd *cobra.Command, args []string) (request, error) {
		at := path("users", args[0], "roles", args[1])
		if team := flag(cmd, "team"); team != "" {
			at += "?team_id=" + url.QueryEscape(team)
		}
		return request{method: http.MethodDelete, path: at}, nil
	})
	remove.Flags().String("team", "", "The team in which the role is had (default: everywhere)")
	return newGroup("role", "Assigns roles to users", list, add, remove)
}

func teamCommand() *cobra.Command {
	list := newAdminCommand("list", "Lists the teams", "Lists the teams, in the order of their ids.", func(cmd *cobra.Command, _ []string) (request, error) {
		return request{method: http.MethodGet, path: "/teams" + paging(cmd), list: "teams", columns: teamColumns}, nil
	})
	addPaging(list)
	members := map[string]string{"name": "name", "description": "description"}
	add := newAdminCommand("add TEAM", "Makes a team", "Makes a team without members.", func(cmd *cobra.Command, args []string) (request, error) {
		return request{method: http.MethodPost, path: "/teams", body: given(cmd, object{"id": args[0]}, members), columns: teamColumns}, nil
	})
	set := newAdminCommand("set TEAM", "Changes a team", "Changes the name or the description of a team.", func(cmd *cobra.Command, args []string) (request, error) {
		return request{method: http.MethodPatch, path: path("teams", args[0]), body: given(cmd, object{}, members), columns: teamColumns}, nil
	})
	for _, cmd := range []*cobra.Command{add, set} {
		cmd.Flags().String("name", "", "The name for people to read")
		cmd.Flags().String("description", "", "What the team is for")
	}
	show := newAdminCommand("show TEAM", "Lists the members of a team", "Lists the members of a team.", func(_ *cobra.Command, args []string) (request, error) {
		return request{method: http.MethodGet, path: path("teams", args[0], "members"), list: "members", columns: memberColumns}, nil
	})
	remove := newAdminCommand("remove TEAM", "Ends a team", "Ends a team, with all memberships and all roles in it.", func(_ *cobra.Command, args []string) (request, error) {
		return request{method: http.MethodDelete, path: path("teams", args[0])}, nil
	})
	join := newAdminCommand("join TEAM EMAIL", "Makes a user a member of a team", "Makes a user a member of a team, or with --owner an owner.", func(cmd *cobra.Command, args []string) (request, error) {
		role := "member"
		if flag(cmd, "owner") == "true" {
			role = "owner"
		}
		return request{method: http.MethodPut, path: path("teams", args[0], "members", args[1]), body: object{"role": role}}, nil
	})
	join.Flags().Bool("owner", false, "Make the user an owner")
	leave := newAdminCommand("leave TEAM EMAIL", "Ends a membership", "Ends the membership of a user in a team.", func(_ *cobra.Command, args []string) (request, error) {
		return request{method: http.MethodDelete, path: path("teams", args[0], "members", args[1])}, nil
	})
	return newGroup("team", "Looks after teams", list, add, show, set, remove, join, leave)
}

func addUserFlags(cmd *cobra.Command) {
	cmd.Flags().String("name", "", "The name for people to read")
	cmd.Flags().Bool("admin", false, "Whether the user administers the gateway")
	cmd.Flags().Bool("active", true, "Whether the user can log in")
}

func addPaging(cmd *cobra.Command) {
	cmd.Flags().String("limit", "1000", "How many to list")
	cmd.Flags().String("offset", "0", "How many to skip first")
}

func paging(cmd *cobra.Command) string {
	return "?" + url.Values{"limit": {flag(cmd, "limit")}, "offset": {flag(cmd, "offset")}}.Encode()
}
