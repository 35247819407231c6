package state

import (
	"errors"
	"strings"
)

// The keys of records, all of them. A key is the name of its table and what tells the
// record apart in it, with slashes between: user/alice@example.com. Parts are escaped
// by Key, so that no name can be made that is in another table, or in another part.
// The records of one table are together, in the order of their keys, and so are those
// that have their first parts in common: list the assignments of a user by the prefix
// that Prefix makes.
//
// What is looked for by something else than its key has a second record whose key is
// that, an index: token_by_name/alice/ci has the id of a token as its value. The two
// are written by one Apply. Create an index whose key must be unique: Apply refuses
// it when there is one.
//
// Write the name of each table here, and what its keys are made of.
const (
	// TableSecret has secrets that the gateway made for itself and that all nodes
	// have to agree on. Parts: what it is for.
	TableSecret = "secret"
	// TableToken has what was issued. Parts: the token's id.
	TableToken = "token"
	// TableTokenName has the ids of active tokens by their names. Parts: the user's id,
	// the team or nothing, the SHA-256 of the name.
	TableTokenName = "token_name"
	// TableTokenOf has which tokens a user has. Parts: the user's id, the token's.
	TableTokenOf = "token_of"
	// TableTokenTeam has which tokens a team has. Parts: the team's id, the token's.
	TableTokenTeam = "token_team"
	// TableTokenGate has those who make tokens at the same time meet. Parts: user or
	// team, its id.
	TableTokenGate = "token_gate"
	// TableTokenUse has how much a token was used. Parts: the token's id, the day.
	TableTokenUse = "token_use"
	// TableTokenUsed has when a token was used last. Parts: the token's id.
	TableTokenUsed = "token_used"
	// TableUser has accounts. Parts: the e-mail address in lower case.
	TableUser = "user"
	// TableUserID has the addresses of users. Parts: the user's id.
	TableUserID = "user_id"
	// TableRoster has what is about all users together. Parts: what it is.
	TableRoster = "roster"
	// TableFailure has wrong passwords. Parts: the user's id.
	TableFailure = "failure"
	// TableLogin has interactive sessions. Parts: the user's id, the session's.
	TableLogin = "login"
	// TableTeam has teams. Parts: the team's id.
	TableTeam = "team"
	// TableMember has memberships. Parts: the team's id, the user's.
	TableMember = "member"
	// TableMemberOf has them by user. Parts: the user's id, the team's.
	TableMemberOf = "member_of"
	// TableAssignment has assignments of roles. Parts: the user's id, the role,
	// its scope.
	TableAssignment = "assignment"
	// TableSession has MCP sessions. Parts: the hashes of the person, of the client
	// and of the session's id.
	TableSession = "session"
	// TableSessionAsk has requests of servers that a client has not answered yet.
	// Parts: those of the session, the hash of the request's id.
	TableSessionAsk = "session_ask"
	// TableTask has who began which task. Parts: the server, the hash of the task's
	// id.
	TableTask = "task"
	// TableTaskBy has tasks by their owners. Parts: the hashes of the person and of
	// the client, the server, the hash of the task's id.
	TableTaskBy = "task_by"
)

// Key is the key of a record.
func Key(table string, parts ...string) string {
	var b strings.Builder
	b.WriteString(table)
	for _, part := range parts {
		b.WriteByte('/')
		escape(&b, part)
	}
	return b.String()
}

// Prefix is what all keys of a table begin with, or all that have those first parts.
func Prefix(table string, parts ...string) string {
	return Key(table, parts...) + "/"
}

// Parts takes apart what Key has made.
func Parts(key string) (table string, parts []string, err error) {
	table, rest, ok := strings.Cut(key, "/")
	for ok {
		var part string
		part, rest, ok = strings.Cut(rest, "/")
		if part, err = unescape(part); err != nil {
			return "", nil, err
		}
		parts = append(parts, part)
	}
	return table, parts, nil
}

const hexDigits = "0123456789ABCDEF"

// escape keeps the order of parts as far as they do not hold what is escaped.
func escape(b *strings.Builder, part string) {
	for i := range len(part) {
		switch c := part[i]; {
		case c == '/' || c == '%' || c < ' ' || c == 0x7f:
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		default:
			b.WriteByte(c)
		}
	}
}

func unescape(part string) (string, error) {
	if !strings.Contains(part, "%") {
		return part, nil
	}
	var b strings.Builder
	for i := 0; i < len(part); i++ {
		if part[i] != '%' {
			b.WriteByte(part[i])
			continue
		}
		if i+2 >= len(part) {
			return "", errKey
		}
		hi, lo := strings.IndexByte(hexDigits, part[i+1]), strings.IndexByte(hexDigits, part[i+2])
		if hi < 0 || lo < 0 {
			return "", errKey
		}
		b.WriteByte(byte(hi<<4 | lo)) // #nosec G115 -- two digits
		i += 2
	}
	return b.String(), nil
}

var errKey = errors.New("this is not a key that Key has made")
