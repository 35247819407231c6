package mcpauth

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
)

// modelToken is a token as it was issued, and what is kept of it.
type modelToken struct {
	raw string
	// admin, team and server are what the token says; listed is whether a session's
	// token lists the team.
	session, admin bool
	team, server   string
	kept           bool
	record         catalogue.Record
	recordServer   string
	// account is that of the holder when it was issued.
	account string
}

// model is what the store should say of one user, in the simplest way.
type model struct {
	*rand.Rand
	n           *node
	user        account.User
	exists      bool
	teams       map[string]bool
	of          map[string]bool
	roles       map[[2]string]bool
	tokens      []*modelToken
	log         []string
	allowed     int
	refused     int
	generations int
}

const modelUser = "alice@example.com"

var (
	modelTeams   = []string{"sales", "support"}
	modelRoles   = []string{"reader", "writer"}
	modelServers = []string{"notes", "crm", "desk"}
	modelObjects = []string{"notes/list", "notes/write", "crm/read", "crm/write", "crm/team", "desk/read", "desk/write"}
)

// grants are the objects of each role, as ownConfig has them.
var modelGrants = map[string][]string{
	"reader": {"notes/list", "crm/read", "desk/read"},
	"writer": {"notes/write", "crm/write", "desk/write"},
}

// want is whether a server receives a call with a token, by the model.
func (m *model) want(k *modelToken, object string) bool {
	server, _, _ := strings.Cut(object, "/")
	if !m.exists || k.account != m.user.ID || !m.user.Active || !k.kept {
		return false
	}
	// sees is whether the token is for a team.
	var sees func(team string) bool
	if k.session {
		sees = func(team string) bool {
			switch {
			case m.user.Admin:
				return k.team == "" || k.team == team
			default:
				return m.of[team] && (k.team == "" || k.team == team)
			}
		}
	} else {
		if !k.record.Active || !k.record.Revoked.IsZero() {
			return false
		}
		for _, team := range []string{k.team, k.record.Team} {
			if team != "" && !m.of[team] {
				return false
			}
		}
		for _, only := range []string{k.server, k.recordServer} {
			if only != "" && only != server {
				return false
			}
		}
		all := k.admin && m.user.Admin && k.team == ""
		sees = func(team string) bool {
			return (all || k.team == team) && (all && k.record.Team == "" || k.record.Team == team)
		}
	}
	owner := map[string]string{"crm": "sales", "desk": "support"}[server]
	if server == "crm" && !sees("sales") {
		return false
	}
	if object == "crm/team" {
		// By the claim teams, which is what the account and the token have in common.
		switch {
		case k.session && m.user.Admin && k.team == "", !k.session && k.admin && m.user.Admin && k.team == "" && k.record.Team == "":
			return m.of["sales"]
		}
		return sees("sales")
	}
	for role, objects := range modelGrants {
		if slices.Contains(objects, object) && (m.roles[[2]string{role, ""}] || owner != "" && sees(owner) && m.roles[[2]string{role, owner}]) {
			return true
		}
	}
	return false
}

// step makes one change, in the store and in the model.
func (m *model) step() {
	n, ctx := m.n, m.n.t.Context()
	team, role := modelTeams[m.Intn(2)], modelRoles[m.Intn(2)]
	k := m.tokens[m.Intn(len(m.tokens))]
	note := func(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }
	op := m.Intn(24)
	if m.exists && !m.user.Active && m.Intn(3) > 0 {
		op = 1 // most of the time it is active
	}
	switch {
	case op == 0 && m.generations < 2 && m.Intn(3) == 0:
		if m.exists {
			note("delete")
			n.must(n.accounts().Delete(ctx, operator, modelUser))
			m.exists = false
			m.of, m.roles = map[string]bool{}, map[[2]string]bool{}
		}
	case !m.exists:
		m.generations++
		note("create")
		m.user, m.exists = n.user(modelUser, m.Intn(2) == 0), true
		m.issue()
	case op <= 1:
		note("active %v", !m.user.Active)
		n.update(modelUser, account.Update{Active: new(!m.user.Active)})
		m.user.Active = !m.user.Active
	case op <= 3:
		note("admin %v", !m.user.Admin)
		n.update(modelUser, account.Update{Admin: new(!m.user.Admin)})
		m.user.Admin = !m.user.Admin
	case op <= 8:
		switch {
		case !m.teams[team]:
			note("team %s", team)
			n.team(team)
			m.teams[team] = true
		case m.of[team] && m.Intn(2) == 0:
			note("leaves %s", team)
			n.must(n.accounts().RemoveMember(ctx, operator, team, modelUser))
			m.of[team] = false
		default:
			note("joins %s", team)
			n.must(n.accounts().SetMember(ctx, operator, team, modelUser, account.Member))
			m.of[team] = true
		}
	case op == 10 && m.teams[team] && m.Intn(3) == 0:
		note("no team %s", team)
		n.must(n.accounts().DeleteTeam(ctx, operator, team))
		m.teams[team], m.of[team] = false, false
		for _, role := range modelRoles {
			delete(m.roles, [2]string{role, team})
		}
	case op <= 16:
		if m.Intn(2) == 0 || !m.teams[team] {
			team = ""
		}
		at := [2]string{role, team}
		if m.roles[at] && m.Intn(2) == 0 {
			note("unassign %v", at)
			n.must(n.accounts().Unassign(ctx, operator, modelUser, role, team))
			m.roles[at] = false
		} else {
			note("assign %v", at)
			n.assign(modelUser, role, team)
			m.roles[at] = true
		}
	case k.session:
		if k.kept && m.Intn(3) == 0 {
			note("the session ends")
			_, err := n.app.Store().Apply(ctx, state.Remove(state.Key(state.TableLogin, k.account, "s1")))
			n.must(err)
			k.kept = false
		}
	default:
		r := &k.record
		switch m.Intn(4) {
		case 0:
			r.Active = !r.Active || m.Intn(2) == 0
		case 1:
			if r.Revoked.IsZero() && m.Intn(2) == 0 {
				r.Revoked = time.Now()
			} else {
				r.Revoked = time.Time{}
			}
		case 2:
			r.Team = append([]string{"", k.team, k.team}, modelTeams...)[m.Intn(5)]
		default:
			k.recordServer, r.Scopes = "", nil
			if m.Intn(3) == 0 {
				k.recordServer = modelServers[m.Intn(3)]
				r.Scopes = jsontext.Value(`{"server_id":"` + k.recordServer + `"}`)
			}
		}
		note("record %s: active %v, revoked %v, team %q, server %q", r.ID, r.Active, !r.Revoked.IsZero(), r.Team, k.recordServer)
		n.put(*r)
	}
}

