// Package issue makes the gateway's own tokens: session tokens for those who log in,
// and API tokens that are handed out. Its keys are in the gateway's store, where all
// nodes share them, or in files. It is a source of keys for those who verify the
// tokens, without a request to the gateway itself.
package issue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// Config says who the issuer is.
type Config struct {
	// What the claim iss of the tokens is: by custom the public URL of the gateway,
	// such as https://mcp.example.com. Placeholders are expanded when the
	// configuration is loaded. Required.
	Name string `json:"name,omitempty"`

	// What the claim aud of the tokens is. Placeholders are expanded when the
	// configuration is loaded. Default: the name, which fits an mcp_auth handler with
	// that as its public URL.
	Audiences []string `json:"audiences,omitempty"`

	// PEM files with keys (PKCS #8, or as OpenSSL writes EC and RSA keys). The first
	// has the private key that signs; the others, private or public, only verify, so
	// that tokens outlive a change of keys. They are read when the configuration is
	// loaded. Default: the gateway makes keys for ES256, keeps them in its store and
	// changes them when it is told to.
	KeyFiles []string `json:"key_files,omitempty"`

	// How long session tokens are good, 5m to 24h. Default: 20m.
	SessionLife caddy.Duration `json:"session_life,omitempty"`

	// How long any other token may be good. Former keys are published for as long.
	// Default: 2160h, which is 90 days.
	MaxLife caddy.Duration `json:"max_life,omitempty"`
}

const (
	// oldKey is the age of a signing key from which the log asks for another one.
	oldKey    = 90 * 24 * time.Hour
	warnEvery = 24 * time.Hour
	// reloadEvery bounds how often strangers can have the store asked for a key.
	reloadEvery = time.Second
	// storeTimeout bounds how long that may take.
	storeTimeout = 5 * time.Second
	// clockSkew is how long after the end of all tokens a key is kept.
	clockSkew = 10 * time.Minute
)

// Issuer makes tokens. It is safe for concurrent use.
type Issuer struct {
	config      Config
	environment string
	store       state.Store
	logger      *zap.Logger
	now         func() time.Time

	set    atomic.Pointer[keySet]
	epoch  atomic.Uint64
	warned atomic.Int64 // when, in seconds since 1970

	mu     sync.Mutex // held while the store is asked
	loaded time.Time
}

type keySet struct {
	keys []*key
	// version is that of the record.
	version state.Version
}

// New returns the issuer with its keys in the store, which need not be open yet, or in
// the files of the configuration, which are read now. An environment is written into
// every token.
func New(store state.Store, config Config, environment string, logger *zap.Logger) (*Issuer, error) {
	if config.Name == "" {
		return nil, errors.New("an issuer of tokens needs a name, such as https://mcp.example.com")
	}
	if len(config.Audiences) == 0 {
		config.Audiences = []string{config.Name}
	}
	if config.SessionLife == 0 {
		config.SessionLife = caddy.Duration(20 * time.Minute)
	}
	if config.MaxLife == 0 {
		config.MaxLife = caddy.Duration(90 * 24 * time.Hour)
	}
	if life := time.Duration(config.SessionLife); life < 5*time.Minute || life > 24*time.Hour {
		return nil, fmt.Errorf("session tokens can be good for 5m to 24h, not %s", life)
	}
	if config.MaxLife < config.SessionLife || time.Duration(config.MaxLife) > 10*365*24*time.Hour {
		return nil, fmt.Errorf("the longest life of a token must be that of session tokens at least, and ten years at most, not %s", time.Duration(config.MaxLife))
	}
	i := &Issuer{config: config, environment: environment, store: store, logger: logger, now: steady.Now}
	if len(config.KeyFiles) > 0 {
		keys, err := loadFiles(config.KeyFiles)
		if err != nil {
			return nil, err
		}
		i.store = nil
		i.set.Store(&keySet{keys: keys})
	} else if store == nil {
		return nil, errors.New("the keys of an issuer need a store or files")
	}
	return i, nil
}

// Name is the claim iss of the tokens.
func (i *Issuer) Name() string { return i.config.Name }

