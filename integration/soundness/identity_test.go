package soundness

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// reconfigure loads the configuration under test with some of its text replaced, each
// old text once by the new one after it, until the test has ended.
func reconfigure(t *testing.T, changes ...string) {
	t.Helper()
	text := caddyfile("")
	for pair := range slices.Chunk(changes, 2) {
		if !strings.Contains(text, pair[0]) {
			t.Fatalf("the configuration has no %q", pair[0])
		}
		text = strings.Replace(text, pair[0], pair[1], 1)
	}
	if err := load(text); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := load(caddyfile("")); err != nil {
			t.Error(err)
		}
	})
}

// What is replaced, all of it in the secure site but for the global options.
const (
	ofTheSite   = "scopes_supported mcp:call"
	ofIssuers   = "import issuers\n"
	ofTheServer = "protocols h1 h2"
	beforeAll   = "mcp_gateway {\n\t\tpublic_url https://localhost"
)

// trusting believes headers of some peers. That they are to be forwarded must not
// matter.
func trusting(peers string) string {
	return `trusted_header X-Authenticated-User {
			from ` + peers + `
			claim groups X-Authenticated-Groups
		}
		forward_headers X-Authenticated-User X-Authenticated-Groups`
}

// proxied is a request as a proxy sends it, without a token.
func proxied(t *testing.T, body string, header ...string) message {
	t.Helper()
	return post(t, nobody, body).without("Authorization").with(header...)
}

// named are the headers of a user.
func named(user, groups string) []string {
	return []string{"X-Authenticated-User: " + user, "X-Authenticated-Groups: " + groups}
}

// saysOnly fails the test unless the server was told of that principal and no other.
func (got received) saysOnly(t *testing.T, issuer, subject, roles string) {
	t.Helper()
	for name, value := range map[string]string{"X-Mcp-Issuer": issuer, "X-Mcp-Subject": subject, "X-Mcp-Roles": roles} {
		if !slices.Equal(got.header[name], []string{value}) {
			t.Errorf("%s is %q, want %q", name, got.header[name], value)
		}
	}
	for name := range got.header {
		if strings.Contains(strings.ToLower(name), "authenticated") {
			t.Errorf("the server received %s: %q", name, got.header[name])
		}
	}
}

var (
	several     = want{400, 40000, "credentials_several"}
	badIdentity = want{400, 40000, "identity_malformed"}
)

