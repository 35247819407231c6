package issue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// Key is what may be known of a signing key.
type Key struct {
	ID        string `json:"kid"`
	Algorithm string `json:"alg"`
	// Created is when it was made; of a file, when that was last changed.
	Created time.Time `json:"created_at"`
	// From is when it begins to sign.
	From time.Time `json:"signs_from"`
	// Until is when it stops to verify; zero for not yet known.
	Until time.Time `json:"verifies_until,omitzero"`
	// Signs is whether it signs now.
	Signs bool `json:"signs"`
}

// List returns the keys, as far as they are known.
func (i *Issuer) List() []Key {
	set := i.set.Load()
	if set == nil {
		return nil
	}
	signing := set.signing(i.now())
	keys := make([]Key, len(set.keys))
	for n, k := range set.keys {
		keys[n] = Key{k.jwk.KeyID, k.jwk.Algorithm, k.created, k.from, k.until, k == signing}
	}
	return keys
}

// JWKS returns the public keys as a JWK Set (RFC 7517 section 5). They are those that
// sign, will sign, or have signed tokens that can still be good.
func (i *Issuer) JWKS(ctx context.Context) ([]byte, error) {
	set := i.set.Load()
	if set == nil {
		if err := i.reload(ctx); err != nil {
			return nil, err
		}
		if set = i.set.Load(); set == nil {
			return nil, errNoKeys
		}
	}
	now := i.now()
	document := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range set.keys {
		if k.until.IsZero() || now.Before(k.until) {
			document.Keys = append(document.Keys, k.jwk)
		}
	}
	return json.Marshal(document)
}

// PublishAhead is for how long a new key is published before it signs, unless there is
// a hurry: others may keep the JWK Set that long.
const PublishAhead = 10 * time.Minute

// maxKeys bounds the JWK Set.
const maxKeys = 32

var (
	// ErrKeyFiles is for keys that are in files.
	ErrKeyFiles = errors.New("the signing keys are in files; put another file first in the configuration, and reload it")
	// ErrKeyUnknown is for a kid that no key has.
	ErrKeyUnknown = errors.New("there is no signing key of this id")
	// ErrManyKeys is for one key more than there may be.
	ErrManyKeys = fmt.Errorf("there are %d signing keys; wait until some are over, or withdraw some", maxKeys)
)

// Rotate makes another key, which signs after some time: PublishAhead, or 0 in a hurry.
// The former ones verify until all tokens that they have signed are over.
func (i *Issuer) Rotate(ctx context.Context, by string, ahead time.Duration) (Key, error) {
	var made storedKey
	err := i.alter(ctx, func(keys []storedKey) ([]storedKey, error) {
		if len(keys) >= maxKeys {
			return nil, ErrManyKeys
		}
		now := i.now().UTC()
		var err error
		if made, err = generate(now, now.Add(ahead)); err != nil {
			return nil, err
		}
		for n := range keys {
			if keys[n].Until.IsZero() {
				keys[n].Until = made.From.Add(i.MaxLife() + clockSkew)
			}
		}
		return append(keys, made), nil
	})
	if err != nil {
		return Key{}, err
	}
	i.logger.Info("audit", zap.String("action", "signing_key_create"), zap.String("target", made.id()), zap.String("actor", by))
	for _, k := range i.List() {
		if k.ID == made.id() {
			return k, nil
		}
	}
	return Key{}, ErrKeyUnknown // another node has withdrawn it already
}

// Withdraw takes a key away at once, for one that others may know: no token that it has
// signed is good any more, and everybody has to log in again. If it was the one that
// signs, another one is made.
func (i *Issuer) Withdraw(ctx context.Context, by, kid string) error {
	err := i.alter(ctx, func(keys []storedKey) ([]storedKey, error) {
		now := i.now().UTC()
		var kept []storedKey
		signs := false
		for _, s := range keys {
			if s.id() == kid {
				continue
			}
			signs = signs || len(s.Private) > 0 && !now.Before(s.From)
			kept = append(kept, s)
		}
		if len(kept) == len(keys) {
			return nil, ErrKeyUnknown
		}
		if !signs {
			made, err := generate(now, now)
			if err != nil {
				return nil, err
			}
			kept = append(kept, made)
		}
		return kept, nil
	})
	if err == nil {
		i.logger.Info("audit", zap.String("action", "signing_key_withdraw"), zap.String("target", kid), zap.String("actor", by))
	}
	return err
}

// maxAttempts bounds how often a change is begun again because another node was faster.
const maxAttempts = 20

func (i *Issuer) alter(ctx context.Context, alter func([]storedKey) ([]storedKey, error)) error {
	if i.store == nil {
		return ErrKeyFiles
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for range maxAttempts {
		if err := i.loadLocked(ctx, true); err != nil {
			return err
		}
		entry, err := records.Get(ctx, i.store, recordKey)
		if errors.Is(err, state.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		keys, err := alter(entry.Data.Keys)
		if err != nil {
			return err
		}
		change, err := records.Replace(entry, storedKeys{Keys: keys})
		if err != nil {
			return err
		}
		_, err = i.store.Apply(ctx, change)
		if errors.Is(err, state.ErrConflict) {
			continue
		}
		if err != nil {
			return err
		}
		return i.loadLocked(ctx, true)
	}
	return state.ErrConflict
}

// warn asks for another key once a day, when the one that signs is old.
func (i *Issuer) warn(signing *key, now time.Time) {
	age := now.Sub(signing.created)
	last := i.warned.Load()
	if age < oldKey || now.Unix()-last < int64(warnEvery/time.Second) || !i.warned.CompareAndSwap(last, now.Unix()) {
		return
	}
	i.logger.Warn("the signing key is older than 90 days; have another one made",
		zap.String("kid", signing.jwk.KeyID), zap.Int("days", int(age/(24*time.Hour))))
}
