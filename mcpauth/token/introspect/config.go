package introspect

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/metadata"
)

// MaxCache is the longest time for which an issuer may be believed that a token is
// active.
const MaxCache = 30 * time.Second

// The ways in which the gateway can prove to the issuer who it is (RFC 6749 section
// 2.3.1).
const (
	Basic = "basic"
	Post  = "post"
)

// The bounds of what is asked and remembered.
const (
	defaultTimeout = 5 * time.Second
	maxTimeout     = 30 * time.Second
	defaultMaxRate = 100
	maxAnswers     = 10_000
	maxRefusals    = 10_000
	// Questions at one time: about tokens that were good a moment ago, and about
	// others. The latter cannot take the place of the former.
	maxRenewals  = 32
	maxStrangers = 16
)

// Config is how an issuer is asked about tokens (RFC 7662).
type Config struct {
	// The address of the introspection endpoint: https, or http for a loopback host or
	// in the environment development. Placeholders are expanded when the configuration
	// is loaded. Default: the introspection_endpoint of the issuer's metadata (RFC 8414,
	// OpenID Connect Discovery).
	URL string `json:"url,omitempty"`

	// The name by which the issuer knows the gateway. Placeholders are expanded when
	// the configuration is loaded. Required.
	ClientID string `json:"client_id,omitempty"`

	// The secret that goes with it. It has to be a placeholder, such as
	// {env.INTROSPECTION_SECRET} or {file./run/secrets/introspection}, since the
	// configuration can be read through the admin API; only in the environment
	// development the secret itself may stand here. It is expanded when the
	// configuration is loaded. Required.
	ClientSecret string `json:"client_secret,omitempty"`

	// How the gateway proves who it is: basic sends name and secret in the header
	// Authorization (client_secret_basic), post in the form (client_secret_post).
	// Default: basic.
	ClientAuth string `json:"client_auth,omitempty"`

	// For how long the issuer is believed that a token is active, at most 30s. A token
	// that the issuer revokes is refused after this time at the latest, and an event
	// stream that it opened ends. Default: 30s.
	Cache caddy.Duration `json:"cache,omitempty"`

	// How long one question may take, at most 30s. Default: 5s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How many questions a second the issuer is asked about tokens that were not good
	// before. With more, some requests are answered with 503. Tokens that are in use
	// are asked about in any case. Default: 100.
	MaxRate int `json:"max_rate,omitempty"`
}

// Rules are what the gateway's environment says of what is unsafe.
type Rules struct {
	// Permitted judges an address that the issuer's metadata names, Configured one of
	// the configuration.
	Permitted, Configured func(*url.URL) error
	// Object turns down what is unsafe, or only warns of it.
	Object func(unsafe error) error
}

// New makes the client that asks an issuer. It asks nothing yet. The configuration stays
// as it is, so that the secret is only in the client.
func New(config Config, issuer string, rules Rules) (*Client, error) {
	c := &Client{issuer: issuer, permitted: rules.Permitted}
	expand := func(value string) (string, error) { return caddy.NewReplacer().ReplaceOrErr(value, true, true) }
	var err error
	if c.id, err = expand(config.ClientID); err != nil {
		return nil, fmt.Errorf("client_id: %w", err)
	}
	// No error repeats the secret, nor what looks like its placeholder.
	if c.secret, err = expand(config.ClientSecret); err != nil {
		return nil, errors.New("client_secret names a placeholder that is unknown or empty; escape braces that belong to the secret itself")
	}
	if c.id == "" || c.secret == "" {
		return nil, errors.New("client_id and client_secret are needed: issuers answer only whom they know (RFC 7662 section 2.1)")
	}
	if !strings.Contains(config.ClientSecret, "{") {
		if err := rules.Object(errors.New("client_secret is written into the configuration, where the admin API shows it; use a placeholder such as {env.INTROSPECTION_SECRET}")); err != nil {
			return nil, err
		}
	}
	switch config.ClientAuth {
	case "", Basic:
	case Post:
		c.post = true
	default:
		return nil, fmt.Errorf("client_auth may be %s or %s", Basic, Post)
	}
	if err := c.setLimits(config); err != nil {
		return nil, err
	}
	address, err := expand(config.URL)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	if err := c.locate(address, rules); err != nil {
		return nil, err
	}
	c.http = newClient()
	return c, nil
}

func (c *Client) setLimits(config Config) error {
	c.cache, c.timeout = MaxCache, defaultTimeout
	if config.Cache != 0 {
		c.cache = time.Duration(config.Cache)
	}
	if config.Timeout != 0 {
		c.timeout = time.Duration(config.Timeout)
	}
	if c.cache <= 0 || c.cache > MaxCache {
		return fmt.Errorf("cache %s is not between 0 and %s", c.cache, MaxCache)
	}
	if c.timeout <= 0 || c.timeout > maxTimeout {
		return fmt.Errorf("timeout %s is not between 0 and %s", c.timeout, maxTimeout)
	}
	perSecond := config.MaxRate
	if perSecond == 0 {
		perSecond = defaultMaxRate
	}
	if perSecond < 0 {
		return errors.New("max_rate is negative")
	}
	c.limiter = rate.NewLimiter(rate.Limit(perSecond), perSecond)
	c.renewals, c.strangers = make(chan struct{}, maxRenewals), make(chan struct{}, maxStrangers)
	var err error
	if c.answers, err = lru.New[hash, *Answer](maxAnswers); err != nil {
		return err
	}
	c.refusals, err = lru.New[hash, refused](maxRefusals)
	return err
}

// locate checks where the endpoint is, or where the metadata may be that tells it.
func (c *Client) locate(address string, rules Rules) error {
	if address != "" {
		parsed, err := metadata.ParseURL(address)
		if err == nil {
			err = rules.Configured(parsed)
		}
		if err != nil {
			return fmt.Errorf("url: %w", err)
		}
		c.endpoint.fixed, c.endpoint.address = true, address
		return nil
	}
	parsed, err := metadata.ParseURL(c.issuer)
	if err == nil {
		err = rules.Permitted(parsed)
	}
	if err != nil {
		return fmt.Errorf("the issuer is not the URL of an authorization server: %w; write down the URL of its introspection endpoint", err)
	}
	if parsed.RawQuery != "" || parsed.ForceQuery {
		return errors.New("the issuer's URL has a query; write down the URL of its introspection endpoint")
	}
	c.endpoint.places = metadata.WellKnown(parsed)
	return nil
}
