package account

import (
	"slices"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// rosterData is about all users together. Every change that makes or ends a user, or
// that makes or ends an active administrator, replaces this one record, too. So two
// administrators that are demoted at the same time, on two nodes, are not the last two.
type rosterData struct {
	// Users is how many there are.
	Users int `json:"users"`
	// Administrators are the IDs of the active ones, sorted.
	Administrators []string `json:"administrators"`
}

var roster = state.Table[rosterData]{Name: state.TableRoster, Version: 1}

const rosterKey = "users"

// maxAdministrators bounds the record.
const maxAdministrators = 1000

var (
	errFull      = &Error{Full, "users_full", "there are as many users as there may be"}
	errAdminsMax = &Error{Full, "administrators_full", "there are as many administrators as there may be"}
)

func (u User) administers() bool { return u.Admin && u.Active }

// enter is the change by which a new user is counted.
func (s *Service) enter(r state.Record, u User) (state.Change, error) {
	return s.amend(r, func(data *rosterData) error {
		if data.Users++; data.Users > s.config.MaxUsers {
			return errFull
		}
		return data.set(u.ID, u.administers())
	})
}

// leave is the change by which a user that ends is not counted any more.
func (s *Service) leave(r state.Record, u User) (state.Change, error) {
	return s.amend(r, func(data *rosterData) error {
		data.Users--
		return data.set(u.ID, false)
	})
}

// enroll is the change for a user who has become an active administrator, or is none
// any more.
func (s *Service) enroll(r state.Record, u User) (state.Change, error) {
	return s.amend(r, func(data *rosterData) error { return data.set(u.ID, u.administers()) })
}

func (s *Service) amend(r state.Record, amend func(*rosterData) error) (state.Change, error) {
	var entry state.Entry[rosterData]
	if r.Exists() {
		var err error
		if entry, err = roster.Decode(r); err != nil {
			return state.Change{}, err
		}
	}
	data := rosterData{Users: entry.Data.Users, Administrators: slices.Clone(entry.Data.Administrators)}
	if err := amend(&data); err != nil {
		return state.Change{}, err
	}
	if !r.Exists() {
		return roster.Create(data, time.Time{}, rosterKey)
	}
	return roster.Replace(entry, data)
}

// set enters an active administrator, or takes one out who is not the last.
func (d *rosterData) set(id string, administers bool) error {
	at, found := slices.BinarySearch(d.Administrators, id)
	switch {
	case found == administers:
		return nil
	case administers && len(d.Administrators) >= maxAdministrators:
		return errAdminsMax
	case administers:
		d.Administrators = slices.Insert(d.Administrators, at, id)
	case len(d.Administrators) == 1:
		return errLast
	default:
		d.Administrators = slices.Delete(d.Administrators, at, at+1)
	}
	return nil
}
