package command_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// TestAdministration: the gateway is looked after on the command line, and what is done
// there counts at the gateway.
func TestAdministration(t *testing.T) {
	w := newWorld(t)
	const first, next = "seven Quiet otters 9 row upstream", "Tulip-42 walks sideways"
	w.secrets = append(w.secrets, first, next)
	w.write(t, "password", next+"\n")
	w.write(t, "lines", next+"\n"+next+"\n")
	w.write(t, "nothing", "\n")
	gateway, err := launch.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	admin, err := launch.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "admin.Caddyfile", `{
	admin `+admin+`
	persist_config off
	mcp_gateway {
		store embedded {$STORE}
		tokens http://`+gateway+`
		accounts {
			administrator admin@example.com {
				password {env.FIRST}
			}
		}
	}
}
http://`+gateway+` {
	mcp_gateway {
		public_url http://`+gateway+`
		issuer http://`+gateway+` {
			keys gateway
		}
		role reader {
			when roles reader
			allow tools.read
		}
		server notes 127.0.0.1:1
		login on
	}
}
`)
	var group launch.Group
	t.Cleanup(func() { group.Stop() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	caddy, err := group.StartCaddy(ctx, w.root, w.tmp, filepath.Join(w.tmp, "admin.Caddyfile"), "FIRST="+first, "STORE="+filepath.Join(w.tmp, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.WaitReady(ctx, "http://"+gateway+"/ready"); err != nil {
		t.Fatal(err)
	}
	run := func(line string) string {
		t.Helper()
		verb, input, piped := strings.Cut(line, " < ")
		line = verb + " --address " + admin
		if piped {
			line += " < " + filepath.Join(w.tmp, input)
		}
		return w.run(t, line)
	}
	statetest.Eventually(t, "the administrator is there", func() bool {
		return strings.Contains(run("caddy mcp user list"), "admin@example.com")
	})
	login := func(email, password string) (reason string) {
		t.Helper()
		body := fmt.Sprintf(`{"email":%q,"password":%q}`, email, password)
		r, err := http.Post("http://"+gateway+"/auth/login", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		var answer struct{ Reason string }
		if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return answer.Reason
	}

	for _, tc := range []struct{ line, prints string }{
		{"caddy mcp user list", `^EMAIL +FULL NAME +ADMIN +ACTIVE +PASSWORD CHANGE REQUIRED +LAST LOGIN\nadmin@example.com +- +yes +yes +yes +-\nexit 0$`},
		{"caddy mcp user add anna@example.com --name 'Anna A.' --password - < password", `anna@example.com +Anna A\. +no +yes +yes +-\nexit 0$`},
		{"caddy mcp user add anna@example.com", `already a user .*\nexit 2$`},
		{"caddy mcp user add cleo@example.com --password - < lines", `must be one line\nexit 2$`},
		{"caddy mcp user add cleo@example.com --password - < nothing", `must be one line\nexit 2$`},
		{"caddy mcp user add cleo@example.com --password {tmp}/missing", `no such file .*\nexit 2$`},
		{"caddy mcp user add cleo@example.com --admin --active=false --json", `^\{.*"email":"cleo@example.com".*"is_admin":true,"is_active":false.*\}\nexit 0$`},
		{"caddy mcp user add", `it takes EMAIL\nexit 2$`},
		{"caddy mcp user add a@example.com b@example.com", `it takes EMAIL\nexit 2$`},
		{"caddy mcp user add dora@example.com --king", `unknown flag: --king\nexit 2$`},
		{"caddy mcp user list --limit 1 --json", `"next_offset":1`},
		{"caddy mcp user list --limit 0", `limit must be a number .*\nexit 2$`},
		{"caddy mcp user show anna@example.com", `\nanna@example.com +Anna`},
		{"caddy mcp user show anna@example.com/roles", `no such user\nexit 2$`},
		{"caddy mcp user show nobody@example.com", `no such user\nexit 2$`},
		{"caddy mcp user set anna@example.com --name Anna", `\nanna@example.com +Anna +no +yes`},
		{"caddy mcp user set anna@example.com", `needs something to change.*\nexit 2$`},
		{"caddy mcp user set admin@example.com --admin=false", `last active administrator.*\nexit 2$`},
		{"caddy mcp user remove admin@example.com", `last active administrator.*\nexit 2$`},
		{"caddy mcp user role add anna@example.com reader", `\nreader +- +yes +- +caddy admin\nexit 0$`},
		{"caddy mcp user role add anna@example.com reader --expires 2001-01-01T00:00:00Z", `in the past\nexit 2$`},
		{"caddy mcp team add sales --name Sales", `^ID +NAME +DESCRIPTION\nsales +Sales +-\nexit 0$`},
		{"caddy mcp team set sales --description 'They sell'", `sales +Sales +They sell\nexit 0$`},
		{"caddy mcp team list", `\nsales +Sales`},
		{"caddy mcp team join sales anna@example.com --owner", `^exit 0$`},
		{"caddy mcp team show sales", `\nanna@example.com +owner +2`},
		{"caddy mcp user role add anna@example.com reader --team sales --expires 2199-01-01T00:00:00Z", `\nreader +sales +yes +2199-01-01T00:00:00Z`},
		{"caddy mcp user role list anna@example.com", `\nreader +- .*\nreader +sales`},
		{"caddy mcp user role remove anna@example.com reader --team sales", `^exit 0$`},
		{"caddy mcp user role remove anna@example.com reader --team sales", `does not have this role there\nexit 2$`},
		{"caddy mcp team leave sales anna@example.com", `^exit 0$`},
		{"caddy mcp team remove sales", `^exit 0$`},
		{"caddy mcp team show sales", `no such team\nexit 2$`},
		{"caddy mcp user logout anna@example.com", `^exit 0$`},
		{"caddy mcp user logout anna@example.com --tokens", `^exit 0$`},
		{"caddy mcp key list", `^KID +ALG +SIGNS +SIGNS FROM +VERIFIES UNTIL +CREATED\n[\w-]{43} +ES256 +yes +2`},
		{"caddy mcp key rotate --now", `\n[\w-]{43} +ES256 +yes`},
		{"caddy mcp key withdraw nobody", `no signing key .*\nexit 2$`},
		{"caddy mcp servers", `^NAME +AVAILABLE +TLS +UPSTREAMS\nnotes +yes +no +127.0.0.1:1=healthy\nexit 0$`},
		{"caddy mcp well-known", `/\.well-known/jwks\.json +200 +yes +application/jwk-set\+json\n`},
		{"caddy mcp security", `^score: \d+\nhealthy: yes\nID +WEIGHT +STATUS +DETAIL\nenvironment_production +10 +failed +the environment is none\n`},
		{"caddy mcp user #", `(?s)Looks after.*role .*\nexit 0$`},
		{"caddy mcp user dance #", `no command "dance".*\nexit 2$`},
		{"caddy mcp user role dance #", `no command "dance".*\nexit 2$`},
	} {
		ask := run
		line, here := strings.CutSuffix(tc.line, " #") // asks nobody
		if here {
			ask = func(line string) string { return w.run(t, line) }
		}
		if printed := ask(line); !regexp.MustCompile(tc.prints).MatchString(strings.TrimSuffix(printed, "\n")) {
			t.Errorf("%s:\n%s\nis not\n%s", tc.line, printed, tc.prints)
		}
	}
	administerTokens(t, w, gateway, run)
	if reason := login("anna@example.com", next); reason != "password_change_required" {
		t.Errorf("Anna's login: %s", reason)
	}
	run("caddy mcp user set anna@example.com --active=false")
	if reason := login("anna@example.com", next); reason != "credentials_invalid" {
		t.Errorf("Anna's login when she is not active: %s", reason)
	}
	// What is written into Caddy's own log is no secret either.
	log, err := os.ReadFile(filepath.Join(w.tmp, "caddy.log"))
	for _, secret := range []string{first, next, "argon2"} {
		if err == nil && strings.Contains(string(log), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}
