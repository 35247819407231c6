package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// Config is all that a policy is compiled from.
type Config struct {
	// Roles say who may do what.
	Roles []Role

	// Teams say what belongs to each team, by its id: servers by their names, and
	// objects of one server, written `server/object` as in a [Grant]. The objects
	// are tools, prompts and resources of that name or URI alike. What belongs to a
	// team, and to which, is of meaning only for roles that hold in teams.
	Teams map[string][]string

	// Visibility says for whom objects are, written `server/object` in the same way.
	// Only who is of the audience of every entry that matches an object has it, so
	// that the order of the entries has no meaning and none of them widens another;
	// for everybody else it does not exist, whatever their roles are. URIs and
	// templates are compared as those that a role denies, but those that have several
	// spellings are hidden only by the patterns that could match one of them.
	Visibility map[string]Audience
}

// Audience is for whom something is: the members of a team, or one person. The zero
// Audience is everybody.
type Audience struct {
	// Team is the id of the team.
	Team string
	// Owner is the subject of the person.
	Owner string
}

// ObjectError says what is wrong with what a configuration says about teams, servers
// and objects outside of its roles.
type ObjectError struct {
	// Team is the team that is said to own something, empty when the error is about
	// who sees something.
	Team string
	// Object is the server or objects as they are written, empty when the error is
	// about the team.
	Object string
	// Reason is the error without its place.
	Reason string
}

// Error returns the reason with the place in front of it.
func (e *ObjectError) Error() string {
	switch {
	case e.Team == "" && e.Object == "":
		return e.Reason
	case e.Team == "":
		return fmt.Sprintf("visibility of %s: %s", e.Object, e.Reason)
	case e.Object == "":
		return fmt.Sprintf("team %s: %s", e.Team, e.Reason)
	}
	return fmt.Sprintf("team %s: %s: %s", e.Team, e.Object, e.Reason)
}

// addHidden enters what is not for everybody. To the engine this is a deny of
// everything about the object to whoever is not of the audience.
func (p *Policy) addHidden(visibility map[string]Audience) error {
	p.hidden = rules{deny: true, byScheme: true}
	patterns := slices.Sorted(maps.Keys(visibility))
	parsed := make(map[string]object, len(patterns))
	numbers := make(map[Audience]int)
	for _, pattern := range patterns {
		o, err := parseOwned(pattern)
		if err == nil && o.whole {
			err = errors.New("this is the whole server: say for whom that is by its name alone")
		}
		if err != nil {
			return &ObjectError{Object: pattern, Reason: err.Error()}
		}
		parsed[pattern] = o
		audience := visibility[pattern]
		if audience == (Audience{}) {
			continue
		}
		id, ok := numbers[audience]
		if !ok {
			id = len(p.audiences)
			numbers[audience] = id
			p.audiences = append(p.audiences, audience)
		}
		p.hidden.add(&Rule{Deny: true, role: id, object: pattern}, o, mcp.PermissionNone)
	}
	p.hidden.seal()
	p.deny.any = p.hidden.any // see ask
	return checkPublic(patterns, parsed, visibility)
}

// checkPublic refuses an entry for everybody that lies within one that is not: who
// wrote it wants an exception, and there are none.
func checkPublic(patterns []string, parsed map[string]object, visibility map[string]Audience) error {
	for _, public := range patterns {
		if visibility[public] != (Audience{}) {
			continue
		}
		var text strings.Builder
		for _, t := range parsed[public].tokens {
			text.WriteString(t.text)
			if t.wild != 0 {
				text.WriteString(strings.Repeat("*", int(t.wild)))
			}
		}
		for _, other := range patterns {
			if visibility[other] == (Audience{}) || parsed[other].server != parsed[public].server {
				continue
			}
			if newGlob(parsed[other].tokens).match(text.String()) {
				return &ObjectError{Object: public, Reason: fmt.Sprintf("public makes no exception from %s, which matches it too: who sees an object must be let by all that match it", other)}
			}
		}
	}
	return nil
}

// hides reports whether the object of a question is not for the principal.
func (p *Policy) hides(q *question) bool {
	if q.view == nil || q.view.blind == nil {
		return false
	}
	q.bits, q.team.asked = q.view.blind, false
	hidden := p.hidden.match(q)
	q.bits = q.held
	return hidden
}

// Interface guard.
var _ error = (*ObjectError)(nil)
