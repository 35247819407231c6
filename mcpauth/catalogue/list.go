package catalogue

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
)

// Filter says which tokens are wanted.
type Filter struct {
	// Inactive is whether those are wanted, too, that are not active, have expired or
	// were revoked.
	Inactive bool
	// Limit is how many there may be, from 1 to MaxPage; anything else is 50. Offset is
	// how many are left out before.
	Limit, Offset int
}

// MaxPage bounds how many tokens are told at once.
const MaxPage = 1000

func (f *Filter) normal() {
	if f.Limit <= 0 || f.Limit > MaxPage {
		f.Limit = 50
	}
	f.Offset = max(f.Offset, 0)
}

// Page is a part of the tokens that there are.
type Page struct {
	// The tokens, the one that was made last in front.
	Tokens []Token `json:"tokens"`
	// How many there are in all.
	Total  int `json:"total"`
	Limit  int `json:"limit"`
	Offset int `json:"offset"`
}

// List returns the caller's own tokens, and those of the caller's teams.
func (s *Service) List(ctx context.Context, from Caller, f Filter) (Page, error) {
	c, err := s.caller(ctx, from)
	if err != nil {
		return Page{}, err
	}
	prefixes := []string{state.Prefix(ofUsers.Name, c.ID)}
	for team := range c.teams {
		prefixes = append(prefixes, state.Prefix(ofTeams.Name, team))
	}
	return s.page(ctx, c, f, prefixes)
}

// ListTeam returns the tokens of a team to those who are of it, and to administrators.
func (s *Service) ListTeam(ctx context.Context, from Caller, team string, f Filter) (Page, error) {
	c, err := s.caller(ctx, from)
	if err != nil {
		return Page{}, err
	}
	if _, ok := c.teams[team]; !ok {
		if c.oversees() != nil {
			return Page{}, &account.Error{Kind: account.Unknown, Reason: "team_unknown", Message: "there is no such team"}
		}
		if _, err := s.accounts.Team(ctx, team); err != nil {
			return Page{}, err
		}
		c.teams[team] = account.Member // as far as this list goes
	}
	return s.page(ctx, c, f, []string{state.Prefix(ofTeams.Name, team)})
}

