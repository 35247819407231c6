package redis

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// together is how many keys are asked for, or written, in one go.
const together = 1000

// Revoke writes revocations. One that could not be written is tried again when all are
// read anew.
func (s *Store) Revoke(ctx context.Context, revocations ...state.Revocation) error {
	for _, r := range revocations {
		if err := state.CheckRevocation(r); err != nil {
			return err
		}
	}
	s.kept.add(revocations...)
	return s.writeRevocations(ctx, revocations, s.MinReplicas)
}

// writeRevocations writes those that are in force, and waits for so many replicas.
func (s *Store) writeRevocations(ctx context.Context, revocations []state.Revocation, replicas int) error {
	now := time.Now()
	var inForce []state.Revocation
	for _, r := range revocations {
		if !r.Over(now) {
			inForce = append(inForce, r)
		}
	}
	if err := ctx.Err(); err != nil {
		return state.Unavailable(context.Cause(ctx))
	}
	for len(inForce) > 0 {
		n := min(together, len(inForce))
		if err := s.revoke(ctx, now, inForce[:n], replicas); err != nil {
			return err
		}
		inForce = inForce[n:]
	}
	return nil
}

func (s *Store) revoke(ctx context.Context, now time.Time, revocations []state.Revocation, replicas int) error {
	ctx, cancel, err := s.call(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if len(revocations) == 1 || replicas > 0 {
		for _, r := range revocations {
			script, args := revokeArgs(r, now)
			if _, err := s.write(ctx, script, replicas, []string{s.revokedKey(r)}, args...); err != nil {
				return state.Unavailable(err)
			}
		}
		return nil
	}
	pipe := s.client.Pipeline()
	for _, r := range revocations {
		script, args := revokeArgs(r, now)
		script.Eval(ctx, pipe, []string{s.revokedKey(r)}, args...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return state.Unavailable(err)
	}
	return nil
}

func revokeArgs(r state.Revocation, now time.Time) (*goredis.Script, []any) {
	life := ""
	if !r.Expires.IsZero() {
		life = strconv.FormatInt(remaining(r.Expires, now), 10)
	}
	if r.Kind == state.RevokeID {
		return revokeIDScript, []any{state.Millis(r.Expires), life, state.EscapeIssuer(r.Issuer)}
	}
	// mcp_gateway/1 <expires> <before> <rest>
	rest := strings.SplitN(r.EncodeText(), " ", 4)[3]
	return revokeScript, []any{state.Millis(r.Expires), life, state.Millis(r.Before), rest}
}

// Follow tells of the revocations.
func (s *Store) Follow(ctx context.Context, told func(state.Update)) {
	prefixes := []string{literalPrefix, s.revokedPrefix()}
	s.follow(ctx, &feed{
		store:    s,
		prefixes: prefixes,
		load: func(ctx context.Context, node *goredis.Client, tell func(state.Update)) (then, error) {
			reading := s.kept.read(time.Now(), func(r state.Revocation) bool {
				if !s.Cluster {
					return true
				}
				master, err := s.node(ctx, s.revokedKey(r))
				return err == nil && master.Options().Addr == node.Options().Addr
			})
			err := s.scanRevocations(ctx, node, prefixes, func(u state.Update) {
				reading.told(u.Revocations)
				tell(u)
			})
			if err != nil {
				return nil, err
			}
			lost := reading.rest(time.Now())
			return func(ctx context.Context) error { return s.restore(ctx, lost) }, nil
		},
		fetch: func(ctx context.Context, node *goredis.Client, keys []string, tell func(state.Update)) error {
			return s.fetchRevocations(ctx, node, keys, func(u state.Update) {
				s.kept.add(u.Revocations...)
				tell(u)
			})
		},
		told: told,
	})
}

// scanRevocations tells of all that a server has whose keys begin with one of the
// prefixes. Of what is written meanwhile, the feed tells. While some keys are read, the
// next ones are looked for.
func (s *Store) scanRevocations(ctx context.Context, node *goredis.Client, prefixes []string, tell func(state.Update)) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	pages, failed := make(chan []string, 1), make(chan error, 1)
	running.Go(func() {
		defer close(pages)
		for cursor := uint64(0); ; {
			keys, next, err := s.scanKeys(ctx, node, cursor)
			if err != nil {
				failed <- err
				return
			}
			keys = slices.DeleteFunc(keys, func(key string) bool {
				return !slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
			})
			select {
			case pages <- keys:
			case <-ctx.Done():
				failed <- context.Cause(ctx)
				return
			}
			if next == 0 {
				failed <- nil
				return
			}
			cursor = next
		}
	})
	for keys := range pages {
		if err := s.fetchRevocations(ctx, node, keys, tell); err != nil {
			return err
		}
	}
	return <-failed
}

// bothPrefixes matches the keys of revocations, and few others: to go through all keys
// once for each prefix takes twice as long.
const bothPrefixes = "*:revoked:*"

func (s *Store) scanKeys(ctx context.Context, node *goredis.Client, cursor uint64) ([]string, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	return node.Scan(ctx, cursor, bothPrefixes, together).Result()
}

// fetchRevocations reads keys and tells what they say.
func (s *Store) fetchRevocations(ctx context.Context, node *goredis.Client, keys []string, tell func(state.Update)) error {
	for len(keys) > 0 {
		n := min(together, len(keys))
		revocations, err := s.readRevocations(ctx, node, keys[:n])
		if err != nil {
			return err
		}
		if len(revocations) > 0 {
			tell(state.Update{Revocations: revocations})
		}
		keys = keys[n:]
	}
	return nil
}

func (s *Store) readRevocations(ctx context.Context, node *goredis.Client, keys []string) ([]state.Revocation, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	values, err := s.values(ctx, node, keys)
	if err != nil {
		return nil, err
	}
	revocations := make([]state.Revocation, 0, len(keys))
	var others []string
	for i, key := range keys {
		id, literal := strings.CutPrefix(key, literalPrefix)
		switch {
		case values[i] == nil:
			// Expired between two steps.
		case !literal:
			r, err := state.DecodeRevocation(*values[i])
			if err != nil || s.revokedKey(r) != key {
				// Something is revoked, but we do not know what.
				return nil, state.ErrDamaged
			}
			revocations = append(revocations, r)
		case id == "":
			// Of a token without an id, which is none of ours.
		default:
			mine, ok := decodeLiteral(id, *values[i])
			if !ok {
				others = append(others, key)
				continue
			}
			revocations = append(revocations, mine...)
		}
	}
	now := time.Now()
	revocations = slices.DeleteFunc(revocations, func(r state.Revocation) bool { return r.Over(now) })
	if len(others) == 0 {
		return revocations, nil
	}
	lives, err := s.lives(ctx, node, others)
	if err != nil {
		return nil, err
	}
	for i, key := range others {
		r := state.Revocation{Kind: state.RevokeID, Value: key[len(literalPrefix):]}
		if len(r.Value) > state.MaxRevocation {
			continue // longer than any token
		}
		// Without a time to live it is -1, and for ever. Of a key that has ended in
		// between it is -2, and to have revoked it for a while longer does no harm.
		switch left := lives[i]; {
		case left >= 0:
			r.Expires = now.Add(left)
		case left != -1:
			r.Expires = now.Add(time.Minute)
		}
		revocations = append(revocations, r)
	}
	return revocations, nil
}

// decodeLiteral reads what we write for a token id. What is damaged is somebody
// else's: the id of every issuer.
func decodeLiteral(id, value string) ([]state.Revocation, bool) {
	fields := strings.Split(value, " ")
	if len(fields) < 3 || fields[0] != state.RevocationText || len(id) > state.MaxRevocation {
		return nil, false
	}
	expires, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil || expires < 0 {
		return nil, false
	}
	revocations := make([]state.Revocation, 0, len(fields)-2)
	for _, field := range fields[2:] {
		issuer, err := state.UnescapeIssuer(field)
		if err != nil {
			return nil, false
		}
		revocations = append(revocations, state.Revocation{
			Kind: state.RevokeID, Issuer: issuer, Value: id, Expires: state.FromMillis(expires),
		})
	}
	return revocations, true
}

// values reads keys that are all on one server; nil for one that does not exist.
func (s *Store) values(ctx context.Context, node *goredis.Client, keys []string) ([]*string, error) {
	values := make([]*string, len(keys))
	if !s.Cluster {
		found, err := node.MGet(ctx, keys...).Result()
		if err != nil {
			return nil, err
		}
		for i, value := range found {
			if text, ok := value.(string); ok {
				values[i] = &text
			}
		}
		return values, nil
	}
	// In a cluster, one command is for one slot.
	pipe := node.Pipeline()
	commands := make([]*goredis.StringCmd, len(keys))
	for i, key := range keys {
		commands[i] = pipe.Get(ctx, key)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, command := range commands {
		text, err := command.Result()
		if err == nil {
			values[i] = &text
		} else if !errors.Is(err, goredis.Nil) {
			return nil, err
		}
	}
	return values, nil
}

// lives are the times to live, as go-redis has them: -1 and -2 are not times.
func (s *Store) lives(ctx context.Context, node *goredis.Client, keys []string) ([]time.Duration, error) {
	pipe := node.Pipeline()
	commands := make([]*goredis.DurationCmd, len(keys))
	for i, key := range keys {
		commands[i] = pipe.PTTL(ctx, key)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	lives := make([]time.Duration, len(keys))
	for i, command := range commands {
		lives[i] = command.Val()
	}
	return lives, nil
}
