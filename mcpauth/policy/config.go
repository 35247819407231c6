package policy

import (
	"fmt"
	"strings"
)

// Role gives what it allows to every principal for which its conditions hold, and
// takes what it denies from them. What any role of a principal denies, no role
// allows it. The order in which roles, conditions and grants are written has no
// meaning.
type Role struct {
	// The role's name, unique in the configuration. It is reported to the
	// upstream server, so it is made of visible ASCII characters other than the
	// comma.
	Name string `json:"name"`

	// What must be true of a principal for it to have the role. All conditions
	// must hold. Without a condition, every principal that the gateway has
	// authenticated has the role.
	When []Condition `json:"when,omitempty"`

	// The teams in which the role holds, by their ids; `*` alone stands for every
	// team. What such a role allows and denies counts only for what belongs to one
	// of these teams, and only for a principal that is of that team. Left out, the
	// role holds everywhere; an empty list is refused. Something must belong to
	// each team that is named, and each `allow` and `deny` that names servers must
	// name one of which something belongs to one of the teams.
	Teams []string `json:"teams,omitempty"`

	// What the role allows. A role without grants allows nothing; it can still
	// be reported to the upstream server.
	Allow []Grant `json:"allow,omitempty"`

	// What the role denies, whatever this or any other role of the principal
	// allows.
	//
	// Denying `tools.read` or `prompts.read` hides an object, and so denies
	// `tools.execute` or `prompts.execute` as well, because nobody may call what
	// they may not see; in the same way `resources.read` takes
	// `resources.subscribe` with it, and `tasks.read` takes `tasks.write`. Denying
	// `tools.execute` hides nothing. Denying `servers.use` denies everything on
	// that server, and is the same as denying `*` on the whole of it.
	//
	// Names of tools and prompts are compared byte for byte, as they are for
	// `allow`. URIs are compared without regard to the case of ASCII letters, and
	// a query, a fragment or a trailing slash that the pattern does not write out
	// is no way around it (one that the pattern does write out is compared as text,
	// so that other parameters get around it); `dir/**` and `dir/*` deny `dir`
	// itself as well. A URI
	// which has more than one spelling that a server could take for the same
	// counts as matched by every deny that names resources of that server, be it
	// a glob or exact: one that `allow` matches with no glob, and also one with an
	// encoded character that need not be encoded or is outside ASCII, an empty
	// path segment, a segment that ends in a dot or space, `;`, an explicit
	// default port, an address of a host in an unusual form, a `file:` that does not begin with `file:///`, or no scheme.
	// A template is hidden when it could make a URI that is denied, as far as its
	// text before the first expression tells.
	//
	// A deny sees text: it does not know of symbolic links and other aliases on
	// the server. Allowing what is needed is stronger than denying what is not.
	Deny []Grant `json:"deny,omitempty"`

	// The names of roles whose `allow` and `deny` this role includes: roles of
	// this configuration, or built-in ones (`platform_admin`, `platform_viewer`,
	// `team_admin`, `developer`, `viewer`). Conditions and teams are not included:
	// who has this role, and in which teams, is for this role to say. A role of
	// the configuration hides the built-in role of the same name, except from
	// itself: a role named `viewer` may extend `viewer`.
	Extends []string `json:"extends,omitempty"`
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

// Grant allows one permission, or all of them, on the objects it names; or, where
// a role denies, takes it.
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

	// A condition in CEL (https://cel.dev), true where the grant counts. It can use
	// `args` (the arguments of the call), `claims` (those of the token), and the
	// texts `server`, `tool` (the name of the tool or prompt) and `client` (the
	// client's id), such as `args.schema in ["public", "sales"]`. Only
	// `tools.execute` and `prompts.execute` can have one. It has at most 4096
	// bytes, and must be a comparison or the like, not a bare `args.x`; the pattern
	// of `matches` must be written out.
	//
	// It is evaluated only where the answer depends on it. When it cannot be
	// evaluated, for example because an argument is missing, or when it costs too
	// much, an allow does not allow, and a deny denies. An object that some
	// condition could allow is visible.
	If string `json:"if,omitempty"`

	// Where the grant was written, such as `Caddyfile:31`, for explanations. It
	// has no effect on decisions.
	Source string `json:"at,omitempty"`
}

// Error says what is wrong with a configuration, and where, so that whoever
// read the configuration from a file can add the line.
type Error struct {
	// Role is the name of the role, which may be empty, and RoleIndex its place
	// in the list given to [Compile].
	Role      string
	RoleIndex int
	// Condition, Team, Grant and Extends are the places of the condition, team,
	// grant or extended role within the role, Object that of the object within the
	// grant; -1 when the error is not about one.
	Condition int
	Team      int
	Grant     int
	Object    int
	Extends   int
	// Deny says that Grant is a place in what the role denies.
	Deny bool
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
	if e.Team >= 0 {
		fmt.Fprintf(&b, ": team %d", e.Team+1)
	}
	if e.Grant >= 0 {
		kind := "grant"
		if e.Deny {
			kind = "deny"
		}
		fmt.Fprintf(&b, ": %s %d", kind, e.Grant+1)
	}
	if e.Object >= 0 {
		fmt.Fprintf(&b, ": object %d", e.Object+1)
	}
	if e.Extends >= 0 {
		fmt.Fprintf(&b, ": extends %d", e.Extends+1)
	}
	b.WriteString(": ")
	b.WriteString(e.Reason)
	return b.String()
}

// Interface guard.
var _ error = (*Error)(nil)