// Audiences are the claim aud of the tokens.
func (i *Issuer) Audiences() []string { return slices.Clone(i.config.Audiences) }

// SessionLife is how long session tokens are good, MaxLife how long any token may be.
func (i *Issuer) SessionLife() time.Duration { return time.Duration(i.config.SessionLife) }

// MaxLife is how long any token may be good.
func (i *Issuer) MaxLife() time.Duration { return time.Duration(i.config.MaxLife) }

// Run keeps the keys the same as those in the store, until ctx is done. At first it
// makes one if there is none.
func (i *Issuer) Run(ctx context.Context) {
	if i.store == nil {
		return
	}
	var last error
	load := func() {
		if ctx.Err() != nil {
			return
		}
		err := i.load(ctx, true)
		if err != nil && last == nil && ctx.Err() == nil {
			i.logger.Warn("the signing keys can't be read from the store", zap.Error(err))
		}
		last = err
	}
	changed := make(chan struct{}, 1)
	var watching sync.WaitGroup
	watching.Go(func() {
		i.store.Watch(ctx, records.Key(recordKey), func(u state.Update) {
			if u.Reset || len(u.Keys) > 0 {
				select {
				case changed <- struct{}{}:
				default:
				}
			}
		})
	})
	defer watching.Wait()
	again := time.NewTicker(10 * time.Second)
	defer again.Stop()
	load()
	for {
		select {
		case <-changed:
			load()
		case <-again.C:
			// After a failure, and to have what is over taken out.
			if set := i.set.Load(); last != nil || set == nil || i.untidy(set, i.now()) {
				load()
			}
		case <-ctx.Done():
			return
		}
	}
}

// load reads the keys. If there are none and that is wanted, it makes one.
func (i *Issuer) load(ctx context.Context, create bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.loadLocked(ctx, create)
}

func (i *Issuer) loadLocked(ctx context.Context, create bool) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	for {
		i.loaded = i.now()
		entry, err := records.Get(ctx, i.store, recordKey)
		switch {
		case errors.Is(err, state.ErrNotFound) && !create:
			return errors.New("no signing key was made yet")
		case errors.Is(err, state.ErrNotFound):
			err = i.createFirst(ctx)
			if err == nil || errors.Is(err, state.ErrConflict) {
				continue
			}
			return err
		case err != nil:
			return err
		}
		if changed, err := i.tidy(ctx, entry); err != nil {
			return err
		} else if changed {
			continue
		}
		return i.adopt(entry)
	}
}

func (i *Issuer) createFirst(ctx context.Context) error {
	now := i.now()
	first, err := generate(now, now)
	if err != nil {
		return err
	}
	create, err := records.Create(storedKeys{Keys: []storedKey{first}}, time.Time{}, recordKey)
	if err != nil {
		return err
	}
	if _, err := i.store.Apply(ctx, create); err != nil {
		return err
	}
	i.logger.Info("audit", zap.String("action", "signing_key_create"), zap.String("target", first.id()), zap.String("actor", "gateway"))
	return nil
}

// adopt makes the keys of a record those that are used.
func (i *Issuer) adopt(entry state.Entry[storedKeys]) error {
	set := &keySet{version: entry.Version}
	for _, s := range entry.Data.Keys {
		k, err := s.load()
		if err != nil {
			return err
		}
		set.keys = append(set.keys, k)
	}
	old := i.set.Load()
	i.set.Store(set)
	if old == nil {
		return nil
	}
	for _, k := range old.keys {
		if !slices.ContainsFunc(set.keys, func(other *key) bool { return other.jwk.KeyID == k.jwk.KeyID }) {
			i.epoch.Add(1)
			break
		}
	}
	return nil
}

// untidy reports whether there is something to be taken out of the record.
func (i *Issuer) untidy(set *keySet, now time.Time) bool {
	signing := set.signing(now)
	return slices.ContainsFunc(set.keys, func(k *key) bool {
		return !k.until.IsZero() && !now.Before(k.until) || k != signing && k.signer != nil && now.After(k.from) && signing != nil
	})
}

