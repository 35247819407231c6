package keys

import (
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
)

// maxKeys bounds a JWK Set. Large issuers publish about ten keys.
const maxKeys = 256

// jwk holds the members of a public key (RFC 7518 section 6) and what it may be
// used for (RFC 7517 section 4). Secrets and private keys have no place in a
// published set; their members are read only to notice them.
type jwk struct {
	Type       string         `json:"kty"`
	KeyID      string         `json:"kid"`
	Algorithm  string         `json:"alg"`
	Use        string         `json:"use"`
	Operations []string       `json:"key_ops"`
	Curve      string         `json:"crv"`
	N          string         `json:"n"`
	E          string         `json:"e"`
	X          string         `json:"x"`
	Y          string         `json:"y"`
	Private    jsontext.Value `json:"d"`
	Secret     jsontext.Value `json:"k"`
}

// publicMembers is what is left of a key for the library to parse: nothing but
// the key itself, so that an odd certificate chain beside it does no harm.
type publicMembers struct {
	Type  string `json:"kty"`
	Curve string `json:"crv,omitzero"`
	N     string `json:"n,omitzero"`
	E     string `json:"e,omitzero"`
	X     string `json:"x,omitzero"`
	Y     string `json:"y,omitzero"`
}

// parseKeySet reads a JWK Set. Keys that cannot serve here, such as those for
// encryption or of unknown types, are counted and left out, as RFC 7517 section 5
// wants it; a set that is not strict JSON is refused whole.
func parseKeySet(body []byte) (keys []token.Key, skipped int, err error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, 0, fmt.Errorf("not a JWK Set: %w", err)
	}
	if set.Keys == nil {
		return nil, 0, fmt.Errorf("not a JWK Set: the member keys is missing")
	}
	if len(set.Keys) > maxKeys {
		return nil, 0, fmt.Errorf("the JWK Set has more than %d keys", maxKeys)
	}
	for _, text := range set.Keys {
		if key, ok := parseKey(text); ok {
			keys = append(keys, key)
		} else {
			skipped++
		}
	}
	return keys, skipped, nil
}

func parseKey(text jsontext.Value) (token.Key, bool) {
	var members jwk
	if json.Unmarshal(text, &members) != nil || members.Private != nil || members.Secret != nil {
		return token.Key{}, false
	}
	if members.Use != "" && members.Use != "sig" {
		return token.Key{}, false
	}
	if members.Operations != nil && !slices.Contains(members.Operations, "verify") {
		return token.Key{}, false
	}
	public, err := json.Marshal(publicMembers{
		members.Type, members.Curve, members.N, members.E, members.X, members.Y,
	})
	if err != nil {
		return token.Key{}, false
	}
	var parsed jose.JSONWebKey
	if parsed.UnmarshalJSON(public) != nil || !parsed.IsPublic() {
		return token.Key{}, false
	}
	var algorithms []string
	if members.Algorithm != "" {
		algorithms = []string{members.Algorithm}
	}
	key, err := token.NewPublicKey(members.KeyID, parsed.Key, algorithms...)
	return key, err == nil
}
