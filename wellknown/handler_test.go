package wellknown

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

var testTime = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

// newHandler returns a handler as Provision leaves it, with a readiness of ours.
func newHandler(t *testing.T, h *Handler, ready readiness) *Handler {
	t.Helper()
	if err := errors.Join(h.render(zap.NewNop(), testTime), h.Validate()); err != nil {
		t.Fatal(err)
	}
	h.ready = ready
	return h
}

// passedOn is the status that the next handler answers with.
const passedOn = http.StatusTeapot

// ask sends a request through Caddy's preparation and the handler. A refusal
// comes back as its status, as Caddy would answer it.
func ask(t *testing.T, h *Handler, r *http.Request) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(passedOn)
		return nil
	}))
	if err != nil {
		var refusal caddyhttp.HandlerError
		if !errors.As(err, &refusal) {
			t.Fatal(err)
		}
		w.WriteHeader(refusal.StatusCode)
	}
	return w.Result()
}

func get(t *testing.T, h *Handler, target string) (*http.Response, string) {
	t.Helper()
	resp := ask(t, h, httptest.NewRequest(http.MethodGet, target, nil))
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func full() *Handler {
	return &Handler{
		PublicURL:            "https://MCP.example.com/",
		Servers:              []string{"warehouse", "tickets"},
		AuthorizationServers: []string{"https://login.example.com/tenant"},
		ScopesSupported:      []string{"mcp:read"},
		SecurityTxt:          &SecurityTxt{Contact: []string{"mailto:security@example.com"}, Expires: "2027-06-01T00:00:00Z"},
		Files:                map[string]string{"ai.txt": "no training\n", "mcp/card": ` {"name": "x"}`, "assetlinks.json": "[]", "odd": "{not json"},
	}
}

func TestDocuments(t *testing.T) {
	h := newHandler(t, full(), ready{})
	for _, tc := range []struct{ path, contentType, body string }{
		{"/robots.txt", textPlain, defaultRobots},
		{"/.well-known/security.txt", textPlain, "Contact: mailto:security@example.com\nExpires: 2027-06-01T00:00:00Z\nCanonical: https://mcp.example.com/.well-known/security.txt\n"},
		{"/.well-known/ai.txt", textPlain, "no training\n"},
		{"/.well-known/mcp/card", applicationJSON, ` {"name": "x"}`},
		{"/.well-known/assetlinks.json", applicationJSON, "[]"},
		{"/.well-known/odd", textPlain, "{not json"},
		{"/.well-known/oauth-protected-resource", applicationJSON, `{"resource":"https://mcp.example.com","authorization_servers":["https://login.example.com/tenant"],"scopes_supported":["mcp:read"],"bearer_methods_supported":["header"]}`},
		{"/.well-known/oauth-protected-resource?server_id=warehouse", applicationJSON, `{"resource":"https://mcp.example.com","authorization_servers":["https://login.example.com/tenant"],"scopes_supported":["mcp:read"],"bearer_methods_supported":["header"]}`},
	} {
		t.Run(tc.path, func(t *testing.T) {
			resp, body := get(t, h, tc.path)
			etag := resp.Header.Get("ETag")
			if resp.StatusCode != http.StatusOK || body != tc.body || resp.Header.Get("Content-Type") != tc.contentType ||
				resp.Header.Get("Cache-Control") != "public, max-age=3600" || len(etag) < 10 || etag[0] != '"' ||
				resp.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Fatalf("got %d %v %q", resp.StatusCode, resp.Header, body)
			}
			if noIndex := resp.Header.Get("X-Robots-Tag") == "noindex, nofollow"; noIndex != (tc.path == "/robots.txt") {
				t.Errorf("X-Robots-Tag: %v", noIndex)
			}
			metadata := strings.Contains(tc.path, "oauth-protected-resource")
			if cors := resp.Header.Get("Access-Control-Allow-Origin") == "*"; cors != metadata {
				t.Errorf("Access-Control-Allow-Origin *: %v", cors)
			}

			head := ask(t, h, httptest.NewRequest(http.MethodHead, tc.path, nil))
			none, err := io.ReadAll(head.Body)
			if err != nil || len(none) > 0 || head.StatusCode != http.StatusOK || head.ContentLength != int64(len(tc.body)) || head.Header.Get("ETag") != etag {
				t.Errorf("HEAD: got %d %v %q, error %v", head.StatusCode, head.Header, none, err)
			}

			for match, want := range map[string]int{etag: 304, "W/" + etag: 304, `"x", ` + etag: 304, "*": 304, `"x"`: 200} {
				r := httptest.NewRequest(http.MethodGet, tc.path, nil)
				r.Header.Set("If-None-Match", match)
				resp := ask(t, h, r)
				if resp.StatusCode != want || resp.Header.Get("ETag") != etag || resp.Header.Get("Cache-Control") == "" {
					t.Errorf("If-None-Match %s: got %d %v", match, resp.StatusCode, resp.Header)
				}
			}

			post := ask(t, h, httptest.NewRequest(http.MethodPost, tc.path, nil))
			if post.StatusCode != http.StatusMethodNotAllowed || !strings.HasPrefix(post.Header.Get("Allow"), "GET, HEAD") || post.Header.Get("ETag") != "" {
				t.Errorf("POST: got %d %v", post.StatusCode, post.Header)
			}
		})
	}
}

