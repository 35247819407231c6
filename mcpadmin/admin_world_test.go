package mcpadmin_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

const adminOn = loginOn + "\n\t\tadmin on"

// newAdminWorld is a gateway with an administration, by login and on Caddy's own admin
// endpoint.
func newAdminWorld(t *testing.T) *world {
	t.Helper()
	w := newSettled(t)
	w.site = adminOn
	var err error
	if w.endpoint, err = launch.FreeAddr(); err != nil {
		t.Fatal(err)
	}
	return w
}

// enter begins a session, with a password that has to be changed unless it was, and
// returns its tokens.
func (w *world) enter(email, first, next string) *reply {
	w.t.Helper()
	if !w.settled {
		w.change(email, first, next).want(http.StatusOK, "")
	}
	return w.login(email, next).want(http.StatusOK, "")
}

// administrator begins a session of the administrator.
func (w *world) administrator() string {
	w.t.Helper()
	return w.enter("admin@example.com", adminFirst, adminNext).str("access_token")
}

func (w *world) app() *mcpauth.App {
	w.t.Helper()
	configured, err := caddy.ActiveContext().AppIfConfigured("mcp_gateway")
	if err != nil {
		w.t.Fatal(err)
	}
	return configured.(*mcpauth.App)
}

// place is where administrators ask: below /admin with a token, or at Caddy's own admin
// endpoint.
type place struct {
	*world
	base, token string
}

func (w *world) below(token string) *place { return &place{w, w.url + "/admin", token} }

func (w *world) caddyAdmin() *place { return &place{w, "http://" + w.endpoint + "/mcp_gateway", ""} }

// ask sends a request; the body is an object, a text, or nil for none.
func (p *place) ask(method, path string, body any) *reply {
	p.t.Helper()
	var content io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(body)
	default:
		text, err := json.Marshal(body)
		if err != nil {
			p.t.Fatal(err)
		}
		content = strings.NewReader(string(text))
	}
	request, err := http.NewRequestWithContext(p.t.Context(), method, p.base+path, content)
	if err != nil {
		p.t.Fatal(err)
	}
	if content != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if p.token != "" {
		request.Header.Set("Authorization", "Bearer "+p.token)
	}
	r := p.send(request)
	for _, secret := range append([]string{"argon2", `"hash"`}, p.secrets...) {
		if strings.Contains(r.text, secret) {
			p.t.Errorf("%s %s is answered with a secret: %s", method, path, r.text)
		}
	}
	return r
}

// wantLogged expects a line of the log that has all the parts.
func (w *world) wantLogged(parts ...string) {
	w.t.Helper()
	log, err := os.ReadFile(w.log)
	if err != nil {
		w.t.Fatal(err)
	}
lines:
	for line := range strings.Lines(string(log)) {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue lines
			}
		}
		return
	}
	w.t.Errorf("the log has no line with %s", strings.Join(parts, " "))
}
