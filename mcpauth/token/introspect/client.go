// Package introspect asks an authorization server about tokens that only it can read
// (RFC 7662).
//
// What the issuer says is believed for half a minute at most. Questions are bounded in
// every way: one at a time for a token, some at a time for all, and so many a second for
// tokens that were not good before, so that whoever sends garbage does not have the
// gateway hammer the issuer. An issuer that is down is left alone for a while, and
// nobody waits for it meanwhile.
package introspect

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/metadata"
)

// ErrInactive is the issuer's answer that a token is not active: it has expired, was
// revoked, or never was one of this issuer.
var ErrInactive = errors.New("the issuer says that the token is not active")

const (
	// inactiveFor is for how long an answer against a token is remembered, unless
	// others are for a shorter time. Short, because a token may have been asked about
	// before all of the issuer's nodes knew it.
	inactiveFor = 5 * time.Second
	// brokenFor is the same for an answer that could not be read.
	brokenFor = time.Second
	// foundFor is for how long the issuer's metadata is believed.
	foundFor = 10 * time.Minute
)

// hash is that of a token. Tokens themselves are not kept.
type hash [sha256.Size]byte

// Answer says that a token is active.
type Answer struct {
	// Members are the answer's, and shared: they must not be changed.
	Members map[string]any
	// Until is when the issuer has to be asked again.
	Until time.Time
}

// refused is an answer against a token, or one that could not be read.
type refused struct {
	err   error
	until time.Time
}

// Client asks one issuer. It is safe for concurrent use.
type Client struct {
	issuer, id, secret string
	post               bool
	permitted          func(*url.URL) error
	http               *http.Client
	cache, timeout     time.Duration

	answers  *lru.Cache[hash, *Answer]
	refusals *lru.Cache[hash, refused]
	flights  singleflight.Group
	limiter  *rate.Limiter
	circuit  circuit

	renewals, strangers chan struct{}

	endpoint struct {
		fixed  bool
		places []string // of the metadata

		mu      sync.Mutex
		address string
		found   time.Time
	}
}

// Ask returns what the issuer says about a token at now: an answer that it is active,
// [ErrInactive], or an [*UnavailableError]. It waits no longer than ctx and the timeout.
func (c *Client) Ask(ctx context.Context, raw string, now time.Time) (*Answer, error) {
	key := hash(sha256.Sum256([]byte(raw)))
	known, ok := c.answers.Get(key)
	if ok && now.Before(known.Until) {
		return known, nil
	}
	if before, ok := c.refusals.Get(key); ok && now.Before(before.until) {
		return nil, before.err
	}
	if left, cause := c.circuit.wait(now); left > 0 {
		return nil, unavailable(left, cause)
	}
	// The flight serves everybody who asks the same, so nobody's leaving ends it.
	flight := c.flights.DoChan(string(key[:]), func() (any, error) { return c.fly(raw, key, known != nil, now) })
	select {
	case landed := <-flight:
		if landed.Err != nil {
			return nil, landed.Err
		}
		answer := landed.Val.(*Answer)
		if !now.Before(answer.Until) {
			return nil, unavailable(0, errors.New("the issuer's answer came too late to count"))
		}
		return answer, nil
	case <-ctx.Done():
		return nil, unavailable(0, context.Cause(ctx))
	}
}

// fly asks about one token, when it is its turn.
func (c *Client) fly(raw string, key hash, renewal bool, now time.Time) (*Answer, error) {
	slots := c.renewals
	if !renewal {
		if !c.limiter.AllowN(now, 1) {
			return nil, unavailable(0, errors.New("there are too many questions about tokens that were not good before (max_rate)"))
		}
		slots = c.strangers
	}
	begun := time.Now()
	later := func() time.Time { return now.Add(time.Since(begun)) }
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return nil, unavailable(0, errors.New("too many questions wait for the issuer's answer"))
	}
	if left, cause := c.circuit.try(later(), c.timeout); left > 0 {
		return nil, unavailable(left, cause)
	}
	asked := later()
	members, err := c.question(ctx, raw, now)
	var broken *brokenError
	switch {
	case errors.Is(err, ErrInactive):
		c.circuit.settle(later(), nil)
		c.answers.Remove(key)
		c.refusals.Add(key, refused{ErrInactive, asked.Add(min(c.cache, inactiveFor))})
		return nil, ErrInactive
	case errors.As(err, &broken):
		// It may be about this token only.
		c.circuit.settle(later(), nil)
		refusal := unavailable(brokenFor, err)
		c.refusals.Add(key, refused{refusal, asked.Add(brokenFor)})
		return nil, refusal
	case err != nil:
		c.circuit.settle(later(), err)
		return nil, unavailable(0, err)
	}
	c.circuit.settle(later(), nil)
	answer := &Answer{Members: members, Until: asked.Add(c.cache)}
	c.answers.Add(key, answer)
	return answer, nil
}

// find returns where the endpoint is.
func (c *Client) find(ctx context.Context, now time.Time) (string, error) {
	e := &c.endpoint
	e.mu.Lock()
	address, known := e.address, e.fixed || e.address != "" && now.Sub(e.found) < foundFor
	e.mu.Unlock()
	if known {
		return address, nil
	}
	found, err, _ := c.flights.Do("metadata", func() (any, error) {
		return metadata.Find(ctx, c.http, metadata.IntrospectionEndpoint, c.issuer, e.places, c.permitted)
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case err == nil:
		e.address, e.found = found.(string), now
	case e.address == "":
		return "", err
	default:
		e.found = now // the old one stays for a while
	}
	return e.address, nil
}

// Ready returns nil when it is known where to ask, and the issuer has answered the last
// time. It never waits: what is missing is looked for in the background, and an issuer
// that was down is asked whether it is back.
func (c *Client) Ready(now time.Time) error {
	c.endpoint.mu.Lock()
	found := c.endpoint.address != ""
	c.endpoint.mu.Unlock()
	cause := c.circuit.state()
	if found && cause == nil {
		return nil
	}
	if left, _ := c.circuit.try(now, c.timeout); left == 0 {
		c.flights.DoChan("probe", func() (any, error) { return nil, c.probe(now, found) })
	}
	if cause == nil {
		cause = errors.New("the issuer's introspection endpoint has not been looked for yet")
	}
	return cause
}

// probe finds out whether the issuer is there: by where it is to be asked, or by a
// question about a token that nobody has.
func (c *Client) probe(now time.Time, found bool) (err error) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	if !found {
		_, err = c.find(ctx, now)
	} else {
		_, err = c.question(ctx, rand.Text(), now)
		if errors.Is(err, ErrInactive) {
			err = nil
		}
	}
	c.circuit.settle(now.Add(time.Since(begun)), err)
	return err
}

// Close lets go of connections that are not in use. The client can still be used.
func (c *Client) Close() { c.http.CloseIdleConnections() }
