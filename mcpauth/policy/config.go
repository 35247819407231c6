package policy

import (
	"fmt"
	"strings"
)

// Role gives what it allows to every principal for which its conditions hold.
// Roles only ever add up: nothing one role allows is taken away by another, and
// the order in which roles, conditions and grants are written has no meaning.
type Role struct {
	// The role's name, unique in the configuration. It is reported to the
	// upstream server, so it is made of visible ASCII characters other than the
	// comma.
	Name string `json:"name"`

	// What must be true of a principal for it to have the role. All conditions
	// must hold. Without a condition, every principal that the gateway has
	// authenticated has the role.
	When []Condition `json:"when,omitempty"`

	// What the role allows. A role without grants allows nothing; it can still
	// be reported to the upstream server.
	Allow []Grant `json:"allow,omitempty"`
}

// Condition holds for a principal whose claim has at least one of the values.
// Values are compared byte for byte. Two conditions on the same claim must both
// hold, each by any of its own values.
type Condition struct {
	// The claim of the token to look at. The claim `scope` stands for the scopes
	// of the token, whichever claim its issuer wrote them in; a missing scope
	// can be asked of the client, a missing value of another claim cannot.
	Claim string `json:"claim"`

	// The values, any of which is enough. At least one is required, and none
	// may be empty. A claim that is absent, or that has neither a string nor a
	// list of strings, has no value.
	Values []string `json:"values"`
}

// Grant allows one permission, or all of them, on the objects it names.
type Grant struct {
	// The permission, such as `tools.execute`, or `*` for every permission.
	// `tools.execute` and `prompts.execute` also give `tools.read` and
	// `prompts.read` on the same objects, and any grant that touches a server
	// gives `servers.use` there.
	Permission string `json:"permission"`

	// The objects, each written `server/object` and split at the first slash.
	// Left out, the grant covers everything on every server; an empty list is
	// refused.
	//
	// The server is a name or a glob in which `*` is any run of characters. A
	// server alone, or `server/**`, is everything on it, and the only form that
	// fits the permissions which are not about an object (`servers.use`,
	// `logging.write`, `tasks.*`, `client.*`).
	//
	// The object is the exact name of a tool or prompt, the exact URI of a
	// resource, or a glob: `*` is any run of characters without a slash, `**`
	// any run with slashes, `\*` a literal star; nothing else is special, and
	// the whole name must match. Names and URIs are compared byte for byte. A
	// glob other than `**` never matches a URI that could be read in two ways:
	// one with a dot segment, an encoded slash, percent sign or control
	// character, a backslash, user information, characters outside ASCII, or a
	// query or fragment that the pattern does not write out. Such a URI can be
	// named exactly.
	Objects []string `json:"objects,omitempty"`
}

// Error says what is wrong with a configuration, and where, so that whoever
// read the configuration from a file can add the line.
type Error struct {
	// Role is the name of the role, which may be empty, and RoleIndex its place
	// in the list given to [Compile].
	Role      string
	RoleIndex int
	// Condition and Grant are the places of the condition or grant within the
	// role, Object that of the object within the grant; -1 when the error is not
	// about one.
	Condition int
	Grant     int
	Object    int
	// Reason is the error without its place.
	Reason string
}

// Error returns the reason with the place in front of it, counted from one.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Role == "" {
		fmt.Fprintf(&b, "role %d", e.RoleIndex+1)
	} else {
		fmt.Fprintf(&b, "role %q", e.Role)
	}
	if e.Condition >= 0 {
		fmt.Fprintf(&b, ": condition %d", e.Condition+1)
	}
	if e.Grant >= 0 {
		fmt.Fprintf(&b, ": grant %d", e.Grant+1)
	}
	if e.Object >= 0 {
		fmt.Fprintf(&b, ": object %d", e.Object+1)
	}
	b.WriteString(": ")
	b.WriteString(e.Reason)
	return b.String()
}

// Interface guard.
var _ error = (*Error)(nil)
