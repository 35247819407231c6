package mcpadmin_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
)

var (
	pathValue = regexp.MustCompile(`\{[^}]*\}`)
	style     = regexp.MustCompile(`(?s)<style>(.*?)</style>`)
	refers    = regexp.MustCompile(`(?:href|src|action|url)(?:="|\()([^")]*)`)
)

func TestDocsOff(t *testing.T) {
	w := newWorld(t)
	w.global = quick
	w.start()
	for _, path := range []string{"/docs", "/openapi.json", "/docs/", "/docs/x"} {
		w.get(path, "").want(http.StatusNotFound, "not_found")
	}
}

// TestDocs: who is logged in can read what there is, as a document and as a page.
func TestDocs(t *testing.T) {
	w := newSettled(t)
	w.site = everything
	w.start()
	session := w.login("bob@example.com", bobNext).want(http.StatusOK, "").str("access_token")
	known := password("bob@example.com", bobNext)

	for _, path := range []string{"/docs", "/openapi.json"} {
		w.authorized(http.MethodGet, path).want(http.StatusUnauthorized, "token_missing").wantChallenges("Bearer", "Basic")
		w.authorized(http.MethodGet, path, password("bob@example.com", bobFirst)).want(http.StatusUnauthorized, "credentials_invalid").wantChallenges("Bearer", "Basic")
		w.authorized(http.MethodGet, path, "Basic x").want(http.StatusUnauthorized, "basic_malformed").wantChallenges("Bearer", "Basic")
		if r := w.post(path, session, nil).want(http.StatusMethodNotAllowed, "method"); r.header.Get("Allow") != "GET" {
			t.Errorf("allowed is %q", r.header.Get("Allow"))
		}
		byToken, byPassword := w.get(path, session), w.authorized(http.MethodGet, path, known)
		if byToken.status != http.StatusOK || byPassword.text != byToken.text || byToken.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d and %d, %v", path, byToken.status, byPassword.status, byToken.header)
		}
	}
	for _, path := range []string{"/docs/", "/docs/x", "/Docs", "/%64ocs", "/openapi.json/", "/openapi.yaml"} {
		if r := w.get(path, session); r.status != http.StatusNotFound {
			t.Errorf("%s is answered with %d", path, r.status)
		}
	}

	document := w.get("/openapi.json", session)
	readContract(t, []byte(document.text), "", w.contract.operations)
	var read struct {
		OpenAPI string
		Servers []struct{ URL string }
		Paths   map[string]map[string]struct{ Summary string }
	}
	if err := json.Unmarshal([]byte(document.text), &read); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(read.OpenAPI, "3.1.") || len(read.Servers) != 1 || read.Servers[0].URL != w.url {
		t.Errorf("got %s", document.text)
	}

	page := w.get("/docs", session)
	described := 0
	for path, methods := range read.Paths {
		described += len(methods)
		for method, o := range methods {
			shown := regexp.MustCompile(`(?s)>` + strings.ToUpper(method) + `</span> <code>` + regexp.QuoteMeta(path) + `</code> <span>` + regexp.QuoteMeta(html.EscapeString(o.Summary)) + `<`)
			if !shown.MatchString(page.text) {
				t.Errorf("the page does not show %s %s", method, path)
			}
		}
	}
	if described != len(w.contract.operations) {
		t.Errorf("%d operations are described, there are %d", described, len(w.contract.operations))
	}

	// The page may have its own style, and nothing else.
	css := style.FindStringSubmatch(page.text)
	if css == nil {
		t.Fatal("the page has no style")
	}
	sum := sha256.Sum256([]byte(css[1]))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	if got := page.header.Get("Content-Security-Policy"); got != policy {
		t.Errorf("the policy is %s, not %s", got, policy)
	}
	if kind := page.header.Get("Content-Type"); kind != "text/html; charset=utf-8" {
		t.Errorf("the page is %s", kind)
	}
	for _, ref := range refers.FindAllStringSubmatch(page.text, -1) {
		if !strings.HasPrefix(ref[1], "#") {
			t.Errorf("the page refers to %s", ref[1])
		}
		if !strings.Contains(page.text, `id="`+strings.TrimPrefix(ref[1], "#")+`"`) {
			t.Errorf("the page refers to %s, which is not there", ref[1])
		}
	}
	for _, part := range []string{"<script", "<img", "<link", "<form", " style=", " onclick=", "javascript:"} {
		if strings.Contains(page.text, part) {
			t.Errorf("the page has a %s", part)
		}
	}
}

