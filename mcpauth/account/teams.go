package account

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// Team is a group of users, to which servers and other things may belong.
type Team struct {
	// ID is what tokens and the configuration call the team.
	ID          string    `json:"id"`
	Name        string    `json:"name,omitzero"`
	Description string    `json:"description,omitzero"`
	Created     time.Time `json:"created_at"`
	Updated     time.Time `json:"updated_at"`
}

// teamRecord is what is kept of a team.
type teamRecord struct {
	Team
	// Life tells the team from one that had the same ID before: memberships of that
	// one do not count.
	Life string `json:"life"`
}

// MemberRole is what a member is to the team.
type MemberRole string

// What a member may be.
const (
	Owner  MemberRole = "owner"
	Member MemberRole = "member"
)

// Membership is that a user is of a team.
type Membership struct {
	// Team is the ID of the team.
	Team string `json:"team_id"`
	// Role is what the user is to the team.
	Role MemberRole `json:"role"`
	// UserID is the ID of the user.
	UserID string `json:"user_id"`
	// Email is the address of the user.
	Email string `json:"email"`
	// Joined is since when it is so.
	Joined time.Time `json:"joined_at"`
}

type memberRecord struct {
	Role   MemberRole `json:"role"`
	Joined time.Time  `json:"joined"`
	Life   string     `json:"life"`
}

var (
	teams    = state.Table[teamRecord]{Name: state.TableTeam, Version: 1}
	members  = state.Table[memberRecord]{Name: state.TableMember, Version: 1}
	memberOf = state.Table[memberRecord]{Name: state.TableMemberOf, Version: 1}
)

const (
	// MaxTeams bounds of how many teams one user can be.
	MaxTeams       = 100
	maxDescription = 1000
)

var errTeamsMax = &Error{Full, "teams_full", "the user is of as many teams as one may be"}

// CreateTeam makes a team without members.
func (s *Service) CreateTeam(ctx context.Context, by Actor, id, name, description string) (Team, error) {
	if err := checkTeam(id, name, description); err != nil {
		return Team{}, err
	}
	now := s.now().UTC()
	team := teamRecord{Life: rand.Text(), Team: Team{ID: id, Name: name, Description: description, Created: now, Updated: now}}
	create, err := teams.Create(team, time.Time{}, id)
	if err != nil {
		return Team{}, err
	}
	if _, err = s.store.Apply(ctx, create); errors.Is(err, state.ErrConflict) {
		return Team{}, errTeamTaken
	}
	if err != nil {
		return Team{}, err
	}
	s.audit(by, "team_create", id)
	return team.Team, nil
}

func checkTeam(id, name, description string) error {
	if err := CheckTeam(id); err != nil {
		return err
	}
	if err := checkName("team", name); err != nil {
		return err
	}
	if len(description) > maxDescription || hasControl(description) {
		return invalid("description_invalid", "the description of a team must be text without control characters, of at most 1000 bytes")
	}
	return nil
}

// Team returns a team.
func (s *Service) Team(ctx context.Context, id string) (Team, error) {
	entry, err := s.team(ctx, id)
	return entry.Data.Team, err
}

func (s *Service) team(ctx context.Context, id string) (state.Entry[teamRecord], error) {
	if CheckTeam(id) != nil {
		return state.Entry[teamRecord]{}, errTeamUnknown
	}
	entry, err := teams.Get(ctx, s.store, id)
	if errors.Is(err, state.ErrNotFound) {
		err = errTeamUnknown
	}
	return entry, err
}

// Teams returns teams in the order of their IDs, in the way of Users.
func (s *Service) Teams(ctx context.Context, after string, limit int) (list []Team, next string, err error) {
	from := ""
	if after != "" {
		from = teams.Key(after)
	}
	records, key, err := s.store.Scan(ctx, state.Prefix(teams.Name), from, limit)
	if err != nil {
		return nil, "", err
	}
	for _, r := range records {
		entry, err := teams.Decode(r)
		if err != nil {
			return nil, "", err
		}
		list = append(list, entry.Data.Team)
	}
	if key == "" {
		return list, "", nil
	}
	_, parts, err := state.Parts(key)
	if err != nil || len(parts) != 1 {
		return nil, "", state.ErrDamaged
	}
	return list, parts[0], nil
}

