package caddyfile

import (
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
)

// options are the words of a block inside a directive.
type options map[string]func(d *caddyfile.Dispenser) error

// parseOptions reads a block. Words may stand once, but for those that are named.
func parseOptions(d *caddyfile.Dispenser, in string, known options, several ...string) error {
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		parse, ok := known[option]
		if !ok {
			return unknown(d, in, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if seen[option] && !slices.Contains(several, option) {
			return d.Errf("%s is given twice; write it once", option)
		}
		seen[option] = true
		if err := parse(d); err != nil {
			return err
		}
	}
	return nil
}

func set[T any](to *T, parse func(*caddyfile.Dispenser) (T, error)) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) (err error) {
		*to, err = parse(d)
		return err
	}
}

// parseTokens reads who issues the gateway's own tokens. Syntax:
//
//	tokens <issuer> {
//		audience     <values...>
//		key_file     <files...>
//		session_life <duration>
//		max_life     <duration>
//		max_per_user <number>
//	}
func parseTokens(d *caddyfile.Dispenser, app *mcpauth.App) error {
	name, err := one(d)
	if err != nil {
		return err
	}
	config := &issue.Config{Name: name}
	app.Tokens = config
	return parseOptions(d, "tokens", options{
		"audience":     set(&config.Audiences, list),
		"key_file":     set(&config.KeyFiles, list),
		"session_life": set(&config.SessionLife, duration),
		"max_life":     set(&config.MaxLife, duration),
		"max_per_user": set(&app.APITokens.MaxPerUser, number),
	})
}

// parseAccounts reads who can log in at the gateway. Syntax:
//
//	accounts {
//		administrator <email> { ... }
//		user <email> {
//			name          <name>
//			password      <value>
//			password_hash <value>
//			roles         <names...>
//			team_roles    <team> <names...>
//		}
//		team <id> {
//			name    <name>
//			owners  <emails...>
//			members <emails...>
//		}
//		passwords {
//			min_length               <number>
//			min_length_administrator <number>
//			history                  <number>
//			max_age                  <duration>
//		}
//		sessions {
//			lifetime     <duration>
//			idle_timeout <duration>
//			max_per_user <number>
//		}
//		max_failures <number>
//		lockout      <duration>
//		lock_administrators
//		max_users    <number>
//	}
func parseAccounts(d *caddyfile.Dispenser) (*mcpauth.Accounts, error) {
	if d.NextArg() {
		return nil, d.Errf("accounts takes no argument, and '%s' is one; write options in a block", d.Val())
	}
	a := new(mcpauth.Accounts)
	return a, parseOptions(d, "accounts", options{
		"administrator": func(d *caddyfile.Dispenser) error { return parseUser(d, a, true) },
		"user":          func(d *caddyfile.Dispenser) error { return parseUser(d, a, false) },
		"team":          func(d *caddyfile.Dispenser) error { return parseAccountTeam(d, a) },
		"passwords": func(d *caddyfile.Dispenser) error {
			return parseInner(d, options{
				"min_length":               set(&a.Passwords.MinLength, number),
				"min_length_administrator": set(&a.Passwords.MinLengthAdministrator, number),
				"history":                  set(&a.Passwords.History, number),
				"max_age":                  set(&a.Passwords.MaxAge, duration),
			})
		},
		"sessions": func(d *caddyfile.Dispenser) error {
			return parseInner(d, options{
				"lifetime":     set(&a.Sessions.Lifetime, duration),
				"idle_timeout": set(&a.Sessions.IdleTimeout, duration),
				"max_per_user": set(&a.Sessions.MaxPerUser, number),
			})
		},
		"max_failures": set(&a.MaxFailures, number),
		"lockout":      set(&a.Lockout, duration),
		"lock_administrators": func(d *caddyfile.Dispenser) error {
			a.LockAdministrators = true
			if d.NextArg() {
				return d.Errf("lock_administrators takes no argument, and '%s' is one", d.Val())
			}
			return nil
		},
		"max_users": set(&a.MaxUsers, number),
	}, "administrator", "user", "team")
}

// parseInner reads a block of options without arguments before it.
func parseInner(d *caddyfile.Dispenser, known options) error {
	name := d.Val()
	if d.NextArg() {
		return d.Errf("%s takes no argument, and '%s' is one; write options in a block", name, d.Val())
	}
	return parseOptions(d, name, known)
}

func parseUser(d *caddyfile.Dispenser, a *mcpauth.Accounts, administrator bool) error {
	word := d.Val()
	email, err := one(d)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(a.Users, func(u account.DeclaredUser) bool { return strings.EqualFold(u.Email, email) }) {
		return d.Errf("the account %s is given twice; write it once", email)
	}
	u := account.DeclaredUser{Email: email, Administrator: administrator}
	err = parseOptions(d, word, options{
		"name":          set(&u.Name, one),
		"password":      set(&u.Password, one),
		"password_hash": set(&u.PasswordHash, one),
		"roles":         set(&u.Roles, list),
		"team_roles": func(d *caddyfile.Dispenser) error {
			args := d.RemainingArgs()
			if len(args) < 2 {
				return d.Errf("team_roles needs a team and at least one role%s", suchAs("team_roles"))
			}
			if u.TeamRoles[args[0]] != nil {
				return d.Errf("the roles in team %s are given twice; write them once", args[0])
			}
			if u.TeamRoles == nil {
				u.TeamRoles = make(map[string][]string)
			}
			u.TeamRoles[args[0]] = args[1:]
			return nil
		},
	}, "team_roles")
	if err != nil {
		return err
	}
	if administrator && u.Password == "" && u.PasswordHash == "" {
		return d.Errf("administrator %s needs a password or a password_hash, such as: password {env.ADMIN_PASSWORD}", email)
	}
	a.Users = append(a.Users, u)
	return nil
}

func parseAccountTeam(d *caddyfile.Dispenser, a *mcpauth.Accounts) error {
	id, err := one(d)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(a.Teams, func(t account.DeclaredTeam) bool { return t.ID == id }) {
		return d.Errf("the team %s is given twice; write it once", id)
	}
	t := account.DeclaredTeam{ID: id}
	err = parseOptions(d, "team", options{
		"name":    set(&t.Name, one),
		"owners":  set(&t.Owners, list),
		"members": set(&t.Members, list),
	})
	a.Teams = append(a.Teams, t)
	return err
}
