// Package redis keeps the gateway's state in Redis, where several nodes share it.
package redis

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

func init() {
	caddy.RegisterModule(new(Redis))
}

// Redis keeps the gateway's state in Redis, 6.2 or newer, so that several nodes share
// it: one server, a master that Sentinel watches over, or a cluster. What is revoked on
// one node is pushed to the others. While Redis cannot be reached, nobody knows what
// else was revoked, and requests are denied; see allow_stale of the mcp_gateway app.
//
// Redis must not evict keys (maxmemory-policy noeviction), since that would make
// revoked tokens good again. What it answers is as durable as it is configured to be:
// turn appendonly on, and set min_replicas where a replica may become the master.
//
// A user of Redis's access control lists needs the keys mcp_gateway:*,
// {mcp_gateway}:* (with the prefix that is configured) and token:revoked:*, and the
// commands of the categories @read, @write, @scripting and @connection, and scan, info
// and, for min_replicas, wait. Without client|tracking, which is in @connection,
// changes are polled for twice a second instead of pushed.
type Redis struct {
	// Where Redis is, as host:port: of one server, of the Sentinels, or of some nodes
	// of the cluster. Placeholders are expanded when the configuration is loaded.
	// The port is 6379 unless it is written, that of Sentinels 26379. Default:
	// localhost.
	Addresses []string `json:"addresses,omitempty"`

	// The user and the password (ACL), or the password alone. Write a placeholder for
	// the password, such as {env.REDIS_PASSWORD} or {file./run/secrets/redis}, since
	// the configuration can be read through the admin API. Placeholders are expanded
	// when the configuration is loaded, and one that is unknown or empty is an error.
	// Default: none.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`

	// The number of the database. A cluster has only 0. Default: 0.
	Database int `json:"database,omitempty"`

	// Encrypts the connections, those to Sentinels included. Default: off.
	TLS *TLS `json:"tls,omitempty"`

	// Says that the addresses are those of Sentinels. Default: they are not.
	Sentinel *Sentinel `json:"sentinel,omitempty"`

	// Whether the addresses are those of a cluster. All records are in the one slot
	// of {mcp_gateway}, because they are changed together; revocations and counters
	// are spread. Default: false.
	Cluster bool `json:"cluster,omitempty"`

	// What the names of our keys begin with; letters, digits, and . _ - are possible.
	// Gateways with the same prefix share everything. Revoked token ids are at
	// token:revoked:<jti> whatever it is, where ContextForge has them, too. Default:
	// mcp_gateway.
	Prefix string `json:"prefix,omitempty"`

	// How long a call may take, retries included. Default: 3s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How often a call is tried again after a broken connection, within the timeout.
	// -1 is never. Default: 3.
	Retries int `json:"retries,omitempty"`

	// How many replicas must have a change before it is answered (WAIT). If fewer do
	// within the timeout, the change is an error, though it may yet stay. Default: 0.
	MinReplicas int `json:"min_replicas,omitempty"`

	// What the fields above come to, with the secrets. Not a field that is printed
	// with the rest.
	settings *settings
}

// TLS says how connections to Redis are encrypted.
type TLS struct {
	// The file with the certificates, in PEM, of the authorities that may have signed
	// the server's. Default: those that the system trusts.
	CA string `json:"ca,omitempty"`

	// The files with the certificate, in PEM, by which we are known to the server, and
	// with its key. Default: none.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`

	// The name that the server's certificate must have. Default: the host of its
	// address.
	ServerName string `json:"server_name,omitempty"`
}

// Sentinel says which master the Sentinels are asked for.
type Sentinel struct {
	// The master's name. Required.
	Master string `json:"master,omitempty"`

	// The user and the password for the Sentinels themselves. Default: none.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Redis) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "mcp_gateway.stores.redis",
		New: func() caddy.Module { return new(Redis) },
	}
}

