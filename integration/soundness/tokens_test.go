package soundness

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// bearing is a call with that token.
func bearing(t *testing.T, token string) message {
	t.Helper()
	return post(t, alice, callTool("ok")).without("Authorization").with("Authorization: Bearer " + token)
}

func invalid(reason string) want { return want{401, 40100, reason} }

func TestTokens(t *testing.T) {
	changed := func(c claims) message { return bearing(t, alice.token(t, c)) }
	text := func(c ...claims) string {
		b, err := json.Marshal(alice.claims(c...))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	forged := func(header, payload string) message { return bearing(t, forge(header, payload, rs256(keyring.rsa))) }
	const header = `{"alg":"RS256","typ":"at+jwt"}`
	own := fmt.Sprintf("https://localhost:%d", world.secure)
	rsaPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: keyring.rsaPEM})
	jwk, err := json.Marshal(jose.JSONWebKey{Key: keyring.foreign.Public()})
	if err != nil {
		t.Fatal(err)
	}
	brought := func(member string) message {
		return bearing(t, forge(`{"alg":"RS256",`+member+`}`, text(), rs256(keyring.foreign)))
	}
	issuedBy := func(issuer string) claims { return claims{"iss": issuer} }
	const signature = "token_signature"
	duplicated := strings.TrimSuffix(text(), "}")

	attacks := []attack{
		{"G1 alg none", bearing(t, forge(`{"alg":"none"}`, text(), func([]byte) []byte { return nil })), invalid("token_malformed")},
		{"G1 alg none with a signature", bearing(t, forge(`{"alg":"none"}`, text(), rs256(keyring.rsa))), invalid("token_algorithm")},
		{"G1 alg NonE", bearing(t, forge(`{"alg":"NonE"}`, text(), rs256(keyring.rsa))), invalid("token_algorithm")},
		{"G1 HS256 with the public key's PEM", bearing(t, forge(`{"alg":"HS256"}`, text(), hs256(rsaPEM))), invalid("token_algorithm")},
		{"G1 HS256 with the public key's DER", bearing(t, forge(`{"alg":"HS256"}`, text(), hs256(keyring.rsaPEM))), invalid("token_algorithm")},
		{"G1 an algorithm that is not listed", bearing(t, sign(t, jose.RS512, keyring.rsa, "", alice.claims())), invalid("token_algorithm")},
		{"G1 HS256 with an empty secret", bearing(t, forge(`{"alg":"HS256"}`, text(issuedBy("https://hs.test")), hs256(nil))), invalid(signature)},
		{"G1 RS256 at an issuer with a secret", bearing(t, forge(header, text(issuedBy("https://hs.test")), rs256(keyring.rsa))), invalid("token_algorithm")},
		{"G1 no alg", bearing(t, forge(`{}`, text(), rs256(keyring.rsa))), invalid("token_algorithm")},
		{"G1 alg twice", forged(`{"alg":"RS256","alg":"none"}`, text()), invalid("token_malformed")},
		{"G1 no signature", bearing(t, strings.Join(strings.Split(alice.token(t), ".")[:2], ".")+"."), invalid("token_malformed")},
		{"G1 another's signature", bearing(t, swap(alice.token(t), root.token(t))), invalid(signature)},
		{"G1 four parts", bearing(t, alice.token(t)+".x"), invalid("token_malformed")},
		{"G1 padding", bearing(t, alice.token(t)+"="), invalid("token_malformed")},
		{"G2 the path of another server", changed(aud(own + "/servers/other/mcp")), invalid("token_audience")},
		{"G2 a longer path", changed(aud(own + "/mcp/x")), invalid("token_audience")},
		{"G2 a prefix", changed(aud("https://localhost")), invalid("token_audience")},
		{"G2 another port", changed(aud("https://localhost:1")), invalid("token_audience")},
		{"G2 another scheme", changed(aud("http" + strings.TrimPrefix(own, "https"))), invalid("token_audience")},
		{"G2 another case", changed(aud(strings.ToUpper(own))), invalid("token_audience")},
		{"G2 a pattern", changed(aud("*")), invalid("token_audience")},
		{"G2 the empty audience", changed(aud("")), invalid("token_audience")},
		{"G2 no audience", changed(claims{"aud": nil}), invalid("token_audience")},
		{"G2 an empty list", changed(claims{"aud": []string{}}), invalid("token_audience")},
		{"G2 a list with more than text", changed(claims{"aud": []any{own, 1}}), invalid("token_claims")},
		{"G2 an object", changed(claims{"aud": claims{own: true}}), invalid("token_claims")},
		{"G3 an unknown issuer", changed(issuedBy("https://evil.test")), invalid("token_issuer")},
		{"G3 an issuer with a slash more", changed(issuedBy("https://rsa.test/")), invalid("token_issuer")},
		{"G3 an issuer in capitals", changed(issuedBy("HTTPS://RSA.TEST")), invalid("token_issuer")},
		{"G3 a list of issuers", changed(claims{"iss": []string{"https://rsa.test"}}), invalid("token_issuer")},
		{"G3 no issuer", changed(claims{"iss": nil}), invalid("token_issuer")},
		{"G3 the issuer is another with another key", changed(issuedBy("https://ec.test")), invalid("token_algorithm")},
		{"G3 a foreign key", bearing(t, forge(header, text(), rs256(keyring.foreign))), invalid(signature)},
		{"G3 the secret of another issuer", bearing(t, forge(`{"alg":"HS256"}`, text(), hs256([]byte(sharedSecret)))), invalid("token_algorithm")},
		{"G4 expired", changed(claims{"exp": time.Now().Add(-time.Second).Unix()}), invalid("token_expired")},
		{"G4 not valid yet", changed(claims{"nbf": time.Now().Add(time.Minute).Unix()}), invalid("token_not_yet_valid")},
		{"G4 issued in the future", changed(claims{"iat": time.Now().Add(time.Minute).Unix()}), invalid("token_not_yet_valid")},
		{"G4 no exp", changed(claims{"exp": nil}), invalid("token_missing_exp")},
		{"G4 exp is text", changed(claims{"exp": "99999999999"}), invalid("token_claims")},
		{"G4 exp is huge", changed(claims{"exp": 1e300}), invalid("token_claims")},
		{"G4 exp in milliseconds", changed(claims{"exp": time.Now().Add(time.Hour).UnixMilli()}), invalid("token_claims")},
		{"G4 exp is negative", changed(claims{"exp": -1}), invalid("token_claims")},
		{"G4 exp is true", changed(claims{"exp": true}), invalid("token_claims")},
		{"G4 exp overflows", forged(header, strings.TrimSuffix(text(claims{"exp": nil}), "}")+`,"exp":1e400}`), invalid("token_malformed")},
		{"G4 nbf is text", changed(claims{"nbf": "0"}), invalid("token_claims")},
		{"G5 an ID token", changed(claims{"nonce": "n", "at_hash": "h"}), invalid("token_not_access_token")},
		{"G5 an ID token by its hash", changed(claims{"c_hash": "h"}), invalid("token_not_access_token")},
		{"G5 a refresh token", changed(claims{"typ": "Refresh"}), invalid("token_not_access_token")},
		{"G5 an ID token of Cognito", changed(claims{"token_use": "id"}), invalid("token_not_access_token")},
		{"G5 a refresh token by its header", forged(`{"alg":"RS256","typ":"refresh+jwt"}`, text()), invalid("token_type")},
		{"G5 a logout token", forged(`{"alg":"RS256","typ":"logout+jwt"}`, text()), invalid("token_type")},
		{"G5 a proof of possession", forged(`{"alg":"RS256","typ":"dpop+jwt"}`, text()), invalid("token_type")},
		{"G7 jku", brought(`"jku":"http://` + world.jwks.address + `/elsewhere","kid":"evil"`), invalid(signature)},
		{"G7 x5u", brought(`"x5u":"http://` + world.jwks.address + `/elsewhere"`), invalid(signature)},
		{"G7 jwk", brought(`"jwk":` + string(jwk)), invalid(signature)},
		{"G7 crit", forged(`{"alg":"RS256","crit":["exp"],"exp":1}`, text()), invalid("token_critical_header")},
		{"G7 an empty crit", forged(`{"alg":"RS256","crit":[]}`, text()), invalid("token_critical_header")},
		{"G7 b64", forged(`{"alg":"RS256","b64":false}`, text()), invalid("token_critical_header")},
		{"G7 a path as kid", bearing(t, forge(`{"alg":"HS256","kid":"../../../../dev/null"}`, text(issuedBy("https://hs.test")), hs256(nil))), invalid(signature)},
		{"G9 scope twice", forged(header, duplicated+`,"scope":"a","scope":"b"}`), invalid("token_malformed")},
		{"G9 groups twice", forged(header, duplicated+`,"groups":["full"]}`), invalid("token_malformed")},
		{"G9 groups twice, once escaped", forged(header, duplicated+`,"gr\u006fups":["full"]}`), invalid("token_malformed")},
		{"G9 trailing bytes", forged(header, text()+text()), invalid("token_malformed")},
		{"G9 claims that are a list", forged(header, `[`+text()+`]`), invalid("token_malformed")},
		{"G9 claims that are null", forged(header, `null`), invalid("token_malformed")},
		{"G9 a byte order mark", forged(header, "\ufeff"+text()), invalid("token_malformed")},
		{"G10 cnf", changed(claims{"cnf": claims{"jkt": "x"}}), invalid("token_sender_constrained")},
		{"G10 a cnf that is null", forged(header, duplicated+`,"cnf":null}`), invalid("token_sender_constrained")},
		{"G11 scopes with tabs", changed(claims{"scope": "mcp:call\tmcp:write"}), invalid("token_claims")},
		{"G11 scopes with two spaces", changed(claims{"scope": "mcp:call  mcp:write"}), invalid("token_claims")},
		{"G11 scope is a number", changed(claims{"scope": 1}), invalid("token_claims")},
		{"G11 scope and scp differ", changed(claims{"scope": "mcp:call", "scp": []string{"mcp:write"}}), invalid("token_claims")},
		{"G8 no subject", changed(claims{"sub": nil}), invalid("token_missing_subject")},
		{"G8 a subject that is a number", changed(claims{"sub": 7}), invalid("token_claims")},
		{"G8 a subject with a line break", changed(claims{"sub": "alice\r\nX-Mcp-Roles: full"}), invalid("token_claims")},
		{"G8 two clients", changed(claims{"client_id": "app", "azp": "other"}), invalid("token_claims")},
	}
	for row, groups := range map[string]any{
		"a number": 1, "an object": claims{"a": true}, "nested": [][]string{{"a"}}, "text and a number": []any{"a", 1}, "none": []string{},
		"null": nil, "in one text": "a full", "with a comma": "a,full", "in capitals": "A", "with a space": "a ", "a claim within": claims{"groups": []string{"a"}},
	} {
		attacks = append(attacks, attack{"G12 groups: " + row, changed(claims{"groups": groups}), notAllowed})
	}
	attacks = append(attacks, attack{"G12 the overage marker", changed(claims{
		"groups": nil, "hasgroups": true, "_claim_names": claims{"groups": "src1"}, "_claim_sources": claims{"src1": claims{"endpoint": "https://x"}},
	}), notAllowed})
	scoped := func(scope any) message {
		return changed(claims{"groups": []string{"scoped"}, "scope": scope})
	}
	insufficient := want{403, 40300, "insufficient_scope"}
	for _, scope := range []any{"", "MCP:CALL MCP:WRITE", "mcp:call", "mcp:callmcp:write", "mcp:call,mcp:write", []string{}, []string{"mcp:call"}} {
		attacks = append(attacks, attack{fmt.Sprintf("G11 scope %q", scope), scoped(scope), insufficient})
	}
	refuseAll(t, attacks)
}

