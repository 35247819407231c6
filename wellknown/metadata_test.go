package wellknown

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestMetadataPaths is checklist H1: path insertion for two servers, the root,
// trailing slash, query and port; 404 for any other path below.
func TestMetadataPaths(t *testing.T) {
	const wellKnown = "/.well-known/oauth-protected-resource"
	for _, tc := range []struct {
		name      string
		publicURL string
		servers   []string
		want      map[string]string // path to resource; "" is 404, "next" is passed on
	}{
		{"two servers", "https://mcp.example.com", []string{"a", "b"}, map[string]string{
			"":                  "https://mcp.example.com",
			"?x=y":              "https://mcp.example.com",
			"/servers/a/mcp":    "https://mcp.example.com/servers/a/mcp",
			"/servers/b/mcp":    "https://mcp.example.com/servers/b/mcp",
			"/servers/b/mcp?x":  "https://mcp.example.com/servers/b/mcp",
			"/":                 "",
			"/mcp":              "", // which of the two it would be cannot be told
			"/servers/a/mcp/":   "",
			"/servers/a":        "",
			"/servers/c/mcp":    "",
			"/servers/A/mcp":    "",
			"/servers/%61/mcp":  "",
			"/servers//a/mcp":   "",
			"/servers/a/../mcp": "",
			"//servers/a/mcp":   "",
			"%2Fservers/a/mcp":  "next",
			"s":                 "next",
		}},
		{"one server", "https://mcp.example.com/", []string{"a"}, map[string]string{
			"":               "https://mcp.example.com",
			"/mcp":           "https://mcp.example.com/mcp",
			"/servers/a/mcp": "https://mcp.example.com/servers/a/mcp",
			"/mcp/":          "",
		}},
		{"no server", "https://mcp.example.com", nil, map[string]string{"": "https://mcp.example.com", "/mcp": ""}},
		{"port and prefix", "https://MCP.example.com:8443/team/gw/", []string{"a"}, map[string]string{
			"/team/gw":               "https://mcp.example.com:8443/team/gw",
			"/team/gw/mcp":           "https://mcp.example.com:8443/team/gw/mcp",
			"/team/gw/servers/a/mcp": "https://mcp.example.com:8443/team/gw/servers/a/mcp",
			"/team/gw/":              "",
			"/team/gw/servers/b/mcp": "",
			// These are not ours to answer: another resource of the same origin
			// may have its metadata there.
			"":               "next",
			"/team":          "next",
			"/team/gwx":      "next",
			"/servers/a/mcp": "next",
		}},
		{"IPv6", "http://[::1]:8080", []string{"a"}, map[string]string{"/mcp": "http://[::1]:8080/mcp"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHandler(t, &Handler{PublicURL: tc.publicURL, Servers: tc.servers}, nil)
			for path, want := range tc.want {
				r := httptest.NewRequest(http.MethodGet, "http://x"+wellKnown+path, nil)
				resp := ask(t, h, r)
				switch want {
				case "":
					if resp.StatusCode != http.StatusNotFound || resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("Cache-Control") != "no-store" {
						t.Errorf("%s: got %d %v", path, resp.StatusCode, resp.Header)
					}
				case "next":
					if resp.StatusCode != passedOn {
						t.Errorf("%s: got %d", path, resp.StatusCode)
					}
				default:
					var got map[string]any
					if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || resp.StatusCode != http.StatusOK || got["resource"] != want {
						t.Errorf("%s: got %d %v, error %v", path, resp.StatusCode, got, err)
					}
					// Nothing was configured but the URL: the arrays are left out.
					if len(got) != 2 {
						t.Errorf("%s: members %v", path, got)
					}
				}
			}
		})
	}
}

// TestTwoTenants: two gateways on one origin do not get in each other's way.
func TestTwoTenants(t *testing.T) {
	a := newHandler(t, &Handler{PublicURL: "https://h/a", Servers: []string{"x"}}, nil)
	b := newHandler(t, &Handler{PublicURL: "https://h/b", Servers: []string{"x"}}, nil)
	const path = "/.well-known/oauth-protected-resource/b/mcp"
	if resp, _ := get(t, a, path); resp.StatusCode != passedOn {
		t.Errorf("a: got %d", resp.StatusCode)
	}
	if resp, body := get(t, b, path); resp.StatusCode != http.StatusOK || !strings.Contains(body, `"resource":"https://h/b/mcp"`) {
		t.Errorf("b: got %d %s", resp.StatusCode, body)
	}
}

