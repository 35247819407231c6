package policy

import (
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// everyTeam stands, in a role, for every team.
const everyTeam = "*"

// teams say what belongs to which team, and which roles hold there. Teams are
// numbered in the order of their ids.
type teams struct {
	ids []string
	// owned and ownedDeny have what belongs to each, with the number of the team for
	// a role; the former as what is allowed is compared, the latter as what is denied.
	owned, ownedDeny rules
	// The roles, as the bits of a RoleSet: global hold everywhere, inAny in every
	// team, and inTeam in one, nil where no role names the team.
	global, inAny []uint64
	inTeam        [][]uint64
}

// newTeams enters what belongs to the teams.
func newTeams(words int, owned map[string][]string) (teams, error) {
	t := teams{
		ids:       slices.Sorted(maps.Keys(owned)),
		owned:     rules{byScheme: true},
		ownedDeny: rules{byScheme: true, deny: true},
		global:    make([]uint64, words),
		inAny:     make([]uint64, words),
	}
	t.inTeam = make([][]uint64, len(t.ids))
	for id, team := range t.ids {
		switch {
		case team == "":
			return t, &ObjectError{Reason: "the id of a team is empty; is a placeholder unset?"}
		case team == everyTeam:
			return t, &ObjectError{Team: team, Reason: "this stands for every team, and cannot be the id of one"}
		case len(owned[team]) == 0:
			return t, &ObjectError{Team: team, Reason: "nothing is named that belongs to it"}
		}
		for _, text := range slices.Sorted(slices.Values(owned[team])) {
			o, err := parseOwned(text)
			if err != nil {
				return t, &ObjectError{Team: team, Object: text, Reason: err.Error()}
			}
			rule := &Rule{role: id, object: text}
			t.owned.add(rule, o, mcp.PermissionNone)
			t.ownedDeny.add(rule, o, mcp.PermissionNone)
		}
	}
	t.owned.seal()
	t.ownedDeny.seal()
	return t, nil
}

// parseOwned reads what belongs to a team or is for some: a server, or objects on
// one server.
func parseOwned(text string) (object, error) {
	if server, _, _ := strings.Cut(text, "/"); strings.Contains(server, "*") {
		return object{}, errors.New("name one server: write server/object, with stars in the object only")
	}
	return parseObject(mcp.PermissionNone, text, true)
}

// addRole enters where a role holds. On an error it returns the place of the team
// at fault, or -1.
func (t *teams) addRole(role int, in []string) (int, error) {
	bit := uint64(1) << (role % 64)
	if in == nil {
		t.global[role/64] |= bit
		return -1, nil
	}
	if len(in) == 0 {
		return -1, errors.New("the list of teams is empty: leave it out for a role that holds everywhere")
	}
	for i, team := range in {
		if team == everyTeam {
			if len(in) > 1 {
				return i, errors.New("* is every team: name no others beside it")
			}
			if len(t.ids) == 0 {
				return i, errors.New("nothing belongs to any team, so the role would hold nowhere: say first what belongs to which team")
			}
			t.inAny[role/64] |= bit
			continue
		}
		id, ok := slices.BinarySearch(t.ids, team)
		if !ok {
			return i, fmt.Errorf("nothing belongs to team %q, so the role would hold nowhere%s", team, t.instead())
		}
		if t.inTeam[id] == nil {
			t.inTeam[id] = make([]uint64, len(t.global))
		}
		t.inTeam[id][role/64] |= bit
	}
	return -1, nil
}

// instead is the part of an error that names the teams there are.
func (t *teams) instead() string {
	if len(t.ids) == 0 {
		return ": say first what belongs to which team"
	}
	return ": there are " + strings.Join(t.ids, ", ")
}

// reaches reports whether anything on servers that match the pattern belongs to one
// of these teams.
func (t *teams) reaches(in []string, server string) bool {
	g := newGlob(tokenize(server))
	for name, table := range t.owned.servers {
		if !g.match(name) {
			continue
		}
		for _, rule := range table.touched.rules {
			if in[0] == everyTeam || slices.Contains(in, t.ids[rule.role]) {
				return true
			}
		}
	}
	return false
}

// checkGrants refuses a grant of a role that holds in teams, on servers of which
// nothing belongs to them.
func (t *teams) checkGrants(at Error, r Role, read *parsedRole) error {
	if r.Teams == nil {
		return nil
	}
	for _, list := range [][]parsed{read.allow, read.deny} {
		for i, g := range list {
			for j, o := range g.objects {
				if !t.reaches(r.Teams, o.server) {
					at.Grant, at.Object = i, j
					return at.because(fmt.Errorf("%q: nothing there belongs to a team of the role, so this would never count", g.grant.Objects[j]))
				}
			}
		}
		at.Deny = true
	}
	return nil
}

// view is what a RoleSet has beside the roles that hold everywhere. It never
// changes.
type view struct {
	// held are all roles of the principal, teams its teams; there are teams only if
	// some of the roles hold in teams only.
	held, teams []uint64
	// own are, by team, the roles that the principal has there and maybe nowhere else,
	// and all these and the others together; nil when there are none of them.
	own [][]uint64
	all []uint64
	// blind are the audiences that the principal is not of.
	blind []uint64
}

// see asks once for every team and audience whether the principal is of it. Nobody
// is asked where there is no one to ask: the principal then sees what everybody does.
func (p *Policy) see(sees func(Audience) bool) view {
	if sees == nil {
		sees = func(Audience) bool { return false }
	}
	var v view
	for id, team := range p.teams.ids {
		if sees(Audience{Team: team}) {
			setBit(&v.teams, id, len(p.teams.ids))
		}
	}
	for id, audience := range p.audiences {
		if !sees(audience) {
			setBit(&v.blind, id, len(p.audiences))
		}
	}
	return v
}

func setBit(set *[]uint64, i, count int) {
	if *set == nil {
		*set = make([]uint64, (count+63)/64)
	}
	(*set)[i/64] |= 1 << (i % 64)
}

// roleSet makes the set of a principal for whom the conditions of these roles hold,
// and who sees that much.
func (p *Policy) roleSet(holding []uint64, seen view) RoleSet {
	rs := RoleSet{policy: p, bits: make([]uint64, p.words)}
	held, inTeams := make([]uint64, p.words), false
	for i := range held {
		inSome := uint64(0)
		if seen.teams != nil {
			inSome = p.teams.inAny[i]
		}
		for id, roles := range p.teams.inTeam {
			if roles != nil && seen.teams != nil && seen.teams[id/64]>>(id%64)&1 == 1 {
				inSome |= roles[i]
			}
		}
		rs.bits[i] = holding[i] & p.teams.global[i]
		held[i] = holding[i] & (p.teams.global[i] | inSome)
		inTeams = inTeams || held[i] != rs.bits[i]
		for _, own := range seen.own {
			if own == nil {
				continue
			}
			if seen.all == nil {
				seen.all = make([]uint64, p.words)
			}
			seen.all[i] |= held[i] | own[i]&(p.teams.global[i]|inSome)
			inTeams = inTeams || seen.all[i] != rs.bits[i]
		}
	}
	if !inTeams {
		seen.teams, seen.own, seen.all = nil, nil, nil
	}
	if inTeams || seen.blind != nil {
		seen.held = held
		rs.view = &seen
	}
	return rs
}

// maxInline is how many words of roles, of 64 each, a question holds without an
// allocation.
const maxInline = 8

// teamRoles are the roles that hold for the object of a question, those in teams
// included. It is worked out when it is needed, once for what is allowed and once
// for what is denied.
type teamRoles struct {
	// side says for which, asked whether these are the roles to ask for.
	side  answer
	asked bool
	// gathering is set while the teams are looked for, found when there is one.
	gathering, found bool
	// wanted is the role whose team is looked for, first that team; -1 for none.
	wanted, first int
	inline        [maxInline]uint64
	// own gathers the roles that the principal has in the teams that are found.
	own [maxInline]uint64
	// large and largeOwn are used instead when there are more.
	large, largeOwn []uint64
}

// roles are the bits that are asked for.
func (q *question) roles() []uint64 {
	switch {
	case !q.team.asked:
		return q.bits
	case q.team.large != nil:
		return q.team.large
	}
	return q.team.inline[:len(q.held)]
}

// ownRoles are those that the principal has in the teams that were found.
func (q *question) ownRoles() []uint64 {
	if q.team.largeOwn != nil {
		return q.team.largeOwn
	}
	return q.team.own[:len(q.held)]
}

// enter has the question ask for the roles that hold for its object.
func (q *question) enter(deny bool) {
	side := no
	if deny {
		side = yes
	}
	if q.team.side == side {
		q.team.asked = true
		return
	}
	if len(q.held) > maxInline && q.team.large == nil {
		q.team.large, q.team.largeOwn = make([]uint64, len(q.held)), make([]uint64, len(q.held))
	}
	q.team.wanted, q.team.first = -1, -1
	q.team.asked = true
	clear(q.roles())
	clear(q.ownRoles())
	q.lookUp(deny)
	q.team.side, q.team.asked = side, true
	teams := &q.policy.teams
	active, own := q.roles(), q.ownRoles()
	for i := range active {
		if q.team.found {
			active[i] |= teams.inAny[i]
		}
		active[i] = q.held[i] | active[i]&q.view.held[i] | (active[i]|teams.global[i])&own[i]
	}
}

// lookUp finds the principal's teams that the object of the question belongs to: as
// a whole, if the question is about a whole, and at all, if it is about anything.
func (q *question) lookUp(deny bool) {
	owned := &q.policy.teams.owned
	if deny {
		owned = &q.policy.teams.ownedDeny
	}
	q.bits, q.team.gathering, q.team.asked, q.team.found = q.view.teams, true, false, false
	owned.match(q)
	q.bits, q.team.gathering = q.held, false
}

// gather notes the principal's teams among these.
func (q *question) gather(found roleMask) {
	teams := &q.policy.teams
	for _, w := range found {
		common := w.bits & q.bits[w.index]
		if common == 0 {
			continue
		}
		q.team.found = true
		for ; common != 0; common &= common - 1 {
			team := w.index*64 + bits.TrailingZeros64(common)
			roles := teams.inTeam[team]
			var own []uint64
			if q.view.own != nil {
				own = q.view.own[team]
			}
			if role := q.team.wanted; role >= 0 {
				if (q.team.first < 0 || team < q.team.first) && (hasBit(own, role) ||
					hasBit(q.view.held, role) && (hasBit(teams.inAny, role) || hasBit(roles, role))) {
					q.team.first = team
				}
				continue
			}
			q.team.asked = true
			into := q.roles()
			q.team.asked = false
			for i, word := range roles {
				into[i] |= word
			}
			for i, word := range own {
				q.ownRoles()[i] |= word
			}
		}
	}
}

// hasBit reports whether a set, which may be nil, has a role.
func hasBit(set []uint64, role int) bool { return set != nil && set[role/64]>>(role%64)&1 == 1 }

// teamOf returns the team in which the role of a rule, which decided the question,
// holds for its object.
func (p *Policy) teamOf(q *question, r *Rule) string {
	if q.view == nil || q.view.teams == nil || hasBit(q.held, r.role) {
		return ""
	}
	q.team.wanted, q.team.first = r.role, -1
	q.lookUp(r.Deny)
	if q.team.first < 0 {
		return ""
	}
	return p.teams.ids[q.team.first]
}