// TestDocsByToken: API tokens are good for the documentation, whatever server they are
// for, and bound by all else that bounds them, at once.
func TestDocsByToken(t *testing.T) {
	w, bob := newTokens(t)
	w.site += "\n\t\tdocs on"
	w.start()
	paths := []string{"/docs", "/openapi.json"}
	read := func(token string, status int, reason string) {
		t.Helper()
		for _, path := range paths {
			w.get(path, token).want(status, reason)
		}
	}
	token := func(name string, scope object) (id, raw string) {
		t.Helper()
		return w.issued(bob, object{"name": name, "expires_in_days": 1, "scope": scope})
	}
	_, plain := token("plain", nil)
	read(plain, http.StatusOK, "")
	w.get("/auth/me", plain).want(http.StatusForbidden, "session_required")
	id, raw := token("server", object{"server_id": "tickets", "permissions": []string{"tools.read"}})
	read(raw, http.StatusOK, "")
	w.put(id, bob, `{"is_active":false}`).want(http.StatusOK, "")
	statetest.Eventually(t, "the token is not active", func() bool { return w.get("/docs", raw).status == http.StatusUnauthorized })
	read(raw, http.StatusUnauthorized, "token_inactive")
	w.put(id, bob, `{"is_active":true}`).want(http.StatusOK, "")
	statetest.Eventually(t, "the token is active", func() bool { return w.get("/docs", raw).status == http.StatusOK })
	w.put(id, bob, `{"scope":{"server_id":"tickets","permissions":["tools.read"],"ip_restrictions":["192.0.2.0/24"]}}`).want(http.StatusOK, "")
	statetest.Eventually(t, "the token is bound", func() bool { return w.get("/docs", raw).status == http.StatusForbidden })
	read(raw, http.StatusForbidden, "forbidden_scope")
	w.do(http.MethodDelete, "/tokens/"+id, bob, "", "").want(http.StatusNoContent, "")
	read(raw, http.StatusUnauthorized, "token_revoked")

	day := time.Now().UTC().Add(3 * 24 * time.Hour).Weekday().String()
	_, raw = token("time", object{"time_restrictions": object{"days": []string{day}}})
	read(raw, http.StatusForbidden, "forbidden_time")
	_, raw = token("usage", object{"usage_limits": object{"requests_per_hour": 2}})
	read(raw, http.StatusOK, "")
	if r := w.get("/docs", raw).want(http.StatusTooManyRequests, "usage_exceeded"); r.header.Get("Retry-After") == "" {
		t.Error("there is no Retry-After")
	}
	// One that the gateway has no record of is none of its own.
	read(w.apiToken("bob@example.com", false, ""), http.StatusUnauthorized, "token_unknown")

	if _, err := w.app().Desk().Accounts().Update(t.Context(), account.Actor{Name: "test"}, "bob@example.com", account.Update{Active: new(false)}); err != nil {
		t.Fatal(err)
	}
	statetest.Eventually(t, "the account is not active", func() bool { return w.get("/docs", plain).status == http.StatusUnauthorized })
	read(plain, http.StatusUnauthorized, "account_disabled")
}

// TestDocsSwitches: what would be for nobody, or for nothing, is refused.
func TestDocsSwitches(t *testing.T) {
	w := newWorld(t)
	// The docs can be read without a login.
	w.global, w.site = quick, "docs on\n\t\tdocs_basic_auth on"
	w.start()
	w.get("/auth/me", "").want(http.StatusNotFound, "not_found")
	w.get("/docs", "").want(http.StatusUnauthorized, "token_missing").wantChallenges("Bearer", "Basic")

	for site, reason := range map[string]string{
		"docs on":                          "nobody can read the docs",
		"login on\n\t\tdocs_basic_auth on": "makes no sense without docs",
		"docs on\n\t\tdocs_basic_auth on\n\t\tapi_basic_auth on": "makes no sense without login or admin",
	} {
		w.site = site
		if err := w.load(); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v", site, err)
		}
	}
	w.global, w.site = "", "api_basic_auth on"
	if err := w.load(); err == nil || !strings.Contains(err.Error(), "accounts") {
		t.Errorf("without accounts: %v", err)
	}
}
