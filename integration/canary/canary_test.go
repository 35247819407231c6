package canary

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/redis/go-redis/v9"
)

const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list","arguments":{}}}`

// TestCanary does what clients, attackers, operators and accidents do, and then looks
// everywhere.
func TestCanary(t *testing.T) {
	w := newWorld(t)
	server := w.serve()
	w.start(w.caddyfile(server.Listener.Addr().String()))
	tokens := w.people()
	admin, bob := tokens[0], tokens[1]
	made, ids := w.made(admin, bob)
	opaque := w.opaque()
	if r := w.mcp(opaque[0], call); r.status != http.StatusOK {
		t.Errorf("the provider's good token is answered with %d %s", r.status, r.text)
	}
	w.clients(slices.Concat(tokens, made, opaque))
	w.administration(admin)
	w.revoked(admin, made, ids)
	w.commands()
	w.lookAtProvider()
	w.operators(server.Listener.Addr().String())
	w.accidents(tokens)
	w.everywhere()
	t.Logf("%d secrets were looked for in %d bytes", len(w.cage.birds), w.cage.looked)
}

// people log in, and out, and mistype.
func (w *world) people() []string {
	admin, bob := "admin@example.com", "bob@example.com"
	for _, who := range []struct{ email, first, next string }{
		{admin, w.secrets["CANARY_ADMIN"], adminNext}, {bob, w.secrets["CANARY_BOB"], bobNext},
	} {
		w.post("/auth/login", "", object{"email": who.email, "password": who.first})
		if r := w.post("/auth/password", "", object{"email": who.email, "password": who.first, "new_password": who.next}); r.status != http.StatusOK {
			w.t.Fatalf("got %d %s", r.status, r.text)
		}
	}
	for _, body := range []object{
		{"email": bob, "password": wrong},
		{"email": wrong, "password": bobNext},
		{"email": bob, "password": []string{wrong}},
		{"email": bob, "password": bobNext, wrong: true},
		{"email": bob, "password": bobNext, "new_password": "short"},
	} {
		w.post("/auth/login", "", body)
		w.post("/auth/password", "", body)
		w.post("/auth/register", "", body)
	}
	w.post("/auth/password", "", object{"email": bob, "password": bobNext, "new_password": bobNext})
	w.post("/auth/register", "", object{"email": "eve@example.com", "password": wrong})
	w.ask(w.request(http.MethodPost, w.url+"/auth/login?password="+url.QueryEscape("x"), `{"email":"bob@example.com","password":"`+bobNext))

	session := w.post("/auth/login", "", object{"email": admin, "password": adminNext}, "access_token", "refresh_token")
	first := w.post("/auth/login", "", object{"email": bob, "password": bobNext}, "access_token", "refresh_token")
	token, refresh := first.body["access_token"].(string), first.body["refresh_token"].(string)
	next := w.post("/auth/refresh", "", object{"refresh_token": refresh}, "access_token", "refresh_token")
	w.post("/auth/refresh", "", object{"refresh_token": refresh}) // used twice
	w.post("/auth/refresh", "", object{"refresh_token": token})
	w.post("/auth/refresh", "", object{"refresh_token": w.cage.add("a refresh token that is none", "canary-refresh-"+randomText())})
	w.post("/auth/logout", token, object{})
	bobs := w.post("/auth/login", "", object{"email": bob, "password": bobNext}, "access_token", "refresh_token")
	current := bobs.body["access_token"].(string)
	w.ask(w.request(http.MethodGet, w.url+"/auth/me", "", "Authorization: Bearer "+current))
	return []string{
		session.body["access_token"].(string), current, token, next.body["access_token"].(string),
		w.mint("an HMAC token", "https://hmac.example.com", jose.HS256, []byte(w.secrets["CANARY_HMAC"]), nil),
		w.mint("a token", "https://pem.example.com", jose.ES256, w.key, nil),
		w.mint("an expired token", "https://pem.example.com", jose.ES256, w.key, object{"exp": 1700000000}),
		w.mint("a token for others", "https://pem.example.com", jose.ES256, w.key, object{"aud": "https://other.example.com"}),
		w.mint("a token without roles", "https://pem.example.com", jose.ES256, w.key, object{"roles": nil}),
		w.mint("a token of nobody", "https://nobody.example.com", jose.ES256, w.key, nil),
		w.mint("a token with a wrong claim", "https://pem.example.com", jose.ES256, w.key, object{"scopes": []int{1}}),
		w.mint("a token with a forged signature", "https://hmac.example.com", jose.HS256, []byte(strings.Repeat("guess", 10)), nil),
	}
}

