package session

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
)

// record is a session as the store has it. Times are in milliseconds since 1970.
type record struct {
	Server     string `json:"server"`
	Upstream   string `json:"upstream,omitempty"`
	UpstreamID string `json:"upstream_id"`
	Issuer     string `json:"issuer"`
	Subject    string `json:"subject"`
	Client     string `json:"client,omitempty"`
	// Version is the protocol revision that was negotiated, empty until it is known.
	Version  string `json:"version,omitempty"`
	Created  int64  `json:"created"`
	Used     int64  `json:"used"`
	Messages int64  `json:"messages"`
	Bytes    int64  `json:"bytes"`
	// TokenID, Issued and Hash are what the token that began it can be revoked by,
	// beside its issuer, subject and client, which are the owner's.
	TokenID string `json:"jti,omitempty"`
	Issued  int64  `json:"iat,omitempty"`
	Hash    string `json:"hash,omitempty"`
	// Events are the hashes of the last event ids, of 8 bytes each.
	Events []byte `json:"events,omitempty"`
}

var records = state.Table[record]{Name: state.TableSession, Version: 1}

// keyOf is the key of an owner's session.
func keyOf(owner state.Owner, id string) string {
	person, client := owner.Parts()
	return records.Key(person, client, fingerprint(id))
}

func fingerprint(id string) string { return state.Fingerprint(16, id) }

// PublicID is what a session is called where people see it. It cannot be used as one.
func PublicID(owner state.Owner, id string) string { return publicID(keyOf(owner, id)) }

func publicID(key string) string {
	_, parts, _ := strings.Cut(key, "/")
	return strings.ReplaceAll(parts, "/", ".")
}

// keyOfPublic is the key of the session that is called so, empty if none can be.
func keyOfPublic(id string) string {
	parts := strings.Split(id, ".")
	if len(parts) != 3 {
		return ""
	}
	for i, length := range []int{26, 16, 26} {
		if len(parts[i]) != length || strings.Trim(parts[i], "abcdefghijklmnopqrstuvwxyz234567") != "" {
			return ""
		}
	}
	return records.Key(parts...)
}

// wellFormed reports whether an id may be one of ours, so that the store is not asked
// for what cannot be there.
func wellFormed(id string) bool {
	return len(id) == idLength && strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// idLength is that of rand.Text.
const idLength = 26

func (r *record) owner() state.Owner {
	return state.Owner{Issuer: r.Issuer, Subject: r.Subject, ClientID: r.Client}
}

// token is what began the session.
func (r *record) token() revocation.Token {
	t := revocation.Token{Issuer: r.Issuer, ID: r.TokenID, Subject: r.Subject, Client: r.Client, IssuedAt: state.FromMillis(r.Issued)}
	_, _ = hex.Decode(t.Hash[:], []byte(r.Hash)) // what is not one is that of no token
	return t
}

// setToken is its reverse. The issue time is kept to the second, as in the token.
func (r *record) setToken(t *revocation.Token) {
	r.TokenID, r.Hash = t.ID, hex.EncodeToString(t.Hash[:])
	if !t.IssuedAt.IsZero() {
		r.Issued = t.IssuedAt.UnixMilli()
	}
}

func (r *record) events() []uint64 {
	events := make([]uint64, 0, len(r.Events)/8)
	for b := r.Events; len(b) >= 8; b = b[8:] {
		events = append(events, binary.BigEndian.Uint64(b))
	}
	return events
}

func (r *record) setEvents(events []uint64) {
	r.Events = nil
	for _, h := range events {
		r.Events = binary.BigEndian.AppendUint64(r.Events, h)
	}
}

// expires is when the session ends if it is not used any more.
func (r *record) expires(limits Limits) time.Time {
	idle := time.UnixMilli(r.Used).Add(limits.Idle)
	if life := time.UnixMilli(r.Created).Add(limits.Life); life.Before(idle) {
		return life
	}
	return idle
}
