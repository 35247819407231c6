package scope

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The seers, by what the table of behaviour.md section 2.2 says of them.
const (
	publicOnly   = "public only"
	unrestricted = "unrestricted"
)

func seen(s *Scope) string {
	switch {
	case s.Unrestricted():
		return unrestricted
	case s.PublicOnly():
		return publicOnly
	}
	return strings.Join(s.Teams(), " ")
}

// The table of behaviour.md section 2.2 in its twelve cells, as design.md section 7
// decides them, and the variant absent_teams public.
func TestTeamsTable(t *testing.T) {
	for _, row := range []struct {
		teams           string
		admin, nonAdmin string
		adminWhenPublic string
	}{
		{teams: ``, admin: unrestricted, nonAdmin: publicOnly, adminWhenPublic: publicOnly},
		{teams: `"teams":null`, admin: unrestricted, nonAdmin: publicOnly, adminWhenPublic: unrestricted},
		{teams: `"teams":[]`, admin: publicOnly, nonAdmin: publicOnly, adminWhenPublic: publicOnly},
		{teams: `"teams":["a"]`, admin: "a", nonAdmin: "a", adminWhenPublic: "a"},
		{teams: `"teams":[{"id":"a"}]`, admin: "a", nonAdmin: "a", adminWhenPublic: "a"},
		{teams: `"teams":["b","a"]`, admin: "a b", nonAdmin: "a b", adminWhenPublic: "a b"},
	} {
		for admin, want := range map[string]string{
			`"is_admin":true`:                                   row.admin,
			`"user":{"is_admin":true,"email":"x"}`:              row.admin,
			`"is_admin":true,"user":{"is_admin":true}`:          row.admin,
			`"is_admin":false`:                                  row.nonAdmin,
			`"user":{"is_admin":false}`:                         row.nonAdmin,
			`"user":{"IS_ADMIN":true},"Is_Admin":true`:          row.nonAdmin,
			`"user.is_admin":true`:                              row.nonAdmin,
			`"user":"is_admin"`:                                 row.nonAdmin,
			`"user":[{"is_admin":true}]`:                        row.nonAdmin,
			`"x":1`:                                             row.nonAdmin,
			`"token_use":"api","user":{"is_admin":true}`:        row.admin,
			`"token_use":"session","user":{"is_admin":true}`:    row.nonAdmin,
			`"token_use":"SESSION","is_admin":true`:             row.nonAdmin,
			`"token_use":"access","is_admin":true`:              row.admin,
			`"roles":["admin"],"groups":["admin"],"admin":true`: row.nonAdmin,
		} {
			text := "{" + strings.Trim(row.teams+","+admin, ",") + "}"
			if got := seen(parse(t, text, Config{})); got != want {
				t.Errorf("%s sees %q, want %q", text, got, want)
			}
		}
		text := "{" + strings.Trim(row.teams+`,"is_admin":true`, ",") + "}"
		if got := seen(parse(t, text, Config{AbsentTeams: AbsentPublic})); got != row.adminWhenPublic {
			t.Errorf("%s with absent_teams public sees %q, want %q", text, got, row.adminWhenPublic)
		}
	}
}

// W-17: the rest of the table, which ContextForge read as something.
func TestTeamsMalformed(t *testing.T) {
	for _, teams := range []string{
		`"abc"`, `""`, `{}`, `{"a":1}`, `{"id":"a"}`, `0`, `1`, `true`, `false`,
		`[1]`, `[null]`, `[true]`, `[["a"]]`, `[{}]`, `[{"id":1}]`, `[{"id":""}]`, `[{"id":null}]`, `[{"name":"a"}]`, `[{"ID":"a"}]`,
		`[""]`, `["a",1]`, `["a",""]`, `[null,"a"]`,
	} {
		for _, admin := range []string{"true", "false"} {
			refuses(t, `{"is_admin":`+admin+`,"teams":`+teams+`}`, "teams")
		}
	}
}