// UpdateTeam changes the name and the description of a team; nil leaves one as it is.
func (s *Service) UpdateTeam(ctx context.Context, by Actor, id string, name, description *string) (Team, error) {
	var after Team
	err := s.change(ctx, func() ([]state.Change, error) {
		entry, err := s.team(ctx, id)
		if err != nil {
			return nil, err
		}
		team := entry.Data
		if name != nil {
			team.Name = *name
		}
		if description != nil {
			team.Description = *description
		}
		if err := checkTeam(id, team.Name, team.Description); err != nil {
			return nil, err
		}
		team.Updated = s.now().UTC()
		after = team.Team
		replace, err := teams.Replace(entry, team)
		return []state.Change{replace}, err
	})
	if err != nil {
		return Team{}, err
	}
	s.audit(by, "team_update", id)
	return after, nil
}

// DeleteTeam ends a team, and with it all memberships.
func (s *Service) DeleteTeam(ctx context.Context, by Actor, id string) error {
	entry, err := s.team(ctx, id)
	if err != nil {
		return err
	}
	if _, err := s.store.Apply(ctx, state.Remove(entry.Key)); err != nil {
		return err
	}
	s.audit(by, "team_delete", id)
	// What is left from here on is of a life that is over.
	for r, err := range state.All(ctx, s.store, state.Prefix(members.Name, id)) {
		if err != nil {
			return err
		}
		member, err := members.Decode(r)
		if err != nil {
			return err
		}
		if member.Data.Life != entry.Data.Life {
			continue
		}
		_, parts, err := state.Parts(r.Key)
		if err != nil || len(parts) != 2 {
			return state.ErrDamaged
		}
		// Somebody may have made the team anew, with the same member.
		_, err = s.store.Apply(ctx, state.Delete(r), state.Remove(memberOf.Key(parts[1], id)))
		if err != nil && !errors.Is(err, state.ErrConflict) {
			return err
		}
	}
	return nil
}

// SetMember makes a user a member of a team, or another kind of member.
func (s *Service) SetMember(ctx context.Context, by Actor, team, email string, role MemberRole) error {
	changed, err := s.setMember(ctx, team, email, role)
	if err == nil && changed {
		s.audit(by, "member_set", email, zap.String("team", team), zap.String("role", string(role)))
	}
	return err
}

func (s *Service) setMember(ctx context.Context, team, email string, role MemberRole) (changed bool, err error) {
	if role != Owner && role != Member {
		return false, invalid("member_role_invalid", "a member is an owner or a member")
	}
	err = s.change(ctx, func() ([]state.Change, error) {
		changed = false
		t, err := s.team(ctx, team)
		if err != nil {
			return nil, err
		}
		u, err := s.user(ctx, email)
		if err != nil {
			return nil, err
		}
		records, err := s.store.Read(ctx, members.Key(team, u.Data.ID), memberOf.Key(u.Data.ID, team))
		if err != nil {
			return nil, err
		}
		data := memberRecord{Role: role, Joined: s.now().UTC(), Life: t.Data.Life}
		if records[0].Exists() {
			was, err := members.Decode(records[0])
			if err != nil {
				return nil, err
			}
			if was.Data.Life == data.Life {
				if was.Data.Role == role {
					return nil, nil
				}
				data.Joined = was.Data.Joined
			}
		} else {
			held, err := s.teamIDs(ctx, u.Data.ID)
			if err != nil {
				return nil, err
			}
			if len(held) >= MaxTeams {
				return nil, errTeamsMax
			}
		}
		// Neither the team nor the user ends meanwhile.
		changes := []state.Change{state.Require(t.Record), state.Require(u.Record)}
		for _, r := range records {
			table := members
			if r.Key != members.Key(team, u.Data.ID) {
				table = memberOf
			}
			put, err := table.Replace(state.Entry[memberRecord]{Record: r}, data)
			if err != nil {
				return nil, err
			}
			changes = append(changes, put)
		}
		changed = true
		return changes, nil
	})
	return changed && err == nil, err
}

