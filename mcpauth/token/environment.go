package token

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// Environment is the name of what a gateway is for. What is unsafe is refused when
// the configuration is loaded, and only in [Development] a warning is enough. A
// gateway whose environment has no name is not for development.
type Environment string

// Development is the environment in which what is unsafe is only warned of.
const Development Environment = "development"

type environmentKey struct{}

// WithEnvironment tells the modules that are loaded with the context, key sources
// above all, for which environment they are.
func WithEnvironment(ctx caddy.Context, e Environment) caddy.Context {
	return ctx.WithValue(environmentKey{}, e)
}

// EnvironmentOf returns the environment that a module is loaded for: none unless
// [WithEnvironment] named one.
func EnvironmentOf(ctx context.Context) Environment {
	e, _ := ctx.Value(environmentKey{}).(Environment)
	return e
}

// Object turns down what is unsafe. The error, which must say what to do and hold
// nothing secret, is returned; in development it is only logged.
func (e Environment) Object(logger *zap.Logger, unsafe error) error {
	if e != Development {
		return fmt.Errorf("%w (a gateway for development alone may do this: environment development in the global option mcp_gateway)", unsafe)
	}
	logger.Warn("this is refused outside development", zap.Error(unsafe))
	return nil
}

// errNoTLS is what is wrong with http.
var errNoTLS = errors.New("the URL must be https; http is possible for a loopback host only")

// Permits returns nil for a URL that may be used to get keys from, or to name an
// issuer: https, http where nobody can sit in between, and any http in development.
func (e Environment) Permits(u *url.URL) error {
	if u.Scheme == "https" || u.Scheme == "http" && (isLoopback(u.Hostname()) || e == Development) {
		return nil
	}
	return errNoTLS
}

// CheckTransport is [Environment.Permits] for what is configured: where http is let
// pass, it logs a warning.
func (e Environment) CheckTransport(logger *zap.Logger, u *url.URL) error {
	switch {
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return errNoTLS
	case isLoopback(u.Hostname()):
		logger.Warn("plain HTTP is good enough on this machine alone; use https for a host of the network", zap.String("host", u.Host))
		return nil
	}
	return e.Object(logger, errNoTLS)
}

// checkName objects to an issuer whose name is a URL without TLS: that is where
// clients are sent to log in.
func (e Environment) checkName(logger *zap.Logger, issuer string) error {
	scheme, _, _ := strings.Cut(issuer, ":")
	if !strings.EqualFold(scheme, "http") {
		return nil
	}
	u, err := url.Parse(issuer)
	if err != nil {
		return errors.New("the issuer is a malformed URL")
	}
	return e.CheckTransport(logger, u)
}

func isLoopback(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}
