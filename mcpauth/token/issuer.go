package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/introspect"
)

// maxLeeway bounds how wrong a clock may be: whoever needs more has to set it.
const maxLeeway = 5 * time.Minute

// wellKnownIssuer and wellKnownAudience are what ContextForge writes into its tokens
// where nobody has chosen something else (behaviour.md section 1.1).
const (
	wellKnownIssuer   = "mcpgateway"
	wellKnownAudience = "mcpgateway-api"
)

// defaultTypes are the values of the header typ that access tokens have: the one
// of RFC 9068, the general one of RFC 7519, and none at all.
var defaultTypes = []string{"at+jwt", "JWT", ""}

// Issuer is one authorization server whose access tokens are accepted.
type Issuer struct {
	// The issuer's identifier, exactly as it stands in the claim iss of its
	// tokens; a final slash counts. With the discovery key source it is an
	// https URL. A name that is an http URL is refused, except for a loopback host
	// and in the environment development. Placeholders are expanded when the
	// configuration is loaded. Required.
	Issuer string `json:"issuer,omitempty"`

	// The audiences of which a token must name at least one in its claim aud
	// (RFC 9068 section 4). A final slash is tolerated on either side; there
	// are no prefixes and no patterns. Placeholders are expanded when the
	// configuration is loaded. Default: the resource identifier of the
	// endpoint that the request is for, or that of the whole gateway.
	Audiences []string `json:"audiences,omitempty"`

	// The algorithms that tokens may be signed with, such as RS256, PS256, ES256
	// or EdDSA; HS256, HS384 and HS512 only with a secret as the key source. The
	// algorithm in a token's header is checked against this list and against the
	// key, and selects nothing. Default: all that the keys allow.
	Algorithms []string `json:"algorithms,omitempty"`

	// The accepted values of the header typ (RFC 7515 section 4.1.9), without
	// regard to case or to the prefix "application/". The empty value stands for
	// a token without that header. Default: "at+jwt", "JWT" and the empty value.
	// Use "at+jwt" alone when the issuer keeps to RFC 9068.
	TokenTypes []string `json:"token_types,omitempty"`

	// Accept tokens without the claim jti. Such tokens cannot be revoked one by
	// one by their identifier. Default: false.
	JTIOptional bool `json:"jti_optional,omitempty"`

	// How far the issuer's clock may differ from ours when exp, nbf and iat are
	// judged, at most 5m. Default: 0.
	Leeway caddy.Duration `json:"leeway,omitempty"`

	// How the claims are read by which a token bounds what it may reach: teams and
	// scopes, as ContextForge issues them, and OAuth scopes if they are to bound
	// tokens. A token in which they are of the wrong form is invalid.
	TokenScope *scope.Config `json:"token_scope,omitempty"`

	// The claims teams and scopes mean something else to this issuer; its tokens
	// are not bounded by them. Default: false.
	TokenScopeOff bool `json:"token_scope_off,omitempty"`

	// Ask the issuer about each token (RFC 7662), so that tokens are accepted which only
	// it can read, and none for long after it was revoked. What the issuer answers is
	// judged as the claims of a JWT are. Only one issuer of a gateway can be asked: the
	// text of such a token does not say whose it is, and nobody else should see it. If
	// keys are named, too, the issuer's JWTs are verified with them first; their claims
	// count, and the answer must agree with them. Default: the issuer is not asked.
	Introspection *introspect.Config `json:"introspection,omitempty"`

	// Where the issuer's keys come from. Default: discovery, which reads the
	// issuer's metadata (RFC 8414, OpenID Connect Discovery); none if the issuer is
	// asked about each token.
	KeysRaw json.RawMessage `json:"keys,omitempty" caddy:"namespace=mcp_gateway.key_sources inline_key=source"`

	keys       KeySource
	algorithms []jose.SignatureAlgorithm
	types      []string
	asked      *introspect.Client
}