func TestTrustedHeader(t *testing.T) {
	reconfigure(t, ofTheSite, trusting("127.0.0.1"))
	for _, w := range wires {
		run := func(name string, f func(t *testing.T, up *upstream)) {
			t.Run(name+"/"+w.name, func(t *testing.T) { f(t, watch(t)) })
		}
		run("G13 a trusted proxy names the user", func(t *testing.T, up *upstream) {
			w.send(t, proxied(t, callTool("ok"), named("ann", "other, viewer")...)).ok(t)
			up.one(t).saysOnly(t, "trusted_header", "ann", "viewer")
			up.forget()
			notFound.check(t, w.send(t, proxied(t, callTool("admin"), named("ann", "viewer")...)))
			notAllowed.check(t, w.send(t, proxied(t, callTool("ok"), named("ann", "viewers")...)))
			notAllowed.check(t, w.send(t, proxied(t, callTool("ok"), named("ann", "viewer full")...)))
			up.nothing(t)
			w.send(t, proxied(t, call("1", "tools/list", ""), named("ann", "viewer")...)).only(t, "tools", lists[0].kept)
		})
		run("G13 a trusted proxy names nobody", func(t *testing.T, up *upstream) {
			invalid("token_missing").check(t, w.send(t, proxied(t, callTool("ok"), "X-Authenticated-Groups: full")))
			up.nothing(t)
			// Whom it lets pass with a token is who the token says, with no groups of the request.
			w.send(t, post(t, viewer, callTool("ok"), "X-Authenticated-Groups: full")).ok(t)
			up.one(t).saysOnly(t, "https://rsa.test", "vera", "viewer")
		})
		run("G13 two credentials", func(t *testing.T, up *upstream) {
			for _, user := range []string{"root", "alice"} {
				several.check(t, w.send(t, post(t, alice, callTool("ok"), named(user, "full")...)))
			}
			several.check(t, w.send(t, proxied(t, callTool("ok"), append(named("ann", "full"), "Authorization: Bearer x")...)))
			several.check(t, w.send(t, proxied(t, callTool("ok"), append(named("ann", "full"), "Authorization: bearer "+alice.token(t, claims{"exp": 1}))...)))
			up.nothing(t)
		})
		run("G13 a malformed identity", func(t *testing.T, up *upstream) {
			for _, lines := range [][]string{
				append(named("ann", "viewer"), "X-Authenticated-User: root"),
				append(named("ann", "viewer"), "x-authenticated-user: ann"),
				append(named("ann", "viewer"), "X-Authenticated-Groups: full"),
				named("", "viewer"), named("  ", "viewer"), named("a\xffb", "viewer"), named("ann", "viewer\xff"),
			} {
				badIdentity.check(t, w.send(t, proxied(t, callTool("ok"), lines...)))
			}
			up.nothing(t)
		})
		run("G13 twins of a trusted header", func(t *testing.T, up *upstream) {
			twins := []string{"X_Authenticated_User: root", "X-Authenticated_User: root", "X.Authenticated.User: root", "X_Authenticated_Groups: full", "X-Authenticated.Groups: full"}
			invalid("token_missing").check(t, w.send(t, proxied(t, callTool("ok"), twins...)))
			up.nothing(t)
			w.send(t, proxied(t, callTool("ok"), append(named("ann", "viewer"), twins...)...)).ok(t)
			up.one(t).saysOnly(t, "trusted_header", "ann", "viewer")
		})
		run("G14 a proxy's own credentials go no further", func(t *testing.T, up *upstream) {
			w.send(t, proxied(t, callTool("ok"), append(named("ann", "viewer"), "Authorization: Basic YW5uOnB3", "Cookie: a=b")...)).ok(t)
			up.one(t).saysOnly(t, "trusted_header", "ann", "viewer")
		})
		run("E3b a proxy's principal of that name", func(t *testing.T, up *upstream) {
			of := func(user string, header ...string) message {
				return proxied(t, callTool("ok"), append(named(user, "viewer"), header...)...)
			}
			theirs := session(t, viewer, v25)
			begun := w.send(t, proxied(t, initialize(v25), named("vera", "viewer")...)).ok(t)
			own := begun.header.Get("Mcp-Session-Id")
			up.forget()
			noSession.check(t, w.send(t, of("vera", inSession(theirs, v25)...)))
			noSession.check(t, w.send(t, of("bob", inSession(own, v25)...)))
			noSession.check(t, w.send(t, post(t, viewer, callTool("ok"), inSession(own, v25)...)))
			up.nothing(t)
			w.send(t, of("vera", inSession(own, v25)...)).ok(t)
		})
		run("agentgateway: tokens were optional", func(t *testing.T, up *upstream) {
			for _, m := range []message{
				post(t, alice, initialize(v25)), post(t, alice, call("1", "ping", "")), post(t, alice, call("1", "tools/list", "")),
				post(t, alice, modern("server/discover", ""), modernHeaders("server/discover", "")...), post(t, alice, "[]"), get(t, alice), del(t, alice),
			} {
				invalid("token_missing").check(t, w.send(t, m.without("Authorization")))
			}
			up.nothing(t)
		})
	}
	t.Run("B15 Connection takes no identity away, and brings none", func(t *testing.T) {
		up := watch(t)
		const hops = "Connection: keep-alive, X-Authenticated-User, X-Authenticated-Groups, X-Mcp-Subject, X-Mcp-Issuer, X-Mcp-Roles"
		sendH1(t, proxied(t, callTool("ok"), append(named("ann", "viewer"), hops)...)).ok(t)
		up.one(t).saysOnly(t, "trusted_header", "ann", "viewer")
		up.forget()
		sendH1(t, post(t, viewer, callTool("ok"), hops)).ok(t)
		up.one(t).saysOnly(t, "https://rsa.test", "vera", "viewer")
		up.forget()
		// HTTP/2 has no such field (RFC 9113 section 8.2.2).
		if r := sendH2(t, proxied(t, callTool("ok"), append(named("ann", "viewer"), hops)...)); r.status == http.StatusOK {
			t.Errorf("status %d", r.status)
		}
		up.nothing(t)
	})
}

