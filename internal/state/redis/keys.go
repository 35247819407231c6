package redis

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// The keys in Redis, with the default prefix:
//
//	{mcp_gateway}:r:<key>             a record, as Record.Encode makes it
//	{mcp_gateway}:index               sorted set, all with score 0: the keys of records
//	{mcp_gateway}:expiries            sorted set: the keys of those that expire, by when
//	{mcp_gateway}:done:<version>      an Apply that was made, for a minute
//	mcp_gateway:count:<key>           hash: the uses under a key
//	mcp_gateway:revoked:<kind>:<hash> a revocation, as Revocation.EncodeText makes it
//	token:revoked:<jti>               the revocation of a token id
//	mcp_gateway:beat:<connection>     shows that changes come through
//
// What is in braces decides on the slot of a cluster. A script may only change keys of
// one slot, and so all records have the same.
//
// A revoked token id is where ContextForge looks for it and writes it. What we write
// there is
//
//	mcp_gateway/1 <expires> <issuers>
//
// with expires in milliseconds since 1970, or 0, and the issuers escaped as in a URL's
// query, or * for every issuer, with spaces between. Any other value is somebody
// else's: a token id of every issuer.
//
// All of them but index and expiries have the remaining life of what they hold as their
// time to live. Every layout says its version; one that is changed has to stay
// readable.
const literalPrefix = "token:revoked:"

func (s *settings) recordPrefix() string { return "{" + s.Prefix + "}:r:" }

func (s *settings) index() string { return "{" + s.Prefix + "}:index" }

func (s *settings) expiries() string { return "{" + s.Prefix + "}:expiries" }

func (s *settings) doneKey(v state.Version) string {
	return fmt.Sprintf("{%s}:done:%016x", s.Prefix, uint64(v))
}

func (s *settings) counterKey(key string) string { return s.Prefix + ":count:" + key }

func (s *settings) revokedPrefix() string { return s.Prefix + ":revoked:" }

// revokedKey is where a revocation is.
func (s *settings) revokedKey(r state.Revocation) string {
	if r.Kind == state.RevokeID {
		return literalPrefix + r.Value
	}
	h := sha256.New()
	h.Write(binary.AppendUvarint(nil, uint64(len(r.Issuer))))
	h.Write([]byte(r.Issuer))
	h.Write([]byte(r.Value))
	return s.revokedPrefix() + r.Kind.String() + ":" + hex.EncodeToString(h.Sum(nil)[:16])
}

// beatKey is a key that a tag sends to a certain node of a cluster.
func (s *settings) beatKey(tag, connection string) string {
	return s.Prefix + ":beat:{" + tag + "}" + connection
}

func joinHostPort(host, port string) string { return net.JoinHostPort(host, port) }
