package mcpauth

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-json-experiment/json"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI is what the gateway adds to Caddy's own admin endpoint. Whoever may use that
// may do everything; it has no other checks.
//
// `GET /mcp_gateway/revocations` tells how the set of revocations is, and `POST` revokes:
//
//	{"by": "id", "value": "<jti>", "issuer": "https://login.example.com", "expires": "2027-01-31T12:00:00Z"}
//
// `by` is id, hash, subject, client or everyone; without an `issuer`, tokens of every
// issuer are meant. `before` spares the tokens of a subject, of a client or of everyone
// that are issued from that moment on; for everyone it is required. When such tokens have `expires`d anyhow, the
// revocation is forgotten; without it, never.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.mcp_gateway",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// Routes returns the routes of the admin endpoint.
func (adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: "/mcp_gateway/revocations", Handler: caddy.AdminHandlerFunc(serveRevocations)}}
}

// RevocationRequest is the body of a request to revoke.
type RevocationRequest struct {
	By      string    `json:"by"`
	Value   string    `json:"value,omitempty"`
	Issuer  string    `json:"issuer,omitempty"`
	Before  time.Time `json:"before,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
}

// RevocationStatus is how the set of revocations is.
type RevocationStatus struct {
	// Revocations is how many are known, Streams how many streams and sessions end when
	// their token is revoked.
	Revocations int `json:"revocations"`
	Streams     int `json:"streams"`
	// Age is, in seconds, how long ago everything was known that was revoked; Stale is
	// whether that is too long ago, or never was, so that requests are refused.
	Age   float64 `json:"age"`
	Stale bool    `json:"stale"`
}

// revokeTimeout is how long the store may take for a revocation.
const revokeTimeout = 10 * time.Second

// maxRevocationBody bounds a request to revoke.
const maxRevocationBody = 64 << 10

func serveRevocations(w http.ResponseWriter, r *http.Request) error {
	configured, err := caddy.ActiveContext().AppIfConfigured("mcp_gateway")
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("the running configuration has no MCP gateway")}
	}
	set := configured.(*App).Revocations()
	switch r.Method {
	case http.MethodGet:
		now := set.Status(steady.Now())
		w.Header().Set("Content-Type", "application/json")
		return json.MarshalWrite(w, RevocationStatus{now.Revocations, now.Watches, now.Age.Seconds(), now.Stale})
	case http.MethodPost:
		var asked RevocationRequest
		if err := json.UnmarshalRead(http.MaxBytesReader(w, r.Body, maxRevocationBody), &asked, json.RejectUnknownMembers(true)); err != nil {
			return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
		}
		revoked, err := asked.revocation()
		if err != nil {
			return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
		}
		ctx, cancel := context.WithTimeout(r.Context(), revokeTimeout)
		defer cancel()
		if err := set.Revoke(ctx, revoked); err != nil {
			return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("use GET or POST")}
}

func (r *RevocationRequest) revocation() (state.Revocation, error) {
	if r.By == state.RevokeEveryone.String() && r.Before.IsZero() {
		return state.Revocation{}, errors.New("to revoke everyone's tokens needs before; without it, nobody could come back")
	}
	made := state.Revocation{Issuer: r.Issuer, Value: r.Value, Before: r.Before, Expires: r.Expires}
	for kind := state.RevokeID; kind <= state.RevokeEveryone; kind++ {
		if kind.String() == r.By {
			made.Kind = kind
			return made, state.CheckRevocation(made)
		}
	}
	return made, errors.New("by must be id, hash, subject, client or everyone")
}

// Interface guard
var _ caddy.AdminRouter = adminAPI{}