// From everybody but the peers, the same headers count for nothing and go nowhere,
// whatever else a request says of where it comes from.
func TestTrustedHeaderOfOthers(t *testing.T) {
	reconfigure(t, ofTheSite, trusting("192.0.2.0/24 10.0.0.1 fd00::/8"), ofTheServer, ofTheServer+"\n\t\ttrusted_proxies static 127.0.0.0/8")
	spoofed := []string{
		"X-Forwarded-For: 192.0.2.1", "X-Real-Ip: 192.0.2.1", "Forwarded: for=192.0.2.1", "X-Client-Ip: 192.0.2.1", "True-Client-Ip: 192.0.2.1",
		"X-Forwarded-User: root", "X-Mcp-Subject: root", "X-Mcp-Roles: full",
	}
	for _, w := range wires {
		for name, lines := range map[string][]string{
			"a user":           named("root", "full"),
			"two users":        append(named("root", "full"), named("root", "full")...),
			"an empty user":    named("", "full"),
			"no text":          named("root\xff", "full"),
			"a twin":           {"X_Authenticated_User: root", "X_Authenticated_Groups: full"},
			"in another case":  {"x-authenticated-user: root", "X-AUTHENTICATED-GROUPS: full"},
			"groups alone":     {"X-Authenticated-Groups: full"},
			"a user that fits": named("vera", "viewer"),
		} {
			t.Run("G13 a spoofed peer, "+name+"/"+w.name, func(t *testing.T) {
				up := watch(t)
				all := append(slices.Clone(lines), spoofed...)
				invalid("token_missing").check(t, w.send(t, proxied(t, callTool("ok"), all...)))
				up.nothing(t)
				w.send(t, post(t, viewer, callTool("ok"), all...)).ok(t)
				got := up.one(t)
				got.saysOnly(t, "https://rsa.test", "vera", "viewer")
				if strings.Contains(fmt.Sprint(got.header), "root") {
					t.Errorf("the server received %v", got.header)
				}
			})
		}
		t.Run("Microsoft: identity headers for development were left on/"+w.name, func(t *testing.T) {
			up := watch(t)
			lies := append(named("root", "full"), "X-Dev-User: root", "X-Dev-Roles: full", "X-User-Id: root", "X-Ms-Client-Principal-Name: root")
			invalid("token_missing").check(t, w.send(t, proxied(t, callTool("ok"), lies...)))
			up.nothing(t)
			w.send(t, post(t, alice, callTool("ok"), lies...)).ok(t)
			got := up.one(t)
			got.saysOnly(t, "https://rsa.test", "alice", "a")
			if strings.Contains(fmt.Sprint(got.header), "root") {
				t.Errorf("the server received %v", got.header)
			}
		})
	}
	t.Run("B15 Connection names a header of others", func(t *testing.T) {
		up := watch(t)
		const hops = "Connection: X-Authenticated-User, X-Authenticated-Groups"
		invalid("token_missing").check(t, sendH1(t, proxied(t, callTool("ok"), append(named("root", "full"), hops)...)))
		up.nothing(t)
		sendH1(t, post(t, viewer, callTool("ok"), append(named("root", "full"), hops)...)).ok(t)
		up.one(t).saysOnly(t, "https://rsa.test", "vera", "viewer")
	})
}

// A gateway that takes no tokens points nowhere to get one.
func TestNoIssuer(t *testing.T) {
	reconfigure(t, ofIssuers, "", ofTheSite, trusting("127.0.0.1"))
	for _, w := range wires {
		t.Run("Docker: authentication was off in containers/"+w.name, func(t *testing.T) {
			t.Setenv("DOCKER_MCP_IN_CONTAINER", "1")
			up := watch(t)
			for _, m := range []message{proxied(t, callTool("ok")), post(t, alice, callTool("ok")), get(t, alice), del(t, alice)} {
				r := w.send(t, m)
				invalid("identity_missing").check(t, r)
				if got := r.header.Get("Www-Authenticate"); got != fmt.Sprintf(`Bearer realm="https://localhost:%d"`, world.secure) {
					t.Errorf("challenge %s", got)
				}
			}
			for _, path := range []string{"", "/mcp", "/servers/main/mcp"} {
				m := message{port: world.secure, method: "GET", path: "/.well-known/oauth-protected-resource" + path, host: fmt.Sprintf("localhost:%d", world.secure)}
				if r := w.send(t, m); r.status != http.StatusNotFound {
					t.Errorf("%s: status %d, %s", path, r.status, r.body)
				}
			}
			up.nothing(t)
			w.send(t, proxied(t, callTool("ok"), named("ann", "viewer")...)).ok(t)
			up.one(t).saysOnly(t, "trusted_header", "ann", "viewer")
		})
	}
	t.Run("Docker: nobody to let in is an error", func(t *testing.T) {
		text := strings.Replace(caddyfile(""), ofIssuers, "", 1)
		if err := load(text); err == nil || !strings.Contains(err.Error(), "issuer") {
			t.Errorf("the configuration was accepted: %v", err)
		}
	})
}

