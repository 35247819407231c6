package session

import (
	"context"
	"strings"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/internal/metric"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// Filter says whose sessions are meant.
type Filter struct {
	// Issuer and Subject are the person's. Empty means everybody's sessions.
	Issuer, Subject string
}

// Info is what can be told about a session.
type Info struct {
	// ID is its PublicID.
	ID     string
	Owner  state.Owner
	Server string
	// Version is the revision that was negotiated, empty while it is not known.
	Version mcp.Version
	// Used is when the session was used last. What other nodes know of that, and of
	// Messages and Bytes, is told within half a minute.
	Created, Used time.Time
	// Messages and Bytes are those of the session, in both directions.
	Messages, Bytes int64
}

// prefix is what the keys begin with of the sessions that are meant.
func (f Filter) prefix() string {
	if f == (Filter{}) {
		return state.Prefix(state.TableSession)
	}
	person, _ := state.Owner{Issuer: f.Issuer, Subject: f.Subject}.Parts()
	return state.Prefix(state.TableSession, person)
}

func (f Filter) has(r *record) bool { return f == Filter{} || f == Filter{r.Issuer, r.Subject} }

// List returns sessions in the order of their IDs, from the one at offset on and up to
// limit of them, and how many there are. To count them, all are read.
func (t *Sessions) List(ctx context.Context, f Filter, offset, limit int) (page []Info, total int, err error) {
	for r, err := range state.All(ctx, t.store, f.prefix()) {
		if err != nil {
			return nil, 0, err
		}
		if at := total; at >= offset && len(page) < limit {
			entry, err := records.Decode(r)
			if err != nil || !f.has(&entry.Data) {
				continue // one that nobody can use
			}
			page = append(page, t.info(r.Key, &entry.Data))
		}
		total++
	}
	return page, total, nil
}

// info adds what this node knows better.
func (t *Sessions) info(key string, r *record) Info {
	info := Info{
		ID: publicID(key), Owner: r.owner(), Server: r.Server, Version: mcp.Version(r.Version),
		Created: time.UnixMilli(r.Created), Used: time.UnixMilli(r.Used), Messages: r.Messages, Bytes: r.Bytes,
	}
	s, known := t.rows.Known(key)
	if !known {
		return info
	}
	if used := time.Unix(0, s.lastUsed.Load()); used.After(info.Used) {
		info.Used = used
	}
	if info.Version == "" {
		info.Version = s.Negotiated()
	}
	info.Messages += s.messages.Load()
	info.Bytes += s.bytes.Load()
	return info
}

// End ends a session by its PublicID, on all nodes, together with its event streams, and
// tells its server. One that is not meant is as unknown as one that never was, which is
// an ErrNotFound. When it returns, the store knows.
func (t *Sessions) End(ctx context.Context, id string, f Filter) error {
	key := keyOfPublic(id)
	if key == "" || !strings.HasPrefix(key, f.prefix()) {
		return state.ErrNotFound
	}
	r, err := state.Get(ctx, t.store, key)
	if err != nil {
		return err
	}
	entry, err := records.Decode(r)
	if err == nil && !f.has(&entry.Data) {
		return state.ErrNotFound
	}
	if removed := t.rows.Remove(ctx, key); removed != nil {
		return removed
	}
	metric.SessionEnded(string(EndAdministrator))
	if err == nil {
		t.part(entry.Data.parting())
	}
	return nil
}