// TestSpoofedHost is checklist H2: what the client says about the host changes
// nothing, byte for byte.
func TestSpoofedHost(t *testing.T) {
	h := newHandler(t, full(), ready{})
	for _, path := range []string{
		"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/servers/tickets/mcp",
		"/.well-known/security.txt", "/security.txt", "/robots.txt",
	} {
		want, wantBody := get(t, h, path)
		for _, host := range []string{"evil.example", "evil.example:1", "[::1]", ""} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = host
			for name, value := range map[string]string{
				"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "1", "X-Forwarded-Prefix": "/evil",
				"Forwarded": "host=evil.example;proto=http", "X-Original-Host": "evil.example", "X-Original-Url": "/evil", "Origin": "https://evil.example",
			} {
				r.Header.Set(name, value)
			}
			w := httptest.NewRecorder()
			resp := ask(t, h, r)
			if _, err := w.Body.ReadFrom(resp.Body); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != want.StatusCode || w.Body.String() != wantBody || resp.Header.Get("Location") != want.Header.Get("Location") || resp.Header.Get("ETag") != want.Header.Get("ETag") {
				t.Errorf("%s with host %q: got %d %v %s", path, host, resp.StatusCode, resp.Header, w.Body)
			}
		}
	}
}

func TestMetadataPreflight(t *testing.T) {
	h := newHandler(t, full(), ready{})
	for path, want := range map[string]int{
		"/.well-known/oauth-protected-resource":                  http.StatusNoContent,
		"/.well-known/oauth-protected-resource/servers/none/mcp": http.StatusNoContent,
		"/robots.txt": http.StatusMethodNotAllowed,
		"/health":     http.StatusMethodNotAllowed,
	} {
		r := httptest.NewRequest(http.MethodOptions, path, nil)
		r.Header.Set("Origin", "https://app.example.com")
		r.Header.Set("Access-Control-Request-Method", "GET")
		r.Header.Set("Access-Control-Request-Headers", "mcp-protocol-version")
		resp := ask(t, h, r)
		if resp.StatusCode != want || resp.Header.Get("Allow") == "" {
			t.Errorf("%s: got %d %v", path, resp.StatusCode, resp.Header)
		}
		if want == http.StatusNoContent && (resp.Header.Get("Access-Control-Allow-Origin") != "*" ||
			!strings.Contains(resp.Header.Get("Access-Control-Allow-Headers"), "MCP-Protocol-Version") ||
			!strings.Contains(resp.Header.Get("Access-Control-Allow-Methods"), "GET") || resp.Header.Get("Access-Control-Allow-Credentials") != "") {
			t.Errorf("%s: %v", path, resp.Header)
		}
	}
	resp := ask(t, h, httptest.NewRequest(http.MethodDelete, "/.well-known/oauth-protected-resource/none", nil))
	if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "GET, HEAD, OPTIONS" {
		t.Errorf("DELETE: got %d %v", resp.StatusCode, resp.Header)
	}
}

func TestCheckIssuer(t *testing.T) {
	for issuer, ok := range map[string]bool{
		"https://login.example.com": true, "https://login.example.com/": true, "https://Login.example.com/a%20b//c": true,
		"http://127.0.0.1:9000/realm": true, "http://localhost": true,
		"http://login.example.com": false, "ftp://localhost": false, "https://u@h": false, "https://h#": false, "https:///x": false, "": false, "https://h\n": false,
	} {
		if err := checkIssuer(issuer, false); (err == nil) != ok {
			t.Errorf("%q: error %v", issuer, err)
		}
		if err := checkIssuer(issuer, true); (err == nil) != (ok || issuer == "http://login.example.com") {
			t.Errorf("%q in development: error %v", issuer, err)
		}
	}
}

// Where no access tokens are taken, every path of metadata is a plain 404, as it is
// for a resource that does not exist.
func TestDisabledMetadata(t *testing.T) {
	h := newHandler(t, &Handler{PublicURL: "https://mcp.example.com", Servers: []string{"a"}, DisableMetadata: true}, nil)
	for _, path := range []string{"", "/mcp", "/servers/a/mcp", "/servers/b/mcp"} {
		resp, body := get(t, h, "http://x/.well-known/oauth-protected-resource"+path)
		if resp.StatusCode != http.StatusNotFound || resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("Cache-Control") != "no-store" || body != "" {
			t.Errorf("%s: got %d %v %s", path, resp.StatusCode, resp.Header, body)
		}
	}
	if resp, _ := get(t, h, "http://x/health"); resp.StatusCode != http.StatusOK {
		t.Errorf("health: %d", resp.StatusCode)
	}
}