// RemoveMember ends a membership. A team may be left without an owner; administrators
// look after it then.
func (s *Service) RemoveMember(ctx context.Context, by Actor, team, email string) error {
	err := s.change(ctx, func() ([]state.Change, error) {
		t, err := s.team(ctx, team)
		if err != nil {
			return nil, err
		}
		u, err := s.user(ctx, email)
		if err != nil {
			return nil, err
		}
		entry, err := members.Get(ctx, s.store, team, u.Data.ID)
		if errors.Is(err, state.ErrNotFound) || err == nil && entry.Data.Life != t.Data.Life {
			return nil, errNoMember
		}
		return []state.Change{state.Delete(entry.Record), state.Remove(memberOf.Key(u.Data.ID, team))}, err
	})
	if err == nil {
		s.audit(by, "member_remove", email, zap.String("team", team))
	}
	return err
}

// Members returns the members of a team.
func (s *Service) Members(ctx context.Context, team string) ([]Membership, error) {
	t, err := s.team(ctx, team)
	if err != nil {
		return nil, err
	}
	var list []Membership
	var keys []string
	for entry, err := range members.All(ctx, s.store, team) {
		if err != nil {
			return nil, err
		}
		_, parts, err := state.Parts(entry.Key)
		if err != nil || len(parts) != 2 {
			return nil, state.ErrDamaged
		}
		if entry.Data.Life == t.Data.Life {
			list = append(list, Membership{Team: team, Role: entry.Data.Role, UserID: parts[1], Joined: entry.Data.Joined})
			keys = append(keys, userIDs.Key(parts[1]))
		}
	}
	records, err := s.read(ctx, keys)
	if err != nil {
		return nil, err
	}
	known := list[:0]
	for i, m := range list {
		if !records[i].Exists() {
			continue
		}
		email, err := userIDs.Decode(records[i])
		if err != nil {
			return nil, err
		}
		m.Email = email.Data
		known = append(known, m)
	}
	return known, nil
}

// TeamsOf returns what a user is to which teams, in the order of the teams' IDs.
func (s *Service) TeamsOf(ctx context.Context, userID string) ([]Membership, error) {
	var list []Membership
	var keys, lives []string
	for entry, err := range memberOf.All(ctx, s.store, userID) {
		if err != nil {
			return nil, err
		}
		_, parts, err := state.Parts(entry.Key)
		if err != nil || len(parts) != 2 {
			return nil, state.ErrDamaged
		}
		list = append(list, Membership{Team: parts[1], Role: entry.Data.Role, UserID: userID, Joined: entry.Data.Joined})
		keys = append(keys, teams.Key(parts[1]))
		lives = append(lives, entry.Data.Life)
	}
	records, err := s.read(ctx, keys)
	if err != nil {
		return nil, err
	}
	alive := list[:0]
	for i, m := range list {
		if !records[i].Exists() {
			continue
		}
		team, err := teams.Decode(records[i])
		if err != nil {
			return nil, err
		}
		if team.Data.Life == lives[i] {
			alive = append(alive, m)
		}
	}
	return alive, nil
}

// teamIDs are those of the teams that a user is a member of.
func (s *Service) teamIDs(ctx context.Context, userID string) ([]string, error) {
	memberships, err := s.TeamsOf(ctx, userID)
	ids := make([]string, len(memberships))
	for i, m := range memberships {
		ids[i] = m.Team
	}
	return ids, err
}
