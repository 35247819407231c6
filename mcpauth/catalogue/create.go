package catalogue

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
)

// NewToken is a token to be.
type NewToken struct {
	Name, Description string
	Tags              []string
	// Days is for how many the token is good, from now on.
	Days int64
	// Scope is what it is restricted to.
	Scope Scope
	// Team is the id of its team. Nil has the session say, if that is for one team
	// only; empty is no team.
	Team *string
	// Active is whether it can be used at once.
	Active bool
	// User is the address of whom it is for; empty for the caller.
	User string
}

const (
	maxName        = 255
	maxDescription = 1000
	maxTags        = 50
	maxTag         = 100
	maxReason      = 255
)

// Create makes a token. The second result is the token itself, which cannot be had
// again.
func (s *Service) Create(ctx context.Context, from Caller, n NewToken) (Token, string, error) {
	c, err := s.caller(ctx, from)
	if err != nil {
		return Token{}, "", err
	}
	return s.create(ctx, c, n)
}

func (s *Service) create(ctx context.Context, c *caller, n NewToken) (Token, string, error) {
	if err := checkTexts(&n.Name, &n.Description, n.Tags); err != nil {
		return Token{}, "", err
	}
	expires, err := s.expiry(n.Days)
	if err != nil {
		return Token{}, "", err
	}
	user, err := s.userFor(ctx, c, n.User)
	if err != nil {
		return Token{}, "", err
	}
	id := rand.Text()
	scope, err := compile(n.Scope, id, s.issuer.Name())
	if err != nil {
		return Token{}, "", err
	}
	held, err := s.held(ctx, c)
	if err != nil {
		return Token{}, "", err
	}
	if err := held.covers(scope, nil); err != nil {
		return Token{}, "", err
	}
	team, err := s.teamFor(ctx, c, held, user, n.Team)
	if err != nil {
		return Token{}, "", err
	}
	made, err := s.issuer.API(ctx, issue.API{
		ID: id, Subject: user.ID, Email: user.Email, FullName: user.FullName, Admin: user.Admin, Team: team, Scopes: scope.claim, Expires: expires,
	})
	if err != nil {
		return Token{}, "", err
	}
	sum := sha256.Sum256([]byte(made.Raw))
	r := Record{
		ID: id, Name: n.Name, Description: n.Description, Tags: n.Tags, UserID: user.ID, Email: user.Email, Team: team,
		Scopes: scope.claim, Claim: scope.claim, Hash: hex.EncodeToString(sum[:]),
		Created: s.now().UTC(), By: c.by.ID, Expires: made.Expires.UTC(), Active: n.Active,
	}
	// Whoever makes it is still active when it is there. Nobody has seen it before.
	err = s.onBehalf(ctx, c, func() ([]state.Change, error) { return s.enter(ctx, r) })
	if err != nil {
		return Token{}, "", err
	}
	s.audit(c.by, "token_create", &r, zap.Time("expires", r.Expires), zap.Strings("permissions", scope.names), zap.Bool("is_active", r.Active))
	return show(&r, time.Time{}), made.Raw, nil
}

// expiry is when a token ends that is good for so many days.
func (s *Service) expiry(days int64) (time.Time, error) {
	most := int64(s.issuer.MaxLife() / (24 * time.Hour))
	switch {
	case most < 1:
		return time.Time{}, invalid("expiry_max", fmt.Sprintf("tokens of this gateway can be good for %s at most, and API tokens are good for whole days", s.issuer.MaxLife()))
	case days < 1:
		return time.Time{}, invalid("expiry_invalid", "expires_in_days must be 1 at least")
	case days > most:
		return time.Time{}, invalid("expiry_max", fmt.Sprintf("expires_in_days can be %d at most on this gateway", most))
	}
	return s.now().Add(time.Duration(days) * 24 * time.Hour), nil
}

// userFor finds whom a token is for.
func (s *Service) userFor(ctx context.Context, c *caller, email string) (account.User, error) {
	if email == "" && !c.office {
		return c.User, nil
	}
	normal, err := account.Email(email)
	if err == nil && !c.office && normal == c.Email {
		return c.User, nil
	}
	switch err := c.oversees(); {
	case errors.Is(err, errAdminNeeded):
		return account.User{}, errOthers
	case err != nil:
		return account.User{}, errOthersNarrow
	}
	user, err := s.accounts.User(ctx, email)
	if err = gone(err); err != nil {
		return account.User{}, err
	}
	if !user.Active {
		return account.User{}, invalid("user_unknown", "there is no active user with this address")
	}
	return user, nil
}

// gone takes the error away that somebody or something does not exist.
func gone(err error) error {
	var refused *account.Error
	if errors.As(err, &refused) && refused.Kind == account.Unknown {
		return nil
	}
	return err
}