func TestLegacySecurityTxt(t *testing.T) {
	resp, body := get(t, newHandler(t, full(), ready{}), "/security.txt")
	if resp.StatusCode != http.StatusMovedPermanently || resp.Header.Get("Location") != "/.well-known/security.txt" || body != "" {
		t.Errorf("got %d %v %q", resp.StatusCode, resp.Header, body)
	}
	resp = ask(t, newHandler(t, full(), ready{}), httptest.NewRequest(http.MethodPut, "/security.txt", nil))
	if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Location") != "" {
		t.Errorf("PUT: got %d %v", resp.StatusCode, resp.Header)
	}
}

func TestPassesOn(t *testing.T) {
	h := newHandler(t, full(), ready{})
	for _, path := range []string{
		"/", "/mcp", "/servers/warehouse/mcp", "/robots.txt/", "/Robots.txt", "/robots%2Etxt", "/.well-known", "/.well-known/",
		"/.well-known/other", "/.well-known/ai.txt/", "/.well-known%2Fai.txt", "/.well-known/../robots.txt", "/a/robots.txt",
		"/.well-known/oauth-protected-resources", "/.well-known/oauth-authorization-server", "/health/", "/Ready", "/%72eady",
	} {
		if resp, _ := get(t, h, path); resp.StatusCode != passedOn {
			t.Errorf("%s: got %d", path, resp.StatusCode)
		}
	}
	h = newHandler(t, &Handler{PublicURL: "https://h", DisableHealth: true}, nil)
	for _, path := range []string{"/health", "/ready", "/security.txt", "/.well-known/security.txt"} {
		if resp, _ := get(t, h, path); resp.StatusCode != passedOn {
			t.Errorf("%s, not configured: got %d", path, resp.StatusCode)
		}
	}
}

// TestOriginalPath: what rewrite or handle_path made of the path plays no part.
func TestOriginalPath(t *testing.T) {
	h := newHandler(t, full(), ready{})
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(passedOn); return nil })
	for _, tc := range []struct {
		asked, rewritten string
		want             int
	}{{"/robots.txt", "/x", http.StatusOK}, {"/x/robots.txt", "/robots.txt", passedOn}} {
		w := httptest.NewRecorder()
		r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, tc.asked, nil), caddy.NewReplacer(), w, new(caddyhttp.Server))
		r.URL.Path = tc.rewritten
		if err := h.ServeHTTP(w, r, next); err != nil || w.Code != tc.want {
			t.Errorf("%s, rewritten to %s: got %d, error %v", tc.asked, tc.rewritten, w.Code, err)
		}
	}
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/robots.txt", nil), next); err != nil || w.Code != http.StatusOK {
		t.Errorf("request without an original: got %d, error %v", w.Code, err)
	}
}

func TestRobots(t *testing.T) {
	t.Setenv("WELLKNOWN_TEST_ROBOTS", `User-agent: *\nDisallow: /private`)
	for in, want := range map[string]string{
		"":                            defaultRobots,
		"User-agent: *":               "User-agent: *\n",
		`A\nB`:                        "A\nB\n",
		"A\\nB\n":                     "A\\nB\n",
		"{env.WELLKNOWN_TEST_ROBOTS}": "User-agent: *\nDisallow: /private\n",
		"{unknown}":                   "{unknown}\n",
	} {
		if _, body := get(t, newHandler(t, &Handler{PublicURL: "https://h", RobotsTxt: in}, nil), "/robots.txt"); body != want {
			t.Errorf("%q: got %q, want %q", in, body, want)
		}
	}
}

func TestMaxAge(t *testing.T) {
	for in, want := range map[caddy.Duration]string{
		0:                             "public, max-age=3600",
		caddy.Duration(2 * time.Hour): "public, max-age=7200",
	} {
		resp, _ := get(t, newHandler(t, &Handler{PublicURL: "https://h", MaxAge: in}, nil), "/robots.txt")
		if got := resp.Header.Get("Cache-Control"); got != want {
			t.Errorf("%v: got %q", in, got)
		}
	}
}

// load loads the module the way Caddy does, from its JSON.
func load(t *testing.T, config string) (any, error) {
	t.Helper()
	root, err := caddy.ProvisionContext(new(caddy.Config))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(root)
	t.Cleanup(cancel)
	return ctx.LoadModuleByID("http.handlers.mcp_well_known", json.RawMessage(config))
}

