package catalogue

import (
	"context"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
)

// Office looks after the tokens of all users, for administrators: who they are was found
// out before. Nothing that they give to a token lets it do more than its user, since each
// request with it is bounded by what the user may do at that time.
type Office struct {
	service *Service
	caller  *caller
}

// Office returns the one in which somebody acts: an administrator, or who is no user,
// such as an operator at Caddy's admin endpoint.
func (s *Service) Office(by account.Actor) Office {
	user := account.User{ID: by.ID, Email: by.Name, Admin: true}
	return Office{s, &caller{Caller: Caller{Visitor: &login.Visitor{User: user}, Address: by.Address}, by: by, office: true}}
}

// Create makes a token for the user whom it names. The second result is the token itself,
// which cannot be had again. Its team is one that the user is a member of.
func (o Office) Create(ctx context.Context, n NewToken) (Token, string, error) {
	return o.service.create(ctx, o.caller, n)
}

// List returns all tokens, or those of the user with an address, after one with an ID.
func (o Office) List(ctx context.Context, email, after string, limit int) (AllPage, error) {
	return o.service.all(ctx, o.caller, email, after, limit)
}

// Get returns a token.
func (o Office) Get(ctx context.Context, id string) (Token, error) {
	return o.service.get(ctx, o.caller, id)
}

// Update changes a token. It never gets to permit more than it was made for.
func (o Office) Update(ctx context.Context, id string, u Update) (Token, error) {
	return o.service.update(ctx, o.caller, id, u)
}

// Revoke ends a token for good. To do so again changes nothing.
func (o Office) Revoke(ctx context.Context, id, reason string) error {
	return o.service.revokeAny(ctx, o.caller, id, reason)
}

// Usage tells how a token was used in the last days.
func (o Office) Usage(ctx context.Context, id string, days int) (Statistics, error) {
	return o.service.usage(ctx, o.caller, id, days)
}

// onBehalf makes the changes of a plan, if whoever wants them is still an active user, or
// was none before.
func (s *Service) onBehalf(ctx context.Context, c *caller, plan func() ([]state.Change, error)) error {
	switch {
	case c.by.ID == "":
		return s.change(ctx, plan)
	case c.office:
		return s.accounts.RequireAdministrator(ctx, c.by.ID, plan)
	}
	return s.accounts.Require(ctx, c.by.ID, func(account.User) ([]state.Change, error) { return plan() })
}