// Provision expands placeholders, checks the options and loads the key source.
// It fetches nothing.
func (iss *Issuer) Provision(ctx caddy.Context) error {
	repl := caddy.NewReplacer()
	var err error
	if iss.Issuer, err = repl.ReplaceOrErr(iss.Issuer, true, true); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if iss.Issuer == "" {
		return errors.New("an issuer needs its identifier: set issuer to the value of its tokens' claim iss")
	}
	environment := EnvironmentOf(ctx)
	if err := environment.checkName(ctx.Logger(), iss.Issuer); err != nil {
		return fmt.Errorf("issuer %s: %w", iss.Issuer, err)
	}
	for i, audience := range iss.Audiences {
		if iss.Audiences[i], err = repl.ReplaceOrErr(audience, true, true); err != nil {
			return fmt.Errorf("issuer %s: audience: %w", iss.Issuer, err)
		}
		if strings.TrimSuffix(iss.Audiences[i], "/") == "" {
			return fmt.Errorf("issuer %s: an audience is empty", iss.Issuer)
		}
	}
	if environment != Development && (iss.Issuer == wellKnownIssuer || slices.Contains(iss.Audiences, wellKnownAudience)) {
		ctx.Logger().Warn("the issuer or audience is what a product has by default, so that the tokens of other installations have it too; name it after this one",
			zap.String("issuer", iss.Issuer))
	}
	if leeway := time.Duration(iss.Leeway); leeway < 0 || leeway > maxLeeway {
		return fmt.Errorf("issuer %s: leeway %s is not between 0 and %s", iss.Issuer, leeway, maxLeeway)
	}
	iss.types = nil
	for _, name := range iss.TokenTypes {
		iss.types = append(iss.types, normalType(name))
	}
	if len(iss.types) == 0 {
		for _, name := range defaultTypes {
			iss.types = append(iss.types, normalType(name))
		}
	}
	if iss.TokenScope == nil {
		iss.TokenScope = new(scope.Config)
	}
	if err := iss.TokenScope.Provision(); err != nil {
		return fmt.Errorf("issuer %s: %w", iss.Issuer, err)
	}
	if err := iss.provisionIntrospection(ctx); err != nil {
		return fmt.Errorf("issuer %s: %w", iss.Issuer, err)
	}
	if iss.asked != nil && len(iss.KeysRaw) == 0 {
		if len(iss.Algorithms) > 0 || len(iss.TokenTypes) > 0 {
			return fmt.Errorf("issuer %s: algorithms and token_types are about tokens that are verified with keys; name where the keys come from, or leave them out", iss.Issuer)
		}
		return nil
	}
	if err := iss.loadKeys(ctx); err != nil {
		return fmt.Errorf("issuer %s: %w", iss.Issuer, err)
	}
	return iss.chooseAlgorithms()
}

func (iss *Issuer) loadKeys(ctx caddy.Context) error {
	var guest any
	var err error
	if len(iss.KeysRaw) == 0 {
		guest, err = ctx.LoadModuleByID("mcp_gateway.key_sources.discovery", nil)
	} else {
		guest, err = ctx.LoadModule(iss, "KeysRaw")
	}
	if err != nil {
		return fmt.Errorf("loading key source: %w", err)
	}
	source, ok := guest.(KeySource)
	if !ok {
		return fmt.Errorf("key source module %T is not a token.KeySource", guest)
	}
	if binder, ok := guest.(IssuerBinder); ok {
		if err := binder.BindIssuer(iss.Issuer); err != nil {
			return fmt.Errorf("key source: %w", err)
		}
	}
	iss.keys = source
	return nil
}

// chooseAlgorithms turns a public key paired with HS256, and a secret paired
// with RS256, into an error of the configuration.
func (iss *Issuer) chooseAlgorithms() error {
	possible := iss.keys.Algorithms()
	chosen := iss.Algorithms
	if len(chosen) == 0 {
		chosen = possible
	}
	iss.algorithms = nil
	for _, name := range chosen {
		if !slices.Contains(possible, name) {
			return fmt.Errorf("issuer %s: algorithm %q does not fit its keys, which allow %s",
				iss.Issuer, name, strings.Join(possible, " "))
		}
		iss.algorithms = append(iss.algorithms, jose.SignatureAlgorithm(name))
	}
	return nil
}

// Accepted are the algorithms that tokens of the issuer may be signed with.
func (iss *Issuer) Accepted() []string {
	names := make([]string, len(iss.algorithms))
	for i, algorithm := range iss.algorithms {
		names[i] = string(algorithm)
	}
	return names
}

// acceptsType judges the header typ.
func (iss *Issuer) acceptsType(name string) bool {
	return slices.Contains(iss.types, normalType(name))
}

// normalType makes two spellings of one media type equal (RFC 7515 section 4.1.9).
func normalType(name string) string {
	name = strings.ToLower(name)
	if short, ok := strings.CutPrefix(name, "application/"); ok && !strings.Contains(short, "/") {
		return short
	}
	return name
}

// Interface guards
var _ caddy.Provisioner = (*Issuer)(nil)