// The administrator's flag is true or false. ContextForge tested the text "false" for
// truth.
func TestAdminMalformed(t *testing.T) {
	for _, admin := range []string{`"true"`, `"false"`, `""`, `0`, `1`, `null`, `[]`, `[true]`, `{}`} {
		refuses(t, `{"teams":null,"is_admin":`+admin+`}`, "is_admin")
		refuses(t, `{"teams":null,"user":{"is_admin":`+admin+`}}`, "user.is_admin")
	}
	refuses(t, `{"is_admin":true,"user":{"is_admin":false}}`, "user.is_admin")
	refuses(t, `{"is_admin":false,"user":{"is_admin":true}}`, "user.is_admin")
	refuses(t, `{"is_admin":"x","user":{"is_admin":true}}`, "is_admin")
	refuses(t, `{"is_admin":true,"user":{"is_admin":null}}`, "user.is_admin")
}

// The table of behaviour.md section 2.3.
func TestVisibilityTable(t *testing.T) {
	tokens := map[string]*Scope{
		"public": parse(t, `{"teams":[]}`, Config{}),
		"team":   parse(t, `{"teams":["a","b"]}`, Config{}),
		"admin":  parse(t, `{"teams":null,"is_admin":true}`, Config{}),
	}
	for _, row := range []struct {
		v           Visibility
		team, owner string
		subject     string
		sees        string // by whom
	}{
		{Public, "", "", "", "admin public team"},
		{Public, "c", "bob", "ann", "admin public team"},
		{Team, "a", "", "ann", "admin team"},
		{Team, "b", "bob", "ann", "admin team"},
		{Team, "c", "bob", "ann", "admin"},
		{Team, "A", "", "ann", "admin"},
		{Team, "", "", "ann", "admin"},
		{Team, "c", "ann", "ann", "admin"}, // to own it does not help
		{"", "a", "", "ann", "admin team"}, // missing means team
		{"", "c", "", "ann", "admin"},
		{Private, "a", "bob", "ann", ""},
		{Private, "a", "ann", "ann", "admin team"}, // not the public-only token: not even own
		{Private, "c", "ann", "ann", "admin team"},
		{Private, "", "ann", "Ann", ""},
		{Private, "", "", "", ""}, // nobody owns nothing
		{Private, "a", "", "ann", ""},
		{"user", "a", "ann", "ann", "admin team"}, // the older name of private
		{"user", "a", "bob", "ann", ""},
		{"PUBLIC", "a", "ann", "ann", ""},
		{"public ", "a", "ann", "ann", ""},
		{"hidden", "a", "ann", "ann", ""},
	} {
		var by []string
		for name, s := range tokens {
			if s.Sees(row.v, row.team, row.owner, row.subject) {
				by = append(by, name)
			}
		}
		slices.Sort(by)
		if got := strings.Join(by, " "); got != row.sees {
			t.Errorf("%+v is seen by %q", row, got)
		}
	}
	for v, want := range map[Visibility]bool{Public: true, Team: true, Private: true, "": false, "user": false, "Public": false} {
		if v.Valid() != want {
			t.Errorf("Valid of %q is %v", v, !want)
		}
	}
}

// Teams hands out a copy: the scope is shared.
func TestTeamsAreCopied(t *testing.T) {
	s := parse(t, `{"teams":["a","b"]}`, Config{})
	s.Teams()[0] = "c"
	if !s.Sees(Team, "a", "", "") || s.Sees(Team, "c", "", "") {
		t.Error("Teams gives the scope away")
	}
}

