package compare

import (
	"maps"
	"testing"
)

// in has a role hold in teams only.
func in(role map[string]any, teams ...string) map[string]any {
	role["teams"] = teams
	return role
}

func team(id string) map[string]any { return map[string]any{"level": "team", "team": id} }

func private(owner string) map[string]any { return map[string]any{"level": "private", "owner": owner} }

// header is a trusted header, with these claims.
func header(claims ...string) map[string]any {
	from := make(map[string]any)
	for _, name := range claims {
		from[name] = map[string]any{"from": "X-" + name}
	}
	return map[string]any{"header": "X-User", "from": []string{"127.0.0.1"}, "claims": from}
}

func TestOwned(t *testing.T) {
	type object = map[string]any
	runs := func() object { return role("r", nil, "tools.execute a") }
	of := func(objects ...string) []string { return objects }
	with := func(change object, roles ...object) object {
		c := object{"roles": roles}
		maps.Copy(c, change)
		return config(c)
	}
	for _, tc := range []struct {
		name         string
		older, newer object
		want         string
	}{
		{
			"an object is hidden",
			with(nil, runs()),
			with(object{"visibility": object{"a/x_*": team("t")}}, runs()),
			"anybody: lost * a/x_* by visibility",
		},
		{
			"it is shown to others",
			with(object{"visibility": object{"a/x": team("t")}}, runs()),
			with(object{"visibility": object{"a/x": team("u")}}, runs()),
			"teams=t: lost * a/x by visibility\nteams=u: gained tools.execute a/x by visibility",
		},
		{
			"another condition for those who see it before and after",
			with(object{"visibility": object{"a/x": team("t")}}, object{"name": "r", "allow": []any{object{"permission": "tools.execute", "objects": of("a/x"), "if": "args.n < 5"}}}),
			with(object{"visibility": object{"a/x": team("u")}}, object{"name": "r", "allow": []any{object{"permission": "tools.execute", "objects": of("a/x"), "if": "args.n < 6"}}}),
			"teams=t: lost * a/x by visibility\nteams=t teams=u: changed tools.execute a/x\nteams=u: gained tools.execute a/x by visibility",
		},
		{
			"it is shown to its owner",
			with(object{"visibility": object{"a/x": team("t")}}, runs()),
			with(object{"visibility": object{"a/x": private("ann")}}, runs()),
			"sub=ann teams=any: gained tools.execute a/x by visibility\nteams=t: lost * a/x by visibility",
		},
		{
			"one more has to let them",
			with(object{"visibility": object{"a/x*": team("t")}}, runs()),
			with(object{"visibility": object{"a/x*": team("t"), "a/*y": team("u")}}, runs()),
			"anybody: lost * a/*y by visibility",
		},
		{
			"the same is hidden in other words",
			with(object{"visibility": object{"a/x*": team("t"), "a/xy": team("t")}}, runs()),
			with(object{"visibility": object{"a/x": team("t"), "a/x*": team("t")}}, runs()),
			"",
		},
		{
			"what nobody may use is hidden",
			with(nil, role("r", nil, "tools.execute a/y")),
			with(object{"visibility": object{"a/x": team("t")}}, role("r", nil, "tools.execute a/y")),
			"",
		},
		{
			"one role for two",
			with(object{"teams": object{"t": of("a/x"), "u": of("a/y")}}, in(runs(), "t", "u")),
			with(object{"teams": object{"t": of("a/x"), "u": of("a/y")}}, in(runs(), "t"), in(role("s", nil, "tools.execute a"), "u")),
			"",
		},
		{
			"every team",
			with(object{"teams": object{"t": of("a/x"), "u": of("a/y")}}, in(runs(), "t", "u")),
			with(object{"teams": object{"t": of("a/x"), "u": of("a/y")}}, in(runs(), "*")),
			"",
		},
		{
			"teams that mean nothing to roles",
			with(object{"teams": object{"t": of("a/x")}}, runs()),
			with(object{"teams": object{"u": of("a")}}, runs()),
			"",
		},
		{
			"something else belongs to the team",
			with(object{"teams": object{"t": of("a/x")}}, in(runs(), "t")),
			with(object{"teams": object{"t": of("a/y*")}}, in(runs(), "t")),
			"teams=t: lost tools.execute a/x\nteams=t: gained tools.execute a/y*\nteams=t: lost tools.read a/x",
		},
		{
			"it belongs to another team",
			with(object{"teams": object{"t": of("a")}}, in(runs(), "*")),
			with(object{"teams": object{"u": of("a")}}, in(runs(), "*")),
			"teams=t: lost * a\nteams=u: gained tools.execute a",
		},
		{
			"the role holds everywhere",
			with(object{"teams": object{"t": of("a/x")}}, in(runs(), "t")),
			with(object{"teams": object{"t": of("a/x")}}, runs()),
			"anybody: gained tools.execute a",
		},
		{
			"it is denied in a team",
			with(object{"teams": object{"t": of("a/x", "a/y")}}, runs()),
			with(object{"teams": object{"t": of("a/x", "a/y")}}, runs(), in(object{"name": "d", "deny": []any{object{"permission": "tools.execute", "objects": of("a/x")}}}, "t")),
			"teams=t: lost tools.execute a/x",
		},
		{
			"a claim is not read any more",
			with(object{"issuers": of(), "trusted_header": header("groups")}, role("r", map[string][]string{"groups": {"g"}}, "tools.read a/x")),
			with(object{"issuers": of(), "trusted_header": header("teams")}, role("r", map[string][]string{"groups": {"g"}}, "tools.read a/x")),
			"groups=g: lost servers.use a\ngroups=g: lost tools.read a/x",
		},
		{
			"a header instead of tokens",
			with(nil, role("r", map[string][]string{"groups": {"g"}}, "tools.read a/x"), role("s", map[string][]string{"scope": {"s"}}, "tools.read a/y")),
			with(object{"issuers": of(), "trusted_header": header("groups")}, role("r", map[string][]string{"groups": {"g"}}, "tools.read a/x"), role("s", map[string][]string{"scope": {"s"}}, "tools.read a/y")),
			"lost issuer " + testIssuer + "\ngained issuer trusted_header\nscope=s: lost servers.use a\nscope=s: lost tools.read a/y",
		},
		{
			"a role of those without a token",
			with(object{"authenticated": object{}, "trusted_header": header()}, runs()),
			with(object{"authenticated": object{}, "trusted_header": header()}, runs(), role("s", map[string][]string{"iss": {"authenticated"}}, "prompts.read a/p")),
			"iss=authenticated: gained prompts.read a/p",
		},
		{
			"a team that only tokens can have",
			with(object{"authenticated": object{}, "teams": object{"t": of("a/x")}}, runs()),
			with(object{"authenticated": object{}, "teams": object{"t": of("a/x")}}, runs(), in(role("s", nil, "prompts.read a"), "t")),
			"teams=t iss=" + testIssuer + ": gained prompts.read a/x",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := Configurations(load(t, tc.older), load(t, tc.newer), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := told(r); got != tc.want || r.Different != (tc.want != "") || len(r.Partial) > 0 {
				t.Errorf("%s\nwant\n%s", got, tc.want)
			}
		})
	}
}