// Users of Caddy's own basic_auth.
func TestBasicAuth(t *testing.T) {
	const account = "ann $2a$04$LuDdK1vXhMCn4qlx84cVMObzhpay84570X9kqgeTdt393XAL149tq"
	reconfigure(t, beforeAll, "basic_auth {\n\t\t"+account+"\n\t}\n\t"+beforeAll,
		ofTheSite, "authenticated\n\t\trole ann {\n\t\t\twhen sub ann\n\t\t\tallow tools.execute main/ok\n\t\t}")
	basic := func(user, password string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	for _, w := range wires {
		t.Run("G13 a user of basic_auth/"+w.name, func(t *testing.T) {
			up := watch(t)
			for _, header := range [][]string{
				{},
				{basic("ann", "wrong")},
				{"Authorization: Bearer " + alice.token(t)},
				{"X-Authenticated-User: ann"},
				{basic("ann", "wrong"), basic("ann", "wonderland")},
			} {
				if r := w.send(t, proxied(t, callTool("ok"), header...)); r.status != http.StatusUnauthorized {
					t.Errorf("%v: status %d", header, r.status)
				}
			}
			// Which of two is read is the authenticator's choice, and ours is another's.
			want{400, 40000, "token_several"}.check(t, w.send(t, proxied(t, callTool("ok"), basic("ann", "wonderland"), "Authorization: Bearer "+alice.token(t))))
			up.nothing(t)
			w.send(t, proxied(t, callTool("ok"), basic("ann", "wonderland"), "X-Mcp-Subject: root", "X-Mcp-Roles: full")).ok(t)
			up.one(t).saysOnly(t, "authenticated", "ann", "ann")
			up.forget()
			notFound.check(t, w.send(t, proxied(t, callTool("admin"), basic("ann", "wonderland"))))
			up.nothing(t)
		})
	}
}

func TestEnvironments(t *testing.T) {
	key := func(environment string) []byte {
		mac := hmac.New(sha256.New, []byte(sharedSecret))
		mac.Write([]byte("mcpgw-env:" + environment))
		return []byte(hex.EncodeToString(mac.Sum(nil)))
	}
	reconfigure(t, "secret "+sharedSecret, "secret "+sharedSecret+"\n\t\tderive_key",
		"servers {", "mcp_gateway {\n\t\tenvironment production\n\t}\n\tservers {")
	who := alice
	who.issuer = "https://hs.test"
	for _, w := range wires {
		t.Run("ContextForge: tokens were valid across environments/"+w.name, func(t *testing.T) {
			up := watch(t)
			for _, other := range [][]byte{key("staging"), key("development"), key("Production"), key(""), []byte(sharedSecret)} {
				invalid("token_signature").check(t, w.send(t, bearing(t, sign(t, jose.HS256, other, "", who.claims()))))
			}
			for _, env := range []any{"staging", "", "PRODUCTION", 1, []string{"production"}} {
				invalid("token_environment").check(t, w.send(t, bearing(t, sign(t, jose.HS256, key("production"), "", who.claims(claims{"env": env})))))
			}
			// The same goes for tokens whose keys are not derived.
			invalid("token_environment").check(t, w.send(t, bearing(t, alice.token(t, claims{"env": "staging"}))))
			up.nothing(t)
			for _, env := range []any{nil, "production"} {
				w.send(t, bearing(t, sign(t, jose.HS256, key("production"), "", who.claims(claims{"env": env})))).ok(t)
				up.one(t).saysOnly(t, "https://hs.test", "alice", "a")
				up.forget()
			}
		})
	}
}
