package token

import (
	"context"
	"time"
)

// KeySource is what a guest module in the namespace mcp_gateway.key_sources has
// to offer: the keys of one issuer. All methods may be called at once from many
// requests, and, like everything in Caddy, by two generations of the
// configuration during a reload.
//
// A source must not need the network in Provision: an issuer that is down must
// not keep Caddy from starting or reloading.
type KeySource interface {
	// Algorithms returns the names of all algorithms that a key of this source
	// may ever serve. It is called once, when the configuration is loaded, and
	// bounds what the issuer's algorithms option may ask for.
	Algorithms() []string

	// Keys returns the keys that may have signed a token whose header has this
	// kid, and the epoch they are of; all keys when kid is empty, none when the
	// kid is not known even to the issuer. The caller changes none of them. The
	// kid is whatever a stranger wrote: a source that looks it
	// up elsewhere must bound how often it does so, and must not tie that to
	// ctx, which ends with the one request that happened to come first. It must
	// stop waiting when ctx ends. An error means that no keys could be had, and
	// that the token cannot be judged; it is logged, so it must hold no secret.
	Keys(ctx context.Context, kid string, now time.Time) (keys []Key, epoch uint64, err error)

	// Epoch returns a number that changes whenever a key is withdrawn or
	// replaced. Tokens that were verified in an earlier epoch are verified again.
	Epoch() uint64

	// Ready returns nil when keys are known, else why they are not. It never
	// waits. A source that fetches its keys sees to it here, in the background,
	// that it gets them: Ready is called when the app starts, and by each probe
	// of /ready after that, when no request would come to ask for a key.
	Ready(now time.Time) error
}

// IssuerBinder is implemented by a [KeySource] that has to know whose keys it is
// asked for. BindIssuer is called once, after the source's Provision.
type IssuerBinder interface {
	BindIssuer(issuer string) error
}