func (s *Service) page(ctx context.Context, c *caller, f Filter, prefixes []string) (Page, error) {
	f.normal()
	var ids []string
	for _, prefix := range prefixes {
		for r, err := range state.All(ctx, s.store, prefix) {
			if err != nil {
				return Page{}, err
			}
			id, err := lastPart(r.Key)
			if err != nil {
				return Page{}, err
			}
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	records, err := s.records(ctx, slices.Compact(ids))
	if err != nil {
		return Page{}, err
	}
	now := s.now()
	made := make(map[string]time.Time)
	for team := range c.teams {
		t, err := s.accounts.Team(ctx, team)
		if gone(err) != nil {
			return Page{}, err
		}
		if err == nil {
			made[team] = t.Created
		}
	}
	records = slices.DeleteFunc(records, func(r Record) bool {
		created, of := made[r.Team]
		return r.UserID != c.ID && (!of || created.After(r.Created)) || !f.Inactive && !r.alive(now)
	})
	slices.SortFunc(records, func(a, b Record) int {
		if order := b.Created.Compare(a.Created); order != 0 {
			return order
		}
		return strings.Compare(a.ID, b.ID)
	})
	page := Page{Total: len(records), Limit: f.Limit, Offset: f.Offset}
	from := min(f.Offset, len(records))
	page.Tokens, err = s.showAll(ctx, records[from:min(from+f.Limit, len(records))])
	return page, err
}

// records reads records by their IDs, as many as there are.
func (s *Service) records(ctx context.Context, ids []string) ([]Record, error) {
	var records []Record
	for batch := range slices.Chunk(ids, state.MaxChanges) {
		keys := make([]string, len(batch))
		for i, id := range batch {
			keys[i] = Records.Key(id)
		}
		read, err := s.store.Read(ctx, keys...)
		if err != nil {
			return nil, err
		}
		for _, r := range read {
			if !r.Exists() {
				continue // between an index and its record, its time was over
			}
			entry, err := Records.Decode(r)
			if err != nil {
				return nil, err
			}
			records = append(records, entry.Data)
		}
	}
	return records, nil
}

// showAll adds when each was used.
func (s *Service) showAll(ctx context.Context, records []Record) ([]Token, error) {
	tokens := make([]Token, 0, len(records))
	for batch := range slices.Chunk(records, state.MaxChanges) {
		keys := make([]string, len(batch))
		for i := range batch {
			keys[i] = lastUses.Key(batch[i].ID)
		}
		read, err := s.store.Read(ctx, keys...)
		if err != nil {
			return nil, err
		}
		for i := range batch {
			var used time.Time
			if read[i].Exists() {
				entry, err := lastUses.Decode(read[i])
				if err != nil {
					return nil, err
				}
				used = entry.Data
			}
			tokens = append(tokens, show(&batch[i], used))
		}
	}
	return tokens, nil
}

// Get returns a token that the caller may see. Any other looks as if it did not exist.
func (s *Service) Get(ctx context.Context, from Caller, id string) (Token, error) {
	c, err := s.caller(ctx, from)
	if err != nil {
		return Token{}, err
	}
	return s.get(ctx, c, id)
}

func (s *Service) get(ctx context.Context, c *caller, id string) (Token, error) {
	entry, err := s.visible(ctx, c, id)
	if err != nil {
		return Token{}, err
	}
	tokens, err := s.showAll(ctx, []Record{entry.Data})
	if err != nil {
		return Token{}, err
	}
	return tokens[0], nil
}

func (s *Service) visible(ctx context.Context, c *caller, id string) (state.Entry[Record], error) {
	entry, err := s.record(ctx, id)
	if err != nil {
		return entry, err
	}
	ok, err := s.sees(ctx, c, &entry.Data)
	if err == nil && !ok {
		err = errUnknown
	}
	return entry, err
}

// AllPage is a part of all tokens.
type AllPage struct {
	// The tokens, in the order of their ids, those included that are not good any more.
	Tokens []Token `json:"tokens"`
	// What to ask for by after to have those that follow; none after the last.
	Next string `json:"next,omitzero"`
}

// All returns tokens to an administrator: all, or those of the user with an address,
// after one with an ID.
func (s *Service) All(ctx context.Context, from Caller, email, after string, limit int) (AllPage, error) {
	c, err := s.caller(ctx, from)
	if err != nil {
		return AllPage{}, err
	}
	return s.all(ctx, c, email, after, limit)
}

func (s *Service) all(ctx context.Context, c *caller, email, after string, limit int) (AllPage, error) {
	if err := c.oversees(); err != nil {
		return AllPage{}, err
	}
	f := Filter{Limit: limit}
	f.normal()
	table, parts := Records.Name, []string(nil)
	if email != "" {
		user, err := s.accounts.User(ctx, email)
		if err != nil {
			return AllPage{}, err
		}
		table, parts = ofUsers.Name, []string{user.ID}
	}
	begin := ""
	if after != "" {
		begin = state.Key(table, append(slices.Clone(parts), after)...)
	}
	read, next, err := s.store.Scan(ctx, state.Prefix(table, parts...), begin, f.Limit)
	if err != nil {
		return AllPage{}, err
	}
	ids := make([]string, len(read))
	for i, r := range read {
		if ids[i], err = lastPart(r.Key); err != nil {
			return AllPage{}, err
		}
	}
	records, err := s.records(ctx, ids)
	if err != nil {
		return AllPage{}, err
	}
	var page AllPage
	if page.Tokens, err = s.showAll(ctx, records); err != nil {
		return AllPage{}, err
	}
	if next != "" {
		page.Next, err = lastPart(next)
	}
	return page, err
}

// lastPart is the last part of a key.
func lastPart(key string) (string, error) {
	_, parts, err := state.Parts(key)
	if err != nil || len(parts) == 0 {
		return "", state.ErrDamaged
	}
	return parts[len(parts)-1], nil
}
