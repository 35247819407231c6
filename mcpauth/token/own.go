package token

import (
	"github.com/go-jose/go-jose/v4"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// NewIssuer returns the issuer with a name, whose keys are at hand and need not be
// loaded as a module: the gateway itself. Its tokens have the audiences.
func NewIssuer(name string, audiences []string, keys KeySource) (*Issuer, error) {
	iss := &Issuer{Issuer: name, Audiences: audiences, TokenScope: new(scope.Config), types: []string{normalType("JWT")}, keys: keys}
	if err := iss.TokenScope.Provision(); err != nil {
		return nil, err
	}
	for _, algorithm := range keys.Algorithms() {
		iss.algorithms = append(iss.algorithms, jose.SignatureAlgorithm(algorithm))
	}
	return iss, nil
}