// The accounts' part of behaviour.md section 2.2, step 4 of section 2.1, W-09 and W-26.
func TestForAccount(t *testing.T) {
	const refused = "refused"
	for _, row := range []struct {
		claims, want string
		account      Account
		admin        bool
	}{
		// Others than sessions: the account takes away, and never gives.
		{claims: `"is_admin":true,"teams":null`, account: Account{Admin: true}, want: unrestricted, admin: true},
		{claims: `"is_admin":true,"teams":null`, account: Account{Teams: []string{"a"}}, want: publicOnly}, // W-09
		{claims: `"is_admin":true`, account: Account{Admin: true}, want: unrestricted, admin: true},
		{claims: `"is_admin":true`, account: Account{}, want: publicOnly},
		{claims: `"is_admin":true,"teams":[]`, account: Account{Admin: true}, want: publicOnly, admin: true},
		{claims: `"teams":null`, account: Account{Admin: true}, want: publicOnly},
		{claims: `"is_admin":false`, account: Account{Admin: true, Teams: []string{"a"}}, want: publicOnly},
		{claims: `"teams":["a"]`, account: Account{Teams: []string{"b", "a"}}, want: "a"},
		{claims: `"teams":["a","b"]`, account: Account{Teams: []string{"a"}}, want: refused},
		{claims: `"teams":["a"]`, account: Account{}, want: refused},
		{claims: `"teams":["a"],"is_admin":true`, account: Account{Admin: true}, want: refused},
		{claims: `"teams":["a"],"is_admin":true`, account: Account{Teams: []string{"a"}}, want: "a"},
		// Sessions: the account decides, and the claim narrows. [] is not public-only.
		{claims: `"token_use":"session"`, account: Account{Admin: true}, want: unrestricted, admin: true},
		{claims: `"token_use":"session","teams":null`, account: Account{Admin: true}, want: unrestricted, admin: true},
		{claims: `"token_use":"session","teams":[]`, account: Account{Admin: true}, want: unrestricted, admin: true},
		{claims: `"token_use":"session","teams":["a"]`, account: Account{Admin: true}, want: "a", admin: true},
		{claims: `"token_use":"session","is_admin":true,"teams":null`, account: Account{Teams: []string{"a"}}, want: "a"},
		{claims: `"token_use":"session"`, account: Account{Teams: []string{"b", "a", "b", ""}}, want: "a b"},
		{claims: `"token_use":"session","teams":null`, account: Account{Teams: []string{"a"}}, want: "a"},
		{claims: `"token_use":"session","teams":[]`, account: Account{Teams: []string{"a"}}, want: "a"},
		{claims: `"token_use":"session","teams":["a","c"]`, account: Account{Teams: []string{"a", "b"}}, want: "a"},
		{claims: `"token_use":"session","teams":["c"]`, account: Account{Teams: []string{"a", "b"}}, want: publicOnly},
		{claims: `"token_use":"session"`, account: Account{}, want: publicOnly},
	} {
		before := parse(t, "{"+row.claims+"}", Config{})
		was := fmt.Sprintf("%+v", before)
		s, refusal := before.ForAccount(row.account)
		got := refused
		switch {
		case refusal == nil:
			got = seen(s)
			if s.Admin() != row.admin {
				t.Errorf("%s with %+v: administrator is %v", row.claims, row.account, !row.admin)
			}
		case s != nil || refusal.Status != 403 || refusal.Cause != CauseMembership || refusal.Reason != "token_membership":
			t.Errorf("%s with %+v: %+v", row.claims, row.account, refusal)
		}
		if got != row.want {
			t.Errorf("%s with %+v sees %q, want %q", row.claims, row.account, got, row.want)
		}
		if fmt.Sprintf("%+v", before) != was {
			t.Errorf("%s: the scope was changed", row.claims)
		}
	}
}

// What the account does not know about stays as the token has it.
func TestForAccountKeepsTheRest(t *testing.T) {
	s := parse(t, `{"is_admin":true,"jti":"1","scopes":{"server_id":"a","permissions":["tools.read"],"ip_restrictions":["10.0.0.0/8"],
		"time_restrictions":{"weekdays_only":true},"usage_limits":{"requests_per_day":1}}}`, Config{})
	bounded, refusal := s.ForAccount(Account{Admin: true})
	if refusal != nil || canonical(bounded) != canonical(s) || bounded.key != s.key {
		t.Errorf("%+v, %v", bounded, refusal)
	}
}