// tidy takes keys out that nothing needs any more, and the private ones that will not
// sign again.
func (i *Issuer) tidy(ctx context.Context, entry state.Entry[storedKeys]) (changed bool, err error) {
	now := i.now()
	signing := -1
	for n, s := range entry.Data.Keys {
		if len(s.Private) > 0 && !now.Before(s.From) && (signing < 0 || s.From.After(entry.Data.Keys[signing].From)) {
			signing = n
		}
	}
	var kept []storedKey
	for n, s := range entry.Data.Keys {
		if !s.Until.IsZero() && !now.Before(s.Until) {
			changed = true
			continue
		}
		if n != signing && signing >= 0 && len(s.Private) > 0 && !now.Before(s.From) {
			s.Private, changed = nil, true
		}
		kept = append(kept, s)
	}
	if !changed {
		return false, nil
	}
	return true, i.replace(ctx, entry, kept)
}

// replace puts other keys in the place of those that were read. Somebody else's change
// is no error: whoever calls it reads again.
func (i *Issuer) replace(ctx context.Context, entry state.Entry[storedKeys], keys []storedKey) error {
	change, err := records.Replace(entry, storedKeys{Keys: keys})
	if err != nil {
		return err
	}
	if _, err = i.store.Apply(ctx, change); errors.Is(err, state.ErrConflict) {
		return nil
	}
	return err
}

// signing is the key that signs now: the last one that has begun to. If none has, the
// clock of the node that made it is ahead of ours, and it is the first one.
func (s *keySet) signing(now time.Time) *key {
	var signing, first *key
	for _, k := range s.keys {
		if k.signer == nil {
			continue
		}
		if !now.Before(k.from) && (signing == nil || k.from.After(signing.from)) {
			signing = k
		}
		if first == nil || k.from.Before(first.from) {
			first = k
		}
	}
	if signing == nil {
		return first
	}
	return signing
}

// errNoKeys is for a store that could not be asked yet.
var errNoKeys = errors.New("the gateway's own signing keys are not known yet")

// Algorithms returns the algorithms of the keys.
func (i *Issuer) Algorithms() []string {
	if i.store != nil {
		return []string{"ES256"}
	}
	var names []string
	for _, k := range i.set.Load().keys {
		if !slices.Contains(names, k.jwk.Algorithm) {
			names = append(names, k.jwk.Algorithm)
		}
	}
	return names
}

// Keys returns the keys that verify tokens with a kid. When it is not known, another
// node may have made the key just now.
func (i *Issuer) Keys(ctx context.Context, kid string, now time.Time) ([]token.Key, uint64, error) {
	epoch := i.epoch.Load()
	keys := i.find(kid, now)
	if len(keys) == 0 && i.store != nil {
		if err := i.reload(ctx); err != nil && i.set.Load() == nil {
			return nil, 0, err
		}
		epoch = i.epoch.Load()
		keys = i.find(kid, now)
	}
	if i.set.Load() == nil {
		return nil, 0, errNoKeys
	}
	return keys, epoch, nil
}

func (i *Issuer) find(kid string, now time.Time) (keys []token.Key) {
	set := i.set.Load()
	if set == nil {
		return nil
	}
	for _, k := range set.keys {
		if (kid == "" || kid == k.jwk.KeyID) && (k.until.IsZero() || now.Before(k.until)) {
			keys = append(keys, k.public)
		}
	}
	return keys
}

// reload reads the keys again, unless that was done just now.
func (i *Issuer) reload(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.now().Sub(i.loaded) < reloadEvery {
		return nil
	}
	// The request ends, but not the loading of what others ask for, too.
	return i.loadLocked(context.WithoutCancel(ctx), true)
}

// Epoch changes when a key is withdrawn.
func (i *Issuer) Epoch() uint64 { return i.epoch.Load() }

// Ready returns nil when the keys are known.
func (i *Issuer) Ready(time.Time) error {
	if i.set.Load() == nil {
		return errNoKeys
	}
	return nil
}

// Interface guard
var _ token.KeySource = (*Issuer)(nil)