var prefixes = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Provision expands the placeholders. It does not connect.
func (r *Redis) Provision(ctx caddy.Context) error {
	s := &settings{
		Database: r.Database, Cluster: r.Cluster, Prefix: r.Prefix, Timeout: time.Duration(r.Timeout),
		Retries: r.Retries, MinReplicas: r.MinReplicas,
	}
	repl := caddy.NewReplacer()
	for _, address := range r.Addresses {
		expanded, err := repl.ReplaceOrErr(address, true, true)
		if err != nil {
			return fmt.Errorf("addresses: %w", err)
		}
		s.Addresses = append(s.Addresses, expanded)
	}
	var err error
	if s.Username, err = secret(repl, "username", r.Username); err != nil {
		return err
	}
	if s.Password, err = secret(repl, "password", r.Password); err != nil {
		return err
	}
	passwords := []string{r.Password}
	if r.Sentinel != nil {
		if s.Master, err = repl.ReplaceOrErr(r.Sentinel.Master, true, true); err != nil {
			return fmt.Errorf("sentinel: master: %w", err)
		}
		if s.Master == "" {
			return errors.New("sentinel needs the name of the master, such as: sentinel mymaster")
		}
		if s.SentinelUsername, err = secret(repl, "username of the Sentinels", r.Sentinel.Username); err != nil {
			return err
		}
		if s.SentinelPassword, err = secret(repl, "password of the Sentinels", r.Sentinel.Password); err != nil {
			return err
		}
		passwords = append(passwords, r.Sentinel.Password)
	}
	for _, password := range passwords {
		if password != "" && !strings.Contains(password, "{") {
			ctx.Logger().Warn("a password is written into the configuration, where the admin API shows it; use a placeholder such as {env.REDIS_PASSWORD}")
		}
	}
	if r.TLS != nil {
		if s.TLS, err = r.TLS.load(repl); err != nil {
			return fmt.Errorf("tls: %w", err)
		}
	}
	s.defaults()
	r.settings = s
	return nil
}

// secret expands a secret. No error repeats any of it, and not the placeholder either:
// a secret that happens to hold braces looks like one.
func secret(repl *caddy.Replacer, name, value string) (string, error) {
	expanded, err := repl.ReplaceOrErr(value, true, true)
	if err != nil {
		return "", fmt.Errorf("the %s names a placeholder that is unknown or empty; escape braces that belong to it", name)
	}
	return expanded, nil
}

// Validate refuses what cannot be meant.
func (r *Redis) Validate() error {
	s := r.settings
	switch {
	case s.Cluster && s.Master != "":
		return errors.New("a cluster looks after itself: leave out either cluster or sentinel")
	case s.Cluster && s.Database != 0:
		return errors.New("a cluster has no databases: leave database out")
	case s.Database < 0, s.MinReplicas < 0, s.Timeout < 0, s.Retries < -1:
		return errors.New("database, min_replicas, timeout and retries must not be negative; leave one out for its default")
	case !s.Cluster && s.Master == "" && len(s.Addresses) > 1:
		return errors.New("several addresses are those of Sentinels or of a cluster: say which, by sentinel MASTER or cluster")
	case !prefixes.MatchString(s.Prefix) || s.Prefix == "token":
		return errors.New("the prefix must be 1 to 64 letters, digits, or . _ -, and not the word token")
	}
	return nil
}

// Key tells stores apart by all that is set, passwords included, of which it is a hash.
func (r *Redis) Key() string {
	s, h := r.settings, sha256.New()
	fmt.Fprintf(h, "%q %q %q %d %q %q %q %t %q %d %d %d", s.Addresses, s.Username, s.Password, s.Database, s.Master,
		s.SentinelUsername, s.SentinelPassword, s.Cluster, s.Prefix, s.Timeout, s.Retries, s.MinReplicas)
	if s.TLS != nil {
		fmt.Fprintf(h, " %q %q %q %q", s.TLS.CA, s.TLS.Certificate, s.TLS.Key, s.TLS.ServerName)
	}
	return fmt.Sprintf("redis %x", h.Sum(nil))
}

// NewStore returns the store.
func (r *Redis) NewStore() state.Store { return newStore(r.settings) }

// Interface guards
var (
	_ caddy.Provisioner = (*Redis)(nil)
	_ caddy.Validator   = (*Redis)(nil)
	_ state.Module      = (*Redis)(nil)
)
