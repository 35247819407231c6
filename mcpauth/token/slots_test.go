package token

import (
	"context"
	"encoding/base64"
	"errors"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// oneSecret is the least of a key source.
type oneSecret struct{ Key }

func (s oneSecret) Algorithms() []string { return s.Key.Algorithms() }
func (s oneSecret) Keys(context.Context, string, time.Time) ([]Key, uint64, error) {
	return []Key{s.Key}, 0, nil
}
func (s oneSecret) Epoch() uint64         { return 0 }
func (s oneSecret) Ready(time.Time) error { return nil }

func TestSignaturesWaitForAFreeProcessor(t *testing.T) {
	key, err := NewSecretKey("", make([]byte, MinSecretBytes))
	if err != nil {
		t.Fatal(err)
	}
	iss := &Issuer{Issuer: "a", keys: oneSecret{key}, algorithms: []jose.SignatureAlgorithm{jose.HS256}, types: []string{""}}
	verifier, err := NewVerifier([]*Issuer{iss}, 0)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	raw := encode([]byte(`{"alg":"HS256"}`)) + "." + encode([]byte(`{"iss":"a"}`)) + ".AAAA"

	for range cap(verifier.slots) {
		verifier.slots <- struct{}{}
	}
	gone := errors.New("the client has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, err := verifier.Verify(ctx, raw, time.Now(), nil); ReasonOf(err) != KeysUnavailable || !errors.Is(err, gone) {
		t.Errorf("while all are busy and the client goes: %v", err)
	}
	result := make(chan error)
	go func() {
		_, err := verifier.Verify(t.Context(), raw, time.Now(), nil)
		result <- err
	}()
	<-verifier.slots
	if err := <-result; ReasonOf(err) != BadSignature {
		t.Errorf("after one got free: %v", err)
	}
	if len(verifier.slots) != cap(verifier.slots)-1 {
		t.Errorf("%d of %d slots are taken after the work is done", len(verifier.slots), cap(verifier.slots))
	}
}
