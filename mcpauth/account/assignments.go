package account

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// Assignment is that a user has a role.
type Assignment struct {
	// Role is the name of the role.
	Role string `json:"role"`
	// Team is where the role is had; empty stands for everywhere.
	Team string `json:"team_id,omitzero"`
	// Expires is when the assignment ends; zero for never.
	Expires time.Time `json:"expires_at,omitzero"`
	// Active is whether it gives anything. One that does not is kept for later.
	Active bool `json:"is_active"`
	// By is who made it.
	By string `json:"assigned_by"`
	// Created is when it was made.
	Created time.Time `json:"assigned_at"`
}

// Effective reports whether the assignment gives the role now.
func (a Assignment) Effective(now time.Time) bool {
	return a.Active && (a.Expires.IsZero() || now.Before(a.Expires))
}

type assignmentRecord struct {
	Assignment
	// Life is that of the team.
	Life string `json:"life,omitzero"`
}

var assignments = state.Table[assignmentRecord]{Name: state.TableAssignment, Version: 1}

// MaxAssignments bounds how many roles one user can have.
const MaxAssignments = 100

var errAssignmentsMax = &Error{Full, "assignments_full", "the user has as many roles as one may have"}

// scopeOf is a part of the keys.
func scopeOf(team string) string {
	if team == "" {
		return "global"
	}
	return "team:" + team
}

// Assign gives a user a role, or changes how the user has it.
func (s *Service) Assign(ctx context.Context, by Actor, email string, a Assignment) error {
	changed, err := s.assign(ctx, by, email, a)
	if err == nil && changed {
		s.audit(by, "role_assign", email, zap.String("role", a.Role), zap.String("scope", scopeOf(a.Team)), zap.Bool("is_active", a.Active))
	}
	return err
}

func (s *Service) assign(ctx context.Context, by Actor, email string, a Assignment) (changed bool, err error) {
	if err := CheckRole(a.Role); err != nil {
		return false, err
	}
	if !a.Expires.IsZero() && !s.now().Before(a.Expires) {
		return false, invalid("expiry_past", "the end of the assignment is in the past")
	}
	a.By, a.Created, a.Expires = by.Name, s.now().UTC(), a.Expires.UTC()
	err = s.change(ctx, func() ([]state.Change, error) {
		changed = false
		u, err := s.user(ctx, email)
		if err != nil {
			return nil, err
		}
		changes := []state.Change{state.Require(u.Record)}
		data := assignmentRecord{Assignment: a}
		if a.Team != "" {
			t, err := s.team(ctx, a.Team)
			if err != nil {
				return nil, err
			}
			changes = append(changes, state.Require(t.Record))
			data.Life = t.Data.Life
		}
		records, err := s.store.Read(ctx, assignments.Key(u.Data.ID, a.Role, scopeOf(a.Team)))
		if err != nil {
			return nil, err
		}
		if r := records[0]; r.Exists() {
			was, err := assignments.Decode(r)
			if err != nil {
				return nil, err
			}
			if was.Data.Life == data.Life && was.Data.Active == a.Active && was.Data.Expires.Equal(a.Expires) {
				return nil, nil
			}
		} else if held, err := s.Assignments(ctx, u.Data.ID); err != nil {
			return nil, err
		} else if len(held) >= MaxAssignments {
			return nil, errAssignmentsMax
		}
		put, err := assignments.Replace(state.Entry[assignmentRecord]{Record: records[0]}, data)
		changed = true
		return append(changes, put.Until(a.Expires)), err
	})
	return changed && err == nil, err
}

// Unassign takes a role from a user.
func (s *Service) Unassign(ctx context.Context, by Actor, email, role, team string) error {
	err := s.change(ctx, func() ([]state.Change, error) {
		u, err := s.user(ctx, email)
		if err != nil {
			return nil, err
		}
		entry, err := assignments.Get(ctx, s.store, u.Data.ID, role, scopeOf(team))
		if errors.Is(err, state.ErrNotFound) {
			return nil, errNoAssignment
		}
		if err != nil {
			return nil, err
		}
		if team != "" {
			// What is left of a team that has ended is nothing that anybody has.
			t, err := s.team(ctx, team)
			if errors.Is(err, errTeamUnknown) || err == nil && t.Data.Life != entry.Data.Life {
				return nil, errNoAssignment
			}
			if err != nil {
				return nil, err
			}
		}
		return []state.Change{state.Delete(entry.Record)}, nil
	})
	if err == nil {
		s.audit(by, "role_unassign", email, zap.String("role", role), zap.String("scope", scopeOf(team)))
	}
	return err
}

// Assignments returns the assignments of a user that have not expired, those included
// that are not active. Those in teams that are no more are left out.
func (s *Service) Assignments(ctx context.Context, userID string) ([]Assignment, error) {
	var list []assignmentRecord
	var keys []string
	now := s.now()
	for entry, err := range assignments.All(ctx, s.store, userID) {
		if err != nil {
			return nil, err
		}
		if a := entry.Data; a.Expires.IsZero() || now.Before(a.Expires) {
			list = append(list, a)
			if a.Team != "" {
				keys = append(keys, teams.Key(a.Team))
			}
		}
	}
	records, err := s.read(ctx, keys)
	if err != nil {
		return nil, err
	}
	var known []Assignment
	for _, a := range list {
		if a.Team == "" {
			known = append(known, a.Assignment)
			continue
		}
		r := records[0]
		records = records[1:]
		if !r.Exists() {
			continue
		}
		team, err := teams.Decode(r)
		if err != nil {
			return nil, err
		}
		if team.Data.Life == a.Life {
			known = append(known, a.Assignment)
		}
	}
	return known, nil
}