func TestLoad(t *testing.T) {
	t.Setenv("WELLKNOWN_TEST_URL", "https://h:8443")
	mod, err := load(t, `{
		"public_url": "{env.WELLKNOWN_TEST_URL}", "servers": ["a"], "authorization_servers": ["{env.WELLKNOWN_TEST_URL}/idp"],
		"scopes_supported": ["s"], "resource_name": "Größe \"x\"", "resource_documentation": "https://docs.example.com/?a=b",
		"robots_txt": "x", "security_txt": {"contact": ["tel:+1-201-555-0123"], "expires": "9999-12-31T23:59:59Z", "policy": ["https://h/p"]},
		"files": {"ai.txt": "x"}, "max_age": "5m", "disable_health": true
	}`)
	if err != nil {
		t.Fatal(err)
	}
	resp, body := get(t, mod.(*Handler), "/.well-known/oauth-protected-resource/mcp")
	want := `{"resource":"https://h:8443/mcp","authorization_servers":["https://h:8443/idp"],"scopes_supported":["s"],"bearer_methods_supported":["header"],` +
		`"resource_name":"Größe \"x\"","resource_documentation":"https://docs.example.com/?a=b"}`
	if body != want || resp.Header.Get("Cache-Control") != "public, max-age=300" {
		t.Errorf("got %v %s", resp.Header, body)
	}
	if mod.(*Handler).PublicURL != "{env.WELLKNOWN_TEST_URL}" {
		t.Error("the configuration was changed")
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tc := range []struct{ name, config, want string }{
		{"no app to ask", `{"public_url": "https://h"}`, "/ready asks the mcp_gateway app"},
		{"no public URL", `{"disable_health": true}`, "public_url"},
		{"http public URL", `{"disable_health": true, "public_url": "http://mcp.example.com"}`, "https://"},
		{"unset placeholder", `{"disable_health": true, "public_url": "{env.WELLKNOWN_TEST_UNSET}"}`, "public_url"},
		{"bad server", `{"disable_health": true, "public_url": "https://h", "servers": ["a/b"]}`, "servers"},
		{"server twice", `{"disable_health": true, "public_url": "https://h", "servers": ["a", "a"]}`, "twice"},
		{"bad issuer", `{"disable_health": true, "public_url": "https://h", "authorization_servers": ["login"]}`, "authorization_servers"},
		{"unset issuer", `{"disable_health": true, "public_url": "https://h", "authorization_servers": ["{env.WELLKNOWN_TEST_UNSET}"]}`, "authorization_servers"},
		{"issuer with query", `{"disable_health": true, "public_url": "https://h", "authorization_servers": ["https://i?x"]}`, "authorization_servers"},
		{"http issuer", `{"disable_health": true, "public_url": "https://h", "authorization_servers": ["http://i"]}`, "https://"},
		{"issuer without metadata", `{"disable_health": true, "public_url": "https://h", "authorization_servers": ["https://i"], "disable_metadata": true}`, "leave one of the two out"},
		{"scopes in one string", `{"disable_health": true, "public_url": "https://h", "scopes_supported": ["a b"]}`, "scopes_supported"},
		{"empty scope", `{"disable_health": true, "public_url": "https://h", "scopes_supported": [""]}`, "scopes_supported"},
		{"bad documentation", `{"disable_health": true, "public_url": "https://h", "resource_documentation": "docs"}`, "resource_documentation"},
		{"unset documentation", `{"disable_health": true, "public_url": "https://h", "resource_documentation": "{env.WELLKNOWN_TEST_UNSET}"}`, "resource_documentation"},
		{"empty robots", `{"disable_health": true, "public_url": "https://h", "robots_txt": "{env.WELLKNOWN_TEST_UNSET}"}`, "robots_txt"},
		{"empty file", `{"disable_health": true, "public_url": "https://h", "files": {"a": "{file./does/not/exist}"}}`, "empty"},
		{"file name with slash", `{"disable_health": true, "public_url": "https://h", "files": {"/a": "x"}}`, "relative path"},
		{"file name with dots", `{"disable_health": true, "public_url": "https://h", "files": {"../a": "x"}}`, "relative path"},
		{"file name encoded", `{"disable_health": true, "public_url": "https://h", "files": {"a%2fb": "x"}}`, "relative path"},
		{"no file name", `{"disable_health": true, "public_url": "https://h", "files": {"": "x"}}`, "relative path"},
		{"security.txt as file", `{"disable_health": true, "public_url": "https://h", "files": {"security.txt": "x"}}`, "security_txt"},
		{"metadata as file", `{"disable_health": true, "public_url": "https://h", "files": {"oauth-protected-resource/x": "x"}}`, "taken"},
		{"challenge as file", `{"disable_health": true, "public_url": "https://h", "files": {"acme-challenge/x": "x"}}`, "taken"},
		{"negative age", `{"disable_health": true, "public_url": "https://h", "max_age": "-1s"}`, "max_age"},
		{"bad security.txt", `{"disable_health": true, "public_url": "https://h", "security_txt": {}}`, "contact is missing"},
		{"expired security.txt", `{"disable_health": true, "public_url": "https://h", "security_txt": {"contact": ["mailto:a@b"], "expires": "2020-01-01T00:00:00Z"}}`, "has passed"},
		{"unknown option", `{"disable_health": true, "public_url": "https://h", "max_agee": "1s"}`, "max_agee"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := load(t, tc.config); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got error %v, want one with %q", err, tc.want)
			}
		})
	}
}
