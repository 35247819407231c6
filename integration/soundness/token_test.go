package soundness

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const sharedSecret = "a-shared-secret-of-more-than-32-bytes-for-HS256"

var keyring struct {
	rsa, foreign *rsa.PrivateKey
	ec           *ecdsa.PrivateKey
	ed           ed25519.PrivateKey
	rsaPEM       []byte
}

func makeKeys() (err error) {
	k := &keyring
	if k.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return err
	}
	if k.foreign, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return err
	}
	if k.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	if _, k.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return err
	}
	for name, public := range map[string]any{"rsa.pem": k.rsa.Public(), "ec.pem": k.ec.Public(), "ed.pem": k.ed.Public()} {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return err
		}
		if err := writePEM(name, "PUBLIC KEY", der); err != nil {
			return err
		}
		if name == "rsa.pem" {
			k.rsaPEM = der
		}
	}
	return nil
}

// claims are those of a token, or changes to them: nil takes a claim out.
type claims map[string]any

// person is somebody with a token.
type person struct{ issuer, subject, client, group string }

var (
	alice  = person{"https://rsa.test", "alice", "app", "a"}
	viewer = person{"https://rsa.test", "vera", "app", "viewer"}
	bob    = person{"https://rsa.test", "bob", "app", "viewer"}
	asked  = person{"https://rsa.test", "ada", "app", "asked"}
	root   = person{"https://rsa.test", "root", "app", "full"}
	nobody = person{"https://rsa.test", "nobody", "app", "empty"}
)

func (p person) claims(changes ...claims) claims {
	all := claims{
		"iss": p.issuer, "sub": p.subject, "client_id": p.client, "groups": []string{p.group},
		"aud": fmt.Sprintf("https://localhost:%d", world.secure),
		"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Add(-time.Minute).Unix(),
		"jti": rand.Text(),
	}
	for _, change := range changes {
		maps.Copy(all, change)
	}
	for name, value := range all {
		if value == nil {
			delete(all, name)
		}
	}
	return all
}

func aud(resource string) claims { return claims{"aud": resource} }

// token is one of the person's, signed by its issuer's key.
func (p person) token(t *testing.T, changes ...claims) string {
	t.Helper()
	switch p.issuer {
	case "https://ec.test":
		return sign(t, jose.ES256, keyring.ec, "", p.claims(changes...))
	case "https://ed.test":
		return sign(t, jose.EdDSA, keyring.ed, "", p.claims(changes...))
	case "https://hs.test":
		return sign(t, jose.HS256, []byte(sharedSecret), "", p.claims(changes...))
	case "https://jwks.test":
		return sign(t, jose.RS256, keyring.rsa, "known", p.claims(changes...))
	}
	return sign(t, jose.RS256, keyring.rsa, "", p.claims(changes...))
}

func sign(t *testing.T, algorithm jose.SignatureAlgorithm, key any, kid string, c claims) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithType("at+jwt")
	if kid != "" {
		options = options.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

// forge makes a token of any header and any claims' text.
func forge(header, payload string, sign func(text []byte) []byte) string {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(header)) + "." + encode([]byte(payload))
	return text + "." + encode(sign([]byte(text)))
}

func rs256(key *rsa.PrivateKey) func([]byte) []byte {
	return func(text []byte) []byte {
		digest := sha256.Sum256(text)
		signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
		if err != nil {
			panic(err)
		}
		return signature
	}
}

func hs256(secret []byte) func([]byte) []byte {
	return func(text []byte) []byte {
		mac := hmac.New(sha256.New, secret)
		mac.Write(text)
		return mac.Sum(nil)
	}
}

// jwksServer is an issuer's server that counts who asks for its keys.
type jwksServer struct {
	address string
	server  *http.Server
	// fetched counts requests for the keys, lured those that a redirect to
	// another host brought.
	fetched, lured atomic.Int64
}

func newJWKSServer() (*jwksServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &jwksServer{address: listener.Addr().String()}
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		return nil, err
	}
	set := func(w http.ResponseWriter) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
			{Key: keyring.rsa.Public(), KeyID: "known", Algorithm: "RS256", Use: "sig"},
		}})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		s.fetched.Add(1)
		set(w)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://localhost:"+port+"/elsewhere", http.StatusFound)
	})
	mux.HandleFunc("/elsewhere", func(w http.ResponseWriter, _ *http.Request) {
		s.lured.Add(1)
		set(w)
	})
	discovery(mux, s.address, "http://localhost:"+port, set)
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	go func() { _ = s.server.Serve(listener) }()
	return s, nil
}

// confusing are issuers whose metadata is not to be believed.
func confusing(origin string) []string {
	return []string{origin + "/redirected", origin + "/borrowed", origin + "/inside", origin + "/redirected-keys", origin + "/broken", origin + "/garbage"}
}

// discovery serves the metadata of honest and of confusing issuers. Whatever is at the
// other origin must not be asked for.
func discovery(mux *http.ServeMux, address, other string, set func(http.ResponseWriter)) {
	own := "http://" + address
	tell := func(name, issuer, keys string) {
		mux.HandleFunc("/.well-known/oauth-authorization-server/"+name, func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": issuer, "jwks_uri": keys})
		})
	}
	tell("honest", own+"/honest", own+"/known")
	tell("borrowed", own+"/honest", other+"/elsewhere")
	tell("inside", own+"/inside", "http://10.0.0.1/keys")
	tell("redirected-keys", own+"/redirected-keys", own+"/moved")
	tell("broken", own+"/broken", own+"/500")
	tell("garbage", own+"/garbage", own+"/text")
	mux.HandleFunc("/.well-known/oauth-authorization-server/redirected", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other+"/elsewhere", http.StatusFound)
	})
	mux.HandleFunc("/known", func(w http.ResponseWriter, _ *http.Request) { set(w) })
	mux.HandleFunc("/500", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		set(w)
	})
	mux.HandleFunc("/text", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>no keys</html>")) })
}

func (s *jwksServer) close() { _ = s.server.Close() }