// swap puts the signature of one token on another.
func swap(token, other string) string {
	return token[:strings.LastIndexByte(token, '.')] + other[strings.LastIndexByte(other, '.'):]
}

func TestCredentials(t *testing.T) {
	token := alice.token(t)
	base := post(t, alice, callTool("ok")).without("Authorization")
	at := func(path string) message {
		m := base
		m.path = path
		return m
	}
	form := base.without("Content-Type").with("Content-Type: application/x-www-form-urlencoded")
	form.body = []byte("access_token=" + token)
	inQuery := want{400, 40000, "token_in_query"}
	several := want{400, 40000, "token_several"}
	refuseAll(t, []attack{
		{"G8 no token", base, invalid("token_missing")},
		{"G8 an empty header", base.with("Authorization: "), invalid("token_missing")},
		{"G8 a scheme without a token", base.with("Authorization: Bearer"), invalid("token_missing")},
		{"G8 in the query", at("/mcp?access_token=not-a-token"), inQuery},
		{"G8 in the query beside the header", at("/mcp?a=b&access_token=").with("Authorization: Bearer " + token), inQuery},
		{"G8 in the query, encoded", at("/mcp?%61ccess_token=x").with("Authorization: Bearer " + token), inQuery},
		{"G8 in a form", form, invalid("token_missing")},
		{"G8 in a cookie", base.with("Cookie: access_token=" + token + "; token=" + token), invalid("token_missing")},
		{"G8 in other headers", base.with("X-Access-Token: "+token, "X-Forwarded-Access-Token: "+token, "Proxy-Authorization: Bearer "+token, "X-Authorization: Bearer "+token), invalid("token_missing")},
		{"G8 two headers", base.with("Authorization: Bearer "+token, "Authorization: Bearer "+token), several},
		{"G8 two headers of which one is empty", base.with("Authorization: Bearer "+token, "Authorization: "), several},
		{"G8 two tokens in one header", base.with("Authorization: Bearer " + token + ", Bearer " + root.token(t)), invalid("token_malformed")},
		{"G8 two tokens behind each other", base.with("Authorization: Bearer " + token + " " + root.token(t)), invalid("token_malformed")},
		{"G8 Basic", base.with("Authorization: Basic " + token), invalid("token_missing")},
		{"G8 quotes", base.with(`Authorization: Bearer "` + token + `"`), invalid("token_malformed")},
		{"G8 the token alone", base.with("Authorization: " + token), invalid("token_missing")},
		{"G8 a tab after the scheme", base.with("Authorization: Bearer\t" + token), invalid("token_missing")},
		{"G9 a token of 14 KB", base.with("Authorization: Bearer " + strings.Repeat("e", 14<<10)), invalid("token_malformed")},
	})
	for version, w := range both(versions) {
		as := func(m message) message {
			m, _ = m.in(version)
			return m
		}
		t.Run("G8 the scheme in any case/"+version+"/"+w.name, func(t *testing.T) {
			for _, scheme := range []string{"bearer", "BEARER", "Bearer "} {
				up := watch(t)
				w.send(t, as(base.with("Authorization: "+scheme+" "+token))).ok(t)
				up.one(t)
			}
		})
		t.Run("G9 a token of 1 MB/"+version+"/"+w.name, func(t *testing.T) {
			up := watch(t)
			r := w.send(t, as(base.with("Authorization: Bearer "+strings.Repeat("e", 1<<20))))
			up.nothing(t)
			if r.err == nil && r.status != 431 {
				t.Errorf("status %d", r.status)
			}
		})
		t.Run("G2 a list with the right audience/"+version+"/"+w.name, func(t *testing.T) {
			own := fmt.Sprintf("https://localhost:%d", world.secure)
			for _, audience := range []any{own, own + "/", own + "/mcp", own + "/servers/main/mcp", []string{"https://x", own + "/mcp"}} {
				up := watch(t)
				w.send(t, as(bearing(t, alice.token(t, claims{"aud": audience})))).ok(t)
				up.one(t)
			}
		})
		t.Run("G3 every issuer's own keys are accepted/"+version+"/"+w.name, func(t *testing.T) {
			up := watch(t)
			for _, issuer := range []string{"https://rsa.test", "https://ec.test", "https://ed.test", "https://hs.test", "https://jwks.test"} {
				who := alice
				who.issuer = issuer
				w.send(t, as(post(t, who, callTool("ok")))).ok(t)
			}
			w.send(t, as(bearing(t, sign(t, jose.PS256, keyring.rsa, "", alice.claims())))).ok(t)
			for i, got := range up.all()[:5] {
				if issuer := got.header.Get("X-Mcp-Issuer"); issuer != []string{"https://rsa.test", "https://ec.test", "https://ed.test", "https://hs.test", "https://jwks.test"}[i] {
					t.Errorf("the server received the issuer %s", issuer)
				}
			}
		})
		t.Run("G11 both scopes, as text or list/"+version+"/"+w.name, func(t *testing.T) {
			for _, c := range []claims{{"scope": "mcp:call mcp:write"}, {"scp": []string{"mcp:write", "mcp:call"}}, {"scp": "x mcp:all mcp:write"}} {
				up := watch(t)
				w.send(t, as(bearing(t, alice.token(t, c, claims{"groups": "scoped"})))).ok(t)
				up.one(t)
			}
		})
		t.Run("G13 identity headers of the client/"+version+"/"+w.name, func(t *testing.T) {
			up := watch(t)
			lies := []string{
				"X-Mcp-Subject: root", "x-mcp-roles: full", "X-MCP-Issuer: https://evil.test", "X-Mcp-Client-Id: root", "X-Mcp-Anything: root",
				"X-Auth-User: root", "X-Auth-Request-User: root", "X-Forwarded-User: root", "X-Forwarded-Email: root@x", "X-Forwarded-Groups: root",
				"X-Remote-User: root", "Remote-User: root", "X-User: root", "X-User-Id: root", "X-Webauth-User: root", "X-Authenticated-User: root",
				"X-Consumer-Id: root", "X-Real-IP: 6.6.6.6", "Forwarded: for=6.6.6.6;by=root", "X-Ssl-Client-Dn: root", "X-Client-Cert: root",
				"Impersonate-User: root", "X-Goog-Authenticated-User-Email: root", "Cf-Access-Authenticated-User-Email: root", "Tailscale-User-Login: root",
				"X-Original-Url: /root", "X-Rewrite-Url: /root", "X-Http-Method-Override: root", "X-Api-Key: root", "Cookie: session=root",
			}
			w.send(t, as(post(t, alice, callTool("ok"), lies...))).ok(t)
			got := up.one(t)
			for name, values := range got.header {
				if strings.Contains(strings.Join(values, ","), "root") || strings.Contains(strings.Join(values, ","), "6.6.6.6") {
					t.Errorf("the server received %s: %q", name, values)
				}
			}
			for name, value := range map[string]string{"X-Mcp-Subject": "alice", "X-Mcp-Roles": "a", "X-Mcp-Issuer": "https://rsa.test", "X-Mcp-Client-Id": "app"} {
				if !slices.Equal(got.header[name], []string{value}) {
					t.Errorf("%s is %q", name, got.header[name])
				}
			}
		})
		t.Run("G13 a principal without a client has no client of the request/"+version+"/"+w.name, func(t *testing.T) {
			up := watch(t)
			m := bearing(t, alice.token(t, claims{"client_id": nil})).with("X-Mcp-Client-Id: root")
			w.send(t, as(m)).ok(t)
			if got := up.one(t).header["X-Mcp-Client-Id"]; got != nil {
				t.Errorf("the server received the client %q", got)
			}
		})
		t.Run("G13 forwarded addresses/"+version+"/"+w.name, func(t *testing.T) {
			up := watch(t)
			w.send(t, as(post(t, alice, callTool("ok"), "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: ftp"))).ok(t)
			got := up.one(t).header
			if got.Get("X-Forwarded-For") != "127.0.0.1" || strings.Contains(got.Get("X-Forwarded-Host"), "evil") || got.Get("X-Forwarded-Proto") != "https" {
				t.Errorf("the server received %v", got)
			}
		})
		t.Run("G14 no credential of the client goes further/"+version+"/"+w.name, func(t *testing.T) {
			up := watch(t)
			m := post(t, alice, callTool("ok"), "Cookie: a=b", "Proxy-Authorization: Basic eA==")
			w.send(t, as(m)).ok(t)
			own := strings.TrimPrefix(m.header[0], "Authorization: Bearer ")
			got := up.one(t)
			if strings.Contains(fmt.Sprint(got), own) {
				t.Errorf("the server received the token: %v", got.header)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	t.Run("G6 a flood of unknown keys", func(t *testing.T) {
		up := watch(t)
		who := alice
		who.issuer = "https://jwks.test"
		sendH1(t, post(t, who, callTool("ok"))).ok(t)
		up.forget()
		before := world.jwks.fetched.Load()
		for i := range 104 {
			token := sign(t, jose.RS256, keyring.foreign, fmt.Sprintf("made-up-%d", i), who.claims())
			m, _ := bearing(t, token).in(versions[i%len(versions)])
			invalid("token_key_unknown").check(t, wires[i/len(versions)%2].send(t, m))
		}
		if fetched := world.jwks.fetched.Load() - before; fetched > 1 {
			t.Errorf("the issuer was asked %d times", fetched)
		}
		up.nothing(t)
		sendH1(t, post(t, who, callTool("ok"))).ok(t)
	})
	t.Run("G6 a known key with a foreign signature", func(t *testing.T) {
		up := watch(t)
		who := alice
		who.issuer = "https://jwks.test"
		invalid("token_signature").check(t, sendH1(t, bearing(t, sign(t, jose.RS256, keyring.foreign, "known", who.claims()))))
		invalid("token_algorithm").check(t, sendH1(t, bearing(t, sign(t, jose.PS256, keyring.rsa, "known", who.claims()))))
		up.nothing(t)
	})
	everywhere(t, "C16 no keys, no entry", versions, func(t *testing.T, version string, w wire) {
		up := watch(t)
		for _, issuer := range append(confusing("http://"+world.jwks.address), "https://dead.test", "https://moved.test") {
			m := callOf(t, version, alice, "ok").without("Authorization")
			r := w.send(t, m.with("Authorization: Bearer "+alice.token(t, claims{"iss": issuer})))
			want{503, 40100, "keys_unavailable"}.check(t, r)
			if strings.Contains(string(r.body)+fmt.Sprint(r.header), "127.0.0.1") {
				t.Errorf("the answer tells where the keys are: %s", r.body)
			}
		}
		up.nothing(t)
	})
	t.Run("C16 a redirect to another host is not followed", func(t *testing.T) {
		if lured := world.jwks.lured.Load(); lured != 0 {
			t.Errorf("the gateway followed it %d times", lured)
		}
	})
	t.Run("G2 a token for one server at another", func(t *testing.T) {
		up := watch(t)
		host := fmt.Sprintf("127.0.0.1:%d", world.plain)
		own := "http://" + host
		for server, expected := range map[string]int{"other": http.StatusUnauthorized, "main": http.StatusOK} {
			m := post(t, root, callTool("ok")).to(t, world.plain, host, own+"/servers/main/mcp", root)
			m.path = "/servers/" + server + "/mcp"
			// Twice, so that what is remembered of the first is asked too.
			for range 2 {
				if r := sendH1(t, m); r.status != expected {
					t.Errorf("%s: status %d", server, r.status)
				}
			}
		}
		if got := len(up.all()); got != 2 {
			t.Errorf("the servers received %d requests", got)
		}
	})
}
