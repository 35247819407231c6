package keys

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

func TestParseKeySet(t *testing.T) {
	number := func(bits int) string {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(key.N.Bytes())
	}
	n := number(2048)
	rsaKey := func(more string) string { return `{"kty":"RSA","e":"AQAB","n":"` + n + `"` + more + `}` }
	const (
		ec  = `"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"`
		ed  = `"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`
		all = "RS256 RS384 RS512 PS256 PS384 PS512"
	)
	for _, tc := range []struct {
		name, key string
		want      string // kid and algorithms of the key; empty: left out
	}{
		{"RSA", rsaKey(`,"kid":"a"`), "a: " + all},
		{"RSA without kid", rsaKey(``), ": " + all},
		{"RSA for one algorithm", rsaKey(`,"kid":"a","alg":"RS512","use":"sig","key_ops":["verify"]`), "a: RS512"},
		{"RSA with an odd certificate chain", rsaKey(`,"kid":"a","x5c":["AAAA"],"x5t":"?","x5u":"::"`), "a: " + all},
		{"EC", `{` + ec + `}`, ": ES256"},
		{"Ed25519", `{` + ed + `}`, ": EdDSA"},
		{"for encryption", rsaKey(`,"use":"enc"`), ""},
		{"for encryption by algorithm", rsaKey(`,"alg":"RSA-OAEP"`), ""},
		{"for signing only", rsaKey(`,"key_ops":["sign"]`), ""},
		{"for nothing", rsaKey(`,"key_ops":[]`), ""},
		{"public key for HS256", rsaKey(`,"alg":"HS256"`), ""},
		{"secret", `{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY","alg":"HS256"}`, ""},
		{"RSA with a secret beside", rsaKey(`,"k":"AAAA"`), ""},
		{"private key", `{` + ed + `,"d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}`, ""},
		{"RSA too short", `{"kty":"RSA","e":"AQAB","n":"` + number(1024) + `"}`, ""},
		{"RSA without exponent", `{"kty":"RSA","n":"` + n + `"}`, ""},
		{"EC not on its curve", `{"kty":"EC","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}`, ""},
		{"EC of an unsupported curve", `{` + strings.Replace(ec, "P-256", "secp256k1", 1) + `}`, ""},
		{"unknown type", `{"kty":"XYZ"}`, ""},
		{"no type", `{}`, ""},
		{"wrong types", `{"kty":1}`, ""},
		{"not an object", `7`, ""},
		{"null", `null`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			keys, skipped, err := parseKeySet([]byte(`{"keys":[` + tc.key + `]}`))
			if err != nil || len(keys)+skipped != 1 {
				t.Fatalf("got %d keys, %d skipped, %v", len(keys), skipped, err)
			}
			got := ""
			if len(keys) == 1 {
				got = keys[0].ID() + ": " + strings.Join(keys[0].Algorithms(), " ")
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	for _, text := range []string{
		``, `[]`, `null`, `{}`, `{"keys":null}`, `{"keys":{}}`, `{"keys":[],"keys":[]}`, `{"keys":[]}x`, `{"Keys":[]}`,
		`{"keys":[{"kid":"a","kid":"b"}]}`, `{"keys":[` + strings.Repeat(`{},`, maxKeys) + `{}]}`,
	} {
		if keys, _, err := parseKeySet([]byte(text)); err == nil {
			t.Errorf("%.40s: got %v", text, keys)
		}
	}
}

// Whatever an issuer publishes, no key of it may verify with a shared secret.
func FuzzParseKeySet(f *testing.F) {
	f.Add([]byte(keySetText(newIssuer(f, "a", "b").keys)))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, _, err := parseKeySet(text)
		if err != nil && keys != nil {
			t.Fatalf("keys with error %v", err)
		}
		for _, key := range keys {
			if names := fmt.Sprint(key.Algorithms()); strings.Contains(names, "HS") || names == "[]" {
				t.Fatalf("a key for %s", names)
			}
		}
	})
}
