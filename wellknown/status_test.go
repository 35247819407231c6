package wellknown

import (
	"context"
	"errors"
	"testing"

	"github.com/caddymcp/caddy-mcp-gateway/internal/report"
)

// keysDown is a store of keys that cannot be asked.
type keysDown struct{ err error }

func (keysDown) Issues() bool { return true }

func (k keysDown) JWKS(context.Context) ([]byte, error) { return []byte(`{"keys":[]}`), k.err }

// TestPages: what is published is listed, with what a client would be answered.
func TestPages(t *testing.T) {
	h := newHandler(t, full(), ready{"store": errors.New("down")})
	h.JWKS, h.keys = true, keysDown{errors.New("down")}
	pages := map[string]report.Page{}
	for _, p := range h.pages() {
		pages[p.Path] = p
	}
	for path, want := range map[string]report.Page{
		"/robots.txt":               {Status: 200, Answers: true, ContentType: textPlain, CacheControl: "public, max-age=3600"},
		"/.well-known/security.txt": {Status: 200, Answers: true, ContentType: textPlain, CacheControl: "public, max-age=3600"},
		"/security.txt":             {Status: 301, Answers: true, CacheControl: "public, max-age=3600"},
		"/.well-known/ai.txt":       {Status: 200, Answers: true, ContentType: textPlain, CacheControl: "public, max-age=3600"},
		"/.well-known/oauth-protected-resource/servers/tickets/mcp": {Status: 200, Answers: true, ContentType: applicationJSON, CacheControl: "public, max-age=3600"},
		"/.well-known/jwks.json":                                    {Status: 503, CacheControl: "no-store"},
		"/health":                                                   {Status: 200, Answers: true, ContentType: applicationJSON, CacheControl: "no-store"},
		"/ready":                                                    {Status: 503, ContentType: applicationJSON, CacheControl: "no-store"},
	} {
		want.Path, want.URL = path, "https://mcp.example.com"+path
		if pages[path] != want {
			t.Errorf("got %+v, expected %+v", pages[path], want)
		}
	}
	if want := len(h.documents) + 3; len(pages) != want {
		t.Errorf("there are %d pages, expected %d", len(pages), want)
	}
	h.keys, h.ready = keysDown{}, ready{}
	for _, p := range h.pages() {
		if !p.Answers {
			t.Errorf("got %+v", p)
		}
	}
}