// clients use tokens in every place where there could be one.
func (w *world) clients(tokens []string) {
	served := 0
	for _, token := range tokens {
		if r := w.mcp(token, call); r.status == http.StatusOK {
			served++
		}
		w.mcp(token, strings.Replace(call, "list", "drop_all", 1))
		w.mcp(token, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
		w.mcp(token, `{"jsonrpc":"2.0","id":1`)
		basic := base64.StdEncoding.EncodeToString([]byte("bob@example.com:" + bobNext))
		for _, header := range [][]string{
			{"Authorization: Basic " + basic},
			{"Authorization: " + token},
			{"Authorization: Token " + token},
			{"Authorization: Bearer " + token + "x"},
			{"Authorization: Bearer " + token, "Authorization: Bearer " + token},
			{"Cookie: access_token=" + token},
			{"X-Api-Key: " + token},
			{"Proxy-Authorization: Bearer " + token},
			{"Authorization: Bearer " + token, "Mcp-Session-Id: " + w.cage.add("a session id that is none", "canary-session-"+randomText())},
			{"Authorization: Bearer " + token, "MCP-Protocol-Version: 2025-11-25", "Cookie: jwt_token=" + token, "X-Forwarded-Access-Token: " + token},
		} {
			w.ask(w.request(http.MethodPost, w.url+"/mcp", call, header...))
		}
		w.ask(w.request(http.MethodPost, w.url+"/mcp?access_token="+token, call))
		w.ask(w.request(http.MethodGet, w.url+"/auth/me", "", "Authorization: Bearer "+token))
		w.ask(w.request(http.MethodGet, w.url+"/auth/me?access_token="+token, ""))

		begun := w.mcp(token, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`)
		if session := begun.header.Get("Mcp-Session-Id"); session != "" {
			w.cage.add("a session id", session)
			w.mcp(token, call, "Mcp-Session-Id: "+session, "MCP-Protocol-Version: 2025-11-25")
			w.mcp(tokens[0], call, "Mcp-Session-Id: "+session, "MCP-Protocol-Version: 2025-11-25")
		}
	}
	if served < 3 {
		w.t.Errorf("only %d tokens were good for a call", served)
	}
}

// operators look at things, change them, and mistype.
func (w *world) operators(server string) {
	for _, path := range []string{"/config/", "/metrics", "/mcp_gateway/revocations", "/reverse_proxy/upstreams", "/debug/pprof/goroutine?debug=2", "/debug/vars"} {
		r := w.ask(w.request(http.MethodGet, w.admin+path, ""))
		if r.status != http.StatusOK || r.text == "" {
			w.t.Errorf("%s: %d", path, r.status)
		}
	}
	good := w.caddyfile(server)
	for what, bad := range map[string]string{
		"a weak secret":                  strings.Replace(good, "secret {env.CANARY_HMAC}", "secret {env.CANARY_REDIS}", 1),
		"a file with a key that is none": strings.Replace(good, w.dir+"/issuer.pem.pub", w.dir+"/issuer.pem.no", 1),
		"a private key as a public one":  strings.Replace(good, w.dir+"/issuer.pem.pub", w.dir+"/issuer.pem", 1),
		"a password that is one already": strings.Replace(good, "password {env.CANARY_REDIS}", "password {env.CANARY_HMAC}", 1),
		"a placeholder for a hash":       strings.Replace(good, "password {env.CANARY_BOB}", "password_hash {env.CANARY_BOB}", 1),
		"a placeholder for an upstream":  strings.Replace(good, "server tickets "+server, "server tickets {env.CANARY_SERVER}", 1),
	} {
		if bad == good {
			w.t.Fatalf("%s: nothing was changed", what)
		}
		r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.admin+"/load", strings.NewReader(bad))
		if err != nil {
			w.t.Fatal(err)
		}
		r.Header.Set("Content-Type", "text/caddyfile")
		answer := w.ask(r)
		w.t.Logf("%s: %d", what, answer.status)
	}
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.admin+"/load", strings.NewReader(good))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "text/caddyfile")
	if answer := w.ask(r); answer.status != http.StatusOK {
		w.t.Fatalf("the good configuration was not taken again: %s", answer.text)
	}
	for _, args := range [][]string{
		{"adapt", "--config", filepath.Join(w.dir, "Caddyfile"), "--adapter", "caddyfile", "--validate"},
		{"mcp", "revoke", "--id", "jti-2", "--issuer", "https://pem.example.com", "--address", strings.TrimPrefix(w.admin, "http://")},
		{"mcp", "can", "--help"},
	} {
		out, err := w.command(w.t.Context(), args...).CombinedOutput()
		if err != nil {
			w.t.Errorf("caddy %s: %v: %s", strings.Join(args, " "), err, out)
		}
		w.cage.look(w.t, "caddy "+strings.Join(args, " "), out)
	}
}

// accidents: servers that break off, and a store that is gone.
func (w *world) accidents(tokens []string) {
	good := tokens[4]
	for _, accident := range []string{"cut", "garbage"} {
		if r := w.mcp(good, strings.Replace(call, "list", accident, 1)); r.status == http.StatusOK && strings.Contains(r.text, `"result"`) {
			w.t.Errorf("%s: got %d %s", accident, r.status, r.text)
		}
	}
	w.lookAtStore()
	w.redis.Stop()
	w.post("/auth/login", "", object{"email": "bob@example.com", "password": bobNext})
	for _, token := range tokens {
		w.mcp(token, call)
	}
	w.redis.Start()
}

// everywhere looks into what is left. Caddy prints the stacks of its goroutines when it is
// killed, while a stream is open.
func (w *world) everywhere() {
	t := w.t
	w.kill()
	log := filepath.Join(w.dir, "caddy.log")
	w.cage.lookFile(t, log)
	if lines(t, log, func(l string) bool { return strings.Contains(l, `"level":"debug"`) }) == 0 ||
		lines(t, log, func(l string) bool { return strings.HasPrefix(l, "goroutine ") }) == 0 {
		t.Error("the log has no lines for debugging, or no stacks")
	}
	err := filepath.WalkDir(w.dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path == log || filepath.Base(path) == "issuer.pem" {
			return err
		}
		w.cage.lookFile(t, path)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for _, path := range []string{"access.log", "caddy/autosave.json"} {
		if _, err := os.Stat(filepath.Join(w.dir, path)); err != nil {
			t.Error(err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	// The server may be given its own key and its own session, and nothing else.
	text := strings.ReplaceAll(w.received.String(), w.secrets["CANARY_SERVER"], "")
	for _, b := range w.cage.birds {
		if b.name == "the server's session id" {
			text = strings.ReplaceAll(text, string(b.forms[0]), "")
		}
	}
	w.cage.look(t, "what the server received", []byte(text))
	if w.requests == 0 {
		t.Error("the server received nothing")
	}
}

// lookAtStore: the store has hashes, but neither tokens nor passwords.
func (w *world) lookAtStore() {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: w.redis.Addr, Password: w.secrets["CANARY_REDIS"]})
	defer client.Close()
	var text strings.Builder
	scan := client.Scan(ctx, 0, "*", 1000).Iterator()
	n := 0
	for scan.Next(ctx) {
		n++
		value, err := client.Dump(ctx, scan.Val()).Result()
		if err != nil {
			w.t.Error(err)
		}
		_, _ = io.WriteString(&text, scan.Val()+" "+value+"\n")
	}
	if err := scan.Err(); err != nil {
		w.t.Error(err)
	}
	if n < 10 {
		w.t.Errorf("there are only %d keys in the store", n)
	}
	w.cage.look(w.t, "the store", []byte(text.String()))
}
