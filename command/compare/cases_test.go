package compare

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func role(name string, when map[string][]string, allow ...string) map[string]any {
	r := map[string]any{"name": name}
	var conditions, grants []any
	for claim, values := range when {
		conditions = append(conditions, map[string]any{"claim": claim, "values": values})
	}
	for _, line := range allow {
		words := strings.Fields(line)
		grant := map[string]any{"permission": words[0]}
		if len(words) > 1 {
			grant["objects"] = words[1:]
		}
		grants = append(grants, grant)
	}
	r["when"], r["allow"] = conditions, grants
	return r
}

// told are the changes, in short.
func told(r *Result) string {
	var lines []string
	for _, i := range r.Issuers {
		lines = append(lines, fmt.Sprintf("%s issuer %s", i.Kind, i.Issuer))
	}
	for _, c := range r.Changes {
		line := fmt.Sprintf("%s: %s %s %s", c.Who, c.Kind, c.Permission, c.Server)
		if c.Object != "" {
			line += "/" + c.Object
		}
		if c.Partly {
			line += " partly"
		}
		if c.Layer != "" {
			line += " by " + c.Layer
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestConfigurations(t *testing.T) {
	anybody := role("anybody", nil, "tools.execute")
	team := map[string]any{"a": map[string]any{"level": "team", "team": "t"}}
	mapped := func(issuer string) map[string]any {
		return map[string]any{"issuer": issuer, "token_scope": map[string]any{"scope_permissions": true}}
	}
	plain := func(issuers ...string) []any {
		var list []any
		for _, name := range issuers {
			list = append(list, map[string]any{"issuer": name})
		}
		return list
	}
	with := func(change map[string]any, roles ...map[string]any) map[string]any {
		c := map[string]any{"roles": roles}
		maps.Copy(c, change)
		return config(c)
	}
	type set []map[string]any
	for _, tc := range []struct {
		name         string
		older, newer set
		want         string
	}{
		{
			"the same people by another name",
			set{with(nil, role("x", map[string][]string{"groups": {"a", "b"}}, "tools.execute a/x a/y"))},
			set{with(nil, role("z", map[string][]string{"groups": {"b"}}, "tools.execute a/y", "tools.execute a/x"), role("y", map[string][]string{"groups": {"a"}}, "tools.execute a/x", "tools.read a/y", "tools.execute a/y"))},
			"",
		},
		{
			"globs that say the same",
			set{with(nil, role("x", nil, "tools.execute a/**"))},
			set{with(nil, role("x", nil, "tools.execute a/* a/*/**"))},
			"",
		},
		{
			"globs that nearly say the same",
			set{with(nil, role("x", nil, "tools.execute a/**"))},
			set{with(nil, role("x", nil, "tools.execute a/* a/*/*"))},
			"anybody: lost tools.execute a partly\nanybody: lost tools.read a partly",
		},
		{
			"other people",
			set{with(nil, role("x", map[string][]string{"groups": {"a", "b", "c"}}, "tools.read a/x"))},
			set{with(nil, role("x", map[string][]string{"groups": {"c"}}, "tools.read a/x"))},
			"groups=a|b: lost servers.use a\ngroups=a|b: lost tools.read a/x",
		},
		{
			"visibility",
			set{with(nil, anybody)},
			set{with(map[string]any{"visibility": team}, anybody, role("y", nil, "prompts.read a/p"))},
			"anybody: lost * a by visibility\nteams=t: gained prompts.read a/p",
		},
		{
			"a server comes, another goes",
			set{with(map[string]any{"servers": []string{"a", "b"}}, anybody)},
			set{with(map[string]any{"servers": []string{"a", "c"}}, anybody)},
			"anybody: lost * b by server\nanybody: gained tools.execute c by server",
		},
		{
			"scopes bound what one issuer's tokens may do",
			set{with(map[string]any{"issuers": plain("https://x.example", "https://y.example")}, anybody)},
			set{with(map[string]any{"issuers": []any{plain("https://x.example")[0], mapped("https://y.example")}}, anybody)},
			"iss=https://y.example: lost * a by token_scope",
		},
		{
			"scopes mean something else",
			set{with(map[string]any{"issuers": []any{mapped(testIssuer)}}, anybody)},
			set{with(map[string]any{"issuers": []any{map[string]any{"issuer": testIssuer, "token_scope": map[string]any{"scope_permissions": true, "scope_map": map[string]any{"run": []string{"tools.execute"}}}}}}, anybody)},
			"scope=run: gained tools.execute a by token_scope",
		},
		{
			"issuers",
			set{with(map[string]any{"issuers": plain("https://x.example", "https://y.example")}, anybody)},
			set{with(map[string]any{"issuers": plain("https://y.example", "https://z.example")}, anybody)},
			"lost issuer https://x.example\ngained issuer https://z.example",
		},
		{
			"an issuer with another name",
			set{with(map[string]any{"issuers": plain("https://x.example")}, anybody)},
			set{with(map[string]any{"issuers": plain("https://y.example")}, role("anybody", nil, "tools.read"))},
			"lost issuer https://x.example\ngained issuer https://y.example\nanybody: lost tools.execute a",
		},
		{
			"a role of one issuer",
			set{with(map[string]any{"issuers": plain("https://x.example", "https://y.example")}, anybody)},
			set{with(map[string]any{"issuers": plain("https://x.example", "https://y.example")}, anybody, role("x", map[string][]string{"iss": {"https://x.example"}, "aud": {"api"}}, "prompts.read a"))},
			"aud=api iss=https://x.example: gained prompts.read a",
		},
		{
			"claims of other forms",
			set{with(nil, anybody)},
			set{with(nil, anybody, role("x", map[string][]string{"scp": {"s"}, "scope": {"t"}, "client_id": {"c"}, "realm_access.roles": {"r"}, "teams": {"t"}}, "prompts.read a"))},
			"client_id=c realm_access.roles=r scope=t scp=s teams=t: gained prompts.read a",
		},
		{
			"two people that nobody is",
			set{with(nil, anybody)},
			set{with(nil, anybody, map[string]any{"name": "x", "when": []any{map[string]any{"claim": "sub", "values": []string{"ann"}}, map[string]any{"claim": "sub", "values": []string{"bob"}}}, "allow": []any{map[string]any{"permission": "*"}}})},
			"",
		},
		{
			"the gateway moves",
			set{with(nil, anybody)},
			set{with(map[string]any{"public_url": "https://other.example.com"}, anybody)},
			"",
		},
		{
			"several gateways",
			set{with(nil, anybody), with(map[string]any{"public_url": "https://other.example.com"}, role("x", nil, "tools.read"))},
			set{with(map[string]any{"public_url": "https://other.example.com"}, role("x", nil, "tools.execute")), with(nil, anybody)},
			"anybody: gained tools.execute a",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := Configurations(load(t, tc.older...), load(t, tc.newer...), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := told(r); got != tc.want || r.Different != (tc.want != "") || len(r.Partial) > 0 {
				t.Errorf("%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func TestPrincipals(t *testing.T) {
	older := load(t, config(map[string]any{"roles": []any{role("x", map[string][]string{"groups": {"g"}}, "tools.execute a/x")}}))
	newer := load(t, config(map[string]any{"roles": []any{role("x", nil, "tools.execute a/x")}, "issuers": []any{map[string]any{"issuer": "https://new.example"}}}))
	for _, tc := range []struct {
		name   string
		claims map[string]any
		want   string
		err    string
	}{
		{"gains", map[string]any{"iss": testIssuer}, "", ""},
		{"loses", map[string]any{"iss": testIssuer, "groups": []any{"g"}}, "somebody: lost * a by token", ""},
		{"new", map[string]any{"iss": "https://new.example"}, "somebody: gained tools.execute a/x by token", ""},
		{"nobody", map[string]any{"iss": "https://none.example"}, "", "somebody: no token with these claims is accepted: token_issuer"},
		{"expired", map[string]any{"iss": testIssuer, "exp": 1.0}, "", "somebody: no token with these claims is accepted: token_"},
	} {
		r, err := Configurations(older, newer, []Principal{{"somebody", tc.claims}})
		if tc.err != "" {
			if err == nil || !strings.HasPrefix(err.Error(), tc.err) {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		r.Issuers = nil
		if got := told(r); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestWhatIsTooMuch(t *testing.T) {
	one := load(t, config(map[string]any{"roles": []any{role("x", nil, "tools.read")}}))
	twice := load(t, config(map[string]any{"roles": []any{role("x", nil, "tools.read")}}), config(map[string]any{"roles": []any{role("y", nil, "tools.read")}}))
	if _, err := Configurations(one, twice, nil); err == nil || !strings.Contains(err.Error(), "has several different gateways with a server a at https://mcp.example.com") {
		t.Error(err)
	}
	var many []any
	for n := range 100 {
		r := role(fmt.Sprint("r", n), map[string][]string{"groups": {fmt.Sprint("g", n)}}, "tools.read")
		r["deny"] = r["allow"]
		many = append(many, r)
	}
	if _, err := Configurations(one, load(t, config(map[string]any{"roles": many})), nil); err == nil || !strings.Contains(err.Error(), "more than 5000 kinds of principals; say with --as-claims or --principals") {
		t.Error(err)
	}
	var infixes []string
	for c := 'a'; c < 'a'+20; c++ {
		infixes = append(infixes, fmt.Sprintf("a/*%c*", c))
	}
	set := load(t, config(map[string]any{"roles": []any{map[string]any{"name": "x", "allow": []any{map[string]any{"permission": "tools.read", "objects": infixes}}}}}))
	r, err := Configurations(set, set, nil)
	if err != nil || r.Different || !slices.Equal(r.Partial, []string{"a"}) {
		t.Errorf("%+v, %v", r, err)
	}
}
