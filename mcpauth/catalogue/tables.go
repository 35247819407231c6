package catalogue

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// The records beside those of the tokens. All of them end by themselves.
var (
	// names are unique among the active tokens of a user in a team: there cannot be two
	// records with the same key.
	names = state.Table[string]{Name: state.TableTokenName, Version: 1}
	// ofUsers and ofTeams are by which tokens are listed; they have nothing to say.
	ofUsers = state.Table[struct{}]{Name: state.TableTokenOf, Version: 1}
	ofTeams = state.Table[struct{}]{Name: state.TableTokenTeam, Version: 1}
	// gates are replaced by whoever makes a token, so that of two who have counted at
	// the same time one counts again.
	gates = state.Table[struct{}]{Name: state.TableTokenGate, Version: 1}
)

const (
	// kept is how long a record is there after its token has expired or was revoked.
	kept = 30 * 24 * time.Hour
	// gateLife is longer than it takes to make a token.
	gateLife = time.Hour
)

// nameKey is the key of a name. The name itself may be longer than a key.
func nameKey(r *Record) []string {
	sum := sha256.Sum256([]byte(r.Name))
	return []string{r.UserID, r.Team, hex.EncodeToString(sum[:])}
}

// alive reports whether a token could be used, were it not for its restrictions.
func (r *Record) alive(now time.Time) bool {
	return r.Active && r.Revoked.IsZero() && now.Before(r.Expires)
}