// issue makes tokens of the account as it is.
func (m *model) issue() {
	n, u := m.n, m.user
	claim := append([]string{""}, modelTeams...)[m.Intn(3)]
	session := issue.Session{}
	if claim != "" {
		session.Teams = []string{claim}
	}
	if u.Admin {
		claim = "" // its token lists none
	}
	m.tokens = append(m.tokens, &modelToken{raw: n.session(u, "s1", session), session: true, team: claim, kept: true, account: u.ID})
	for _, team := range append([]string{""}, modelTeams...) {
		k := &modelToken{admin: u.Admin, team: team, kept: true, account: u.ID}
		scopes := ""
		if m.Intn(3) == 0 {
			k.server = modelServers[m.Intn(3)]
			k.recordServer, scopes = k.server, `{"server_id":"`+k.server+`"}`
		}
		k.raw, k.record = n.token(u, team, scopes, nil)
		m.tokens = append(m.tokens, k)
	}
}

// run makes changes on one node, and compares with the model what another one does.
func (m *model) run(t *testing.T, steps, asks int, other *node) {
	t.Helper()
	m.n.user("root@example.com", true)
	m.user, m.exists = m.n.user(modelUser, false), true
	m.teams, m.of, m.roles = map[string]bool{}, map[string]bool{}, map[[2]string]bool{}
	m.issue()
	for range steps {
		m.step()
		for range asks {
			tokens := m.tokens
			if m.Intn(4) > 0 {
				tokens = tokens[len(tokens)-4:] // those of the present account
			}
			k, object := tokens[m.Intn(len(tokens))], modelObjects[m.Intn(len(modelObjects))]
			want, got := m.want(k, object), ""
			agrees := func() bool {
				got = other.call(k.raw, object)
				return (got == "received") == want
			}
			if other == m.n && !agrees() {
				t.Fatalf("%s with %+v: %s, want %v; the account %+v, of %v, with %v, after\n%s", object, k, got, want, m.user, m.of, m.roles, strings.Join(m.log, "\n"))
			} else if other != m.n {
				statetest.Eventually(t, fmt.Sprintf("%s with %+v is %v after\n%s", object, k, want, strings.Join(m.log, "\n")), agrees)
			}
			if want {
				m.allowed++
			} else {
				m.refused++
			}
		}
	}
	if all := steps * asks; m.allowed < all/20 || m.refused < all/4 {
		t.Errorf("of %d calls %d were allowed: the model asks too little", all, m.allowed)
	}
}

// TestStandingAgreesWithModel: after any sequence of changes, the very next requests are
// answered by what the accounts and records are by then, and nothing else.
func TestStandingAgreesWithModel(t *testing.T) {
	for seed := range int64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			n, _ := newNode(t, stored(t), nil)
			m := &model{Rand: rand.New(rand.NewSource(seed)), n: n}
			m.run(t, 120, 6, n)
		})
	}
}

// TestStandingAgreesWithModelElsewhere is the same with the changes made on another node.
func TestStandingAgreesWithModelElsewhere(t *testing.T) {
	server := redistest.Start(t)
	store, other := redisAt(server)
	first, _ := newNode(t, store, nil)
	second, _ := newNode(t, other, nil)
	twoStores(t, first, second)
	m := &model{Rand: rand.New(rand.NewSource(7)), n: first}
	m.run(t, 80, 4, second)
}