// teamFor finds the team of a token. Who holds everything can have a token of their own
// for any team; for all others, the team is one that both the caller and the token's
// user are of.
func (s *Service) teamFor(ctx context.Context, c *caller, held Held, user account.User, asked *string) (string, error) {
	oversees := c.oversees() == nil
	if asked == nil {
		if in := c.reach.Teams(); len(in) == 1 && !oversees {
			return in[0], nil
		}
		return "", nil
	}
	team := *asked
	if team == "" {
		return "", nil
	}
	_, err := s.accounts.Team(ctx, team)
	if err := gone(err); err != nil {
		return "", err
	}
	_, may := c.teams[team]
	may = may || c.office || oversees && held.Every && user.ID == c.ID
	if err != nil || !may {
		return "", invalid("team_invalid", "there is no such team that you are a member of")
	}
	if user.ID == c.ID {
		return team, nil
	}
	memberships, err := s.accounts.TeamsOf(ctx, user.ID)
	if err != nil {
		return "", err
	}
	for _, m := range memberships {
		if m.Team == team {
			return team, nil
		}
	}
	return "", invalid("team_invalid", "the user is not a member of the team")
}

// enter is how a new token gets into the store.
func (s *Service) enter(ctx context.Context, r Record) ([]state.Change, error) {
	over := r.Expires.Add(kept)
	create, err := Records.Create(r, over, r.ID)
	if err != nil {
		return nil, err
	}
	changes := []state.Change{create}
	add := func(change state.Change, err2 error) { changes, err = append(changes, change), errors.Join(err, err2) }
	add(ofUsers.Create(struct{}{}, over, r.UserID, r.ID))
	gate, err2 := s.pass(ctx, "user", r.UserID, state.Prefix(ofUsers.Name, r.UserID), s.config.MaxPerUser, errFull)
	if err2 != nil {
		return nil, err2
	}
	changes = append(changes, gate)
	if r.Team != "" {
		add(ofTeams.Create(struct{}{}, over, r.Team, r.ID))
		gate, err2 := s.pass(ctx, "team", r.Team, state.Prefix(ofTeams.Name, r.Team), teamFactor*s.config.MaxPerUser, errTeam)
		if err2 != nil {
			return nil, err2
		}
		changes = append(changes, gate)
	}
	if r.Active {
		name, err2 := s.take(ctx, &r)
		if err2 != nil {
			return nil, err2
		}
		changes = append(changes, name)
	}
	return changes, err
}

// pass is the change by which one more token is let in: the gate is read before those
// that are there are counted, and must not have changed since.
func (s *Service) pass(ctx context.Context, kind, id, prefix string, most int, full error) (state.Change, error) {
	records, err := s.store.Read(ctx, gates.Key(kind, id))
	if err != nil {
		return state.Change{}, err
	}
	count := 0
	for _, err := range state.All(ctx, s.store, prefix) {
		if err != nil {
			return state.Change{}, err
		}
		count++
	}
	if count >= most {
		return state.Change{}, full
	}
	change, err := gates.Replace(state.Entry[struct{}]{Record: records[0]}, struct{}{})
	return change.Until(s.now().Add(gateLife)), err
}

// take is the change by which a token has its name to itself.
func (s *Service) take(ctx context.Context, r *Record) (state.Change, error) {
	_, err := names.Get(ctx, s.store, nameKey(r)...)
	if err == nil {
		return state.Change{}, errTaken
	}
	if !errors.Is(err, state.ErrNotFound) {
		return state.Change{}, err
	}
	return names.Create(r.ID, r.Expires, nameKey(r)...)
}

// checkTexts refuses what is too long, or could play tricks in a log or on a page.
func checkTexts(name, description *string, tags []string) error {
	if name != nil && (*name == "" || utf8.RuneCountInString(*name) > maxName || !isText(*name) || strings.TrimSpace(*name) != *name) {
		return invalid("name_invalid", fmt.Sprintf("the name of a token is 1 to %d characters, without control characters and without spaces around it", maxName))
	}
	if description != nil && (utf8.RuneCountInString(*description) > maxDescription || !isText(strings.NewReplacer("\n", "", "\t", "").Replace(*description))) {
		return invalid("description_invalid", fmt.Sprintf("a description is text of at most %d characters", maxDescription))
	}
	if len(tags) > maxTags {
		return invalid("tags_invalid", fmt.Sprintf("a token can have %d tags at most", maxTags))
	}
	for _, tag := range tags {
		if tag == "" || utf8.RuneCountInString(tag) > maxTag || !isText(tag) {
			return invalid("tags_invalid", fmt.Sprintf("a tag is 1 to %d characters, without control characters", maxTag))
		}
	}
	return nil
}

// isText reports whether a text is well formed, and has nothing that is not to be seen or
// changes the direction of what is.
func isText(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(c rune) bool { return unicode.IsControl(c) || unicode.Is(unicode.Cf, c) })
}
