package mcpadmin

import (
	"context"
	"errors"
	"net/http"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
)

var keyDuties = []duty{
	{
		method: http.MethodGet, path: "/keys", summary: "Lists the signing keys of the gateway's own tokens",
		answer: keyList{}, status: http.StatusOK, do: listKeys,
	},
	{
		method: http.MethodPost, path: "/keys", summary: "Makes another signing key; the former ones verify until all that they have signed is over",
		body: newKey{}, answer: issue.Key{}, status: http.StatusCreated, do: rotateKey,
	},
	{
		method: http.MethodDelete, path: "/keys/{kid}", summary: "Takes a signing key away at once; no token that it has signed is good any more",
		status: http.StatusNoContent, do: withdrawKey,
	},
}

// keyList is all signing keys.
type keyList struct {
	Keys []issue.Key `json:"keys"`
}

// newKey is a signing key to be made.
type newKey struct {
	// AtOnce is whether it signs at once, before others who keep the JWK Set can know
	// it. Otherwise it is published for ten minutes first.
	AtOnce bool `json:"at_once,omitzero"`
}

// ofKeys says what is wrong with a request about signing keys; nil if it is about
// something else.
func ofKeys(err error) *refusal {
	switch {
	case errors.Is(err, issue.ErrKeyFiles):
		return &refusal{status: http.StatusConflict, reason: "keys_in_files", message: err.Error()}
	case errors.Is(err, issue.ErrKeyUnknown):
		return &refusal{status: http.StatusNotFound, reason: "key_unknown", message: err.Error()}
	case errors.Is(err, issue.ErrManyKeys):
		return &refusal{status: http.StatusConflict, reason: "keys_full", message: err.Error()}
	}
	return nil
}

func listKeys(_ context.Context, e *errand) (any, error) {
	issuer, err := e.issuer()
	if err != nil {
		return nil, err
	}
	return keyList{issuer.List()}, nil
}

func rotateKey(ctx context.Context, e *errand) (any, error) {
	issuer, err := e.issuer()
	if err != nil {
		return nil, err
	}
	var body newKey
	if err := e.read(&body); err != nil {
		return nil, err
	}
	ahead := issue.PublishAhead
	if body.AtOnce {
		ahead = 0
	}
	return issuer.Rotate(ctx, e.by.Name, ahead)
}

func withdrawKey(ctx context.Context, e *errand) (any, error) {
	issuer, err := e.issuer()
	if err != nil {
		return nil, err
	}
	return nil, issuer.Withdraw(ctx, e.by.Name, e.value("kid"))
}
