package mcpauth

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
)

// oracle makes configurations and tokens from so small a vocabulary that they meet.
type oracle struct{ *rand.Rand }

func (o oracle) pick(from ...string) string { return from[o.Intn(len(from))] }

// some returns up to n of them.
func (o oracle) some(n int, from ...string) []string {
	var list []string
	for range o.Intn(n + 1) {
		if one := o.pick(from...); !slices.Contains(list, one) {
			list = append(list, one)
		}
	}
	return list
}

func (o oracle) grant() map[string]any {
	permission := o.pick("*", "tools.execute", "tools.execute", "tools.read", "prompts.execute", "prompts.read", "resources.read", "resources.subscribe",
		"completions.use", "logging.write", "client.sampling", "client.roots", "servers.use")
	grant := map[string]any{"permission": permission, "at": "Caddyfile:" + o.pick("7", "8", "9")}
	server := o.pick("notes", "crm", "*", "n*")
	switch category, _, _ := strings.Cut(permission, "."); category {
	case "tools", "prompts", "completions":
		grant["objects"] = []string{server + o.pick("/add", "/a*", "/**", "", "/*b", "/file:///a/*")}
	case "resources":
		grant["objects"] = []string{server + o.pick("/file:///a/**", "/file:///a/b", "", "/file:///*/b", "/x:{y}")}
	default:
		grant["objects"] = []string{server}
	}
	if strings.HasSuffix(permission, ".execute") && o.Intn(3) == 0 {
		grant["if"] = o.pick(`args.n < 5`, `args.s in ["a", "b"]`, `claims.sub == "ann"`, `server == "notes"`, `client == "c"`)
	}
	return grant
}

func (o oracle) role(name string) map[string]any {
	role := map[string]any{"name": name}
	var when []any
	if groups := o.some(1, "g1", "g2"); groups != nil {
		when = append(when, map[string]any{"claim": "groups", "values": groups})
	}
	if scopes := o.some(2, "s1", "s2", "s3"); scopes != nil && o.Intn(2) == 0 {
		when = append(when, map[string]any{"claim": "scope", "values": scopes})
	}
	role["when"] = when
	var allow, deny []any
	for range o.Intn(4) + 1 {
		allow = append(allow, o.grant())
	}
	role["allow"] = allow
	if o.Intn(3) == 0 {
		deny = append(deny, o.grant())
		role["deny"] = deny
	}
	if o.Intn(8) == 0 {
		role["extends"] = []string{"viewer"}
	}
	if teams := [][]string{{"t1"}, {"t2"}, {"t1", "t2"}, {"*"}}; o.Intn(3) > 0 {
		role["teams"] = teams[o.Intn(len(teams))]
	}
	return role
}

// visibility is of servers and of objects.
func (o oracle) visibility() map[string]any {
	all := make(map[string]any)
	if object := o.pick("notes", "", "", ""); object != "" {
		all[object] = o.audience()
	}
	for range o.Intn(4) {
		all[o.pick("notes/ad*", "crm/abb", "notes/file:///a/**", "crm/x:**", "notes/*b")] = o.audience()
	}
	return all
}

func (o oracle) audience() map[string]any {
	if o.Intn(2) == 0 {
		return private("ann")
	}
	return team(o.pick("t1", "t2"))
}

func (o oracle) config() string {
	issuer := map[string]any{"issuer": gateIssuer, "jti_optional": true, "keys": map[string]any{"source": "secret", "value": gateSecret}}
	switch o.Intn(6) {
	case 0:
		issuer["token_scope_off"] = true
	case 1, 2:
		issuer["token_scope"] = map[string]any{"scope_permissions": true, "scope_map": map[string]any{"s1": []string{"tools.*", "prompts.*"}}}
	}
	change := map[string]any{"servers": []string{"notes", "crm"}, "issuers": []any{issuer}}
	var roles []any
	for _, name := range []string{"r1", "r2", "r3", "viewer"}[:o.Intn(4)+1] {
		roles = append(roles, o.role(name))
	}
	change["roles"], change["visibility"] = roles, o.visibility()
	change["teams"] = map[string]any{"t1": []string{"notes/a*", "crm/file:///a/**"}, "t2": []string{o.pick("notes", "notes/file:///**"), "crm"}}
	for _, source := range o.some(3, issuerAuthenticated, issuerTrustedHeader) {
		if claims := o.some(2, "groups", "teams"); source == issuerAuthenticated {
			change[source] = map[string]any{"claims": sources(claims, "{http.auth.user.%s}")}
		} else {
			change[source] = map[string]any{"header": "X-User", "from": []string{"127.0.0.1"}, "claims": sources(claims, "X-%s")}
		}
		if o.Intn(6) == 0 {
			change["issuers"] = []any{}
		}
	}
	return gateConfig(change)
}

func sources(claims []string, from string) map[string]any {
	all := make(map[string]any)
	for _, name := range claims {
		all[name] = map[string]any{"from": fmt.Sprintf(from, name)}
	}
	return all
}

// credential is how somebody shows who they are.
type credential struct {
	// claims are those of a token, or what is said in another way.
	claims map[string]any
	raw    string
}

// credential is a token, or stands for what somebody else says.
func (o oracle) credential(t *testing.T, h *Handler) credential {
	vouchers := slices.DeleteFunc(h.Sources(), func(name string) bool { return name == gateIssuer })
	if len(h.Issuers) > 0 && (o.Intn(3) > 0 || len(vouchers) == 0 && o.Intn(4) > 0) {
		claims := o.claims()
		return credential{claims, signed(t, []byte(gateSecret), claims)}
	}
	claims := map[string]any{"iss": o.pick(append(vouchers, issuerAuthenticated)...), "sub": o.pick("ann", "ann", "ann", "bob", "bob", "bob", "")}
	for _, name := range o.some(4, "groups", "teams") {
		claims[name] = append([]string{}, o.some(2, "g1", "g2", "t1", "t2", "t1", "t2")...)
	}
	return credential{claims: claims}
}

// show puts the credential into a request.
func (c *credential) show(r *http.Request, repl *caddy.Replacer) {
	if c.raw != "" {
		r.Header.Set("Authorization", "Bearer "+c.raw)
		return
	}
	for name, value := range c.claims {
		text, ok := value.(string)
		if list, isList := value.([]string); isList {
			text, ok = strings.Join(list, ", "), true
		}
		switch {
		case name == "iss" || !ok:
		case c.claims["iss"] == issuerAuthenticated:
			repl.Set(userPrefix+strings.Replace(name, "sub", "id", 1), text)
		default:
			r.Header.Set("X-"+strings.Replace(name, "sub", "user", 1), text)
		}
	}
}

func (o oracle) claims() map[string]any {
	claims := map[string]any{
		"iss": gateIssuer, "aud": gateURL, "sub": o.pick("ann", "bob"), "jti": "t-1", "exp": time.Now().Add(time.Hour).Unix(),
		"groups": append([]string{}, o.some(2, "g1", "g2")...), "client_id": o.pick("c", "d"),
	}
	if o.Intn(3) > 0 {
		claims[o.pick("scope", "scp")] = strings.Join(o.some(3, "s1", "s2", "s3", "mcp:read", "offline_access"), " ")
	}
	if o.Intn(2) == 0 {
		claims["teams"] = append([]string{}, o.some(2, "t1", "t2")...)
	}
	scopes := map[string]any{}
	switch o.Intn(12) {
	case 0:
		scopes["server_id"] = o.pick("notes", "crm")
	case 1, 2:
		scopes["permissions"] = append([]string{}, o.some(3, "tools.*", "resources.read", "prompts.execute", "servers.use", "client.*")...)
	case 3:
		scopes["ip_restrictions"] = []string{o.pick("127.0.0.0/8", "10.0.0.0/8")}
	case 4:
		scopes["time_restrictions"] = map[string]any{"days": []string{time.Now().UTC().AddDate(0, 0, o.Intn(2)).Weekday().String()}}
	}
	if len(scopes) > 0 {
		claims["scopes"] = scopes
	}
	switch o.Intn(20) {
	case 0:
		claims["exp"] = 1
	case 1:
		claims["aud"] = "https://elsewhere.example"
	case 2:
		claims["scopes"] = "all of them"
	}
	return claims
}

// ask is a question, and the message that a client would send, written by hand.
type ask struct {
	q       Question
	version string
	message string
	// item is looked for in what comes back, in the answer to a message that says
	// nothing about it; upstream in what the server got.
	item, upstream string
}

const (
	oldVersion = "2025-06-18"
	newVersion = "2026-07-28"
	newMeta    = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
)

var asks = func() []ask {
	list := []ask{
		{q: Question{Method: "tools/call", Object: "add"}, version: oldVersion, message: `"method":"tools/call","params":{"name":"add"}`},
		{q: Question{Method: "tools/call", Object: "add", Arguments: []byte(`{"n":4,"s":"a"}`)}, version: newVersion, message: `"method":"tools/call","params":{"name":"add","arguments":{"n":4,"s":"a"},` + newMeta + `}`},
		{q: Question{Method: "tools/call", Object: "abb", Arguments: []byte(`{"n":6,"s":"a"}`)}, version: oldVersion, message: `"method":"tools/call","params":{"name":"abb","arguments":{"n":6,"s":"a"}}`},
		{q: Question{Method: "tools/call", Object: "zb", Arguments: []byte(`{"s":"c","S":"a","n":1}`)}, version: oldVersion, message: `"method":"tools/call","params":{"name":"zb","arguments":{"s":"c","S":"a","n":1}}`},
		{q: Question{Method: "tools/call", Object: "add", Arguments: []byte(`{"n":1,"n":2}`)}, version: oldVersion, message: `"method":"tools/call","params":{"name":"add","arguments":{"n":1,"n":2}}`},
		{q: Question{Method: "prompts/get", Object: "add"}, version: newVersion, message: `"method":"prompts/get","params":{"name":"add",` + newMeta + `}`},
		{q: Question{Method: "prompts/get", Object: "ab", Arguments: []byte(`{"n":"3"}`)}, version: oldVersion, message: `"method":"prompts/get","params":{"name":"ab","arguments":{"n":"3"}}`},
		{q: Question{Method: "resources/read", Object: "file:///a/b"}, version: oldVersion, message: `"method":"resources/read","params":{"uri":"file:///a/b"}`},
		{q: Question{Method: "resources/read", Object: "file:///a/../b"}, version: newVersion, message: `"method":"resources/read","params":{"uri":"file:///a/../b",` + newMeta + `}`},
		{q: Question{Method: "resources/subscribe", Object: "file:///a/b"}, version: oldVersion, message: `"method":"resources/subscribe","params":{"uri":"file:///a/b"}`},
		{q: Question{Method: "completion/complete", Object: "add"}, version: oldVersion, message: `"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"add"},"argument":{"name":"x","value":"y"}}`},
		{q: Question{Method: "completion/complete", Object: "file:///a/{x}"}, version: newVersion, message: `"method":"completion/complete","params":{"ref":{"type":"ref/resource","uri":"file:///a/{x}"},"argument":{"name":"x","value":"y"},` + newMeta + `}`},
		{q: Question{Method: "completion/complete", Object: "file:///a/b", Reference: "prompt"}, version: oldVersion, message: `"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"file:///a/b"},"argument":{"name":"x","value":"y"}}`},
		{q: Question{Method: "logging/setLevel"}, version: oldVersion, message: `"method":"logging/setLevel","params":{"level":"info"}`},
		{q: Question{Method: "initialize"}, version: oldVersion, message: `"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"a","version":"1"}}`},
		{q: Question{Method: "server/discover"}, version: newVersion, message: `"method":"server/discover","params":{` + newMeta + `}`},
		{q: Question{Method: "tools/list"}, version: oldVersion, message: `"method":"tools/list"`},
		{q: Question{Method: "subscriptions/listen"}, version: newVersion, message: `"method":"subscriptions/listen","params":{"notifications":{},` + newMeta + `}`},
		{q: Question{Method: "subscriptions/listen", Object: "file:///a/b"}, version: newVersion, message: `"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["file:///a/b"]},` + newMeta + `}`, upstream: "file:///a/b"},
	}
	for _, item := range []string{"add", "abb", "zb"} {
		list = append(list,
			ask{q: Question{Method: "tools/list", Object: item}, version: oldVersion, message: `"method":"tools/list"`, item: `"name":"` + item + `"`},
			ask{q: Question{Method: "prompts/list", Object: item}, version: newVersion, message: `"method":"prompts/list","params":{` + newMeta + `}`, item: `"name":"` + item + `"`})
	}
	return append(list,
		ask{q: Question{Method: "resources/list", Object: "file:///a/b"}, version: oldVersion, message: `"method":"resources/list"`, item: `"uri":"file:///a/b"`},
		ask{q: Question{Method: "resources/templates/list", Object: "file:///a/{x}"}, version: newVersion, message: `"method":"resources/templates/list","params":{` + newMeta + `}`, item: `"uriTemplate":"file:///a/{x}"`},
		ask{q: Question{Method: "resources/templates/list", Object: "x:{y}"}, version: oldVersion, message: `"method":"resources/templates/list"`, item: `"uriTemplate":"x:{y}"`},
		ask{q: Question{Method: "sampling/createMessage"}, version: oldVersion, message: `"method":"ping"`, item: "sampling/createMessage"},
		ask{q: Question{Method: "roots/list"}, version: oldVersion, message: `"method":"ping"`, item: "roots/list"},
		ask{q: Question{Method: "notifications/resources/updated", Object: "file:///a/b"}, version: oldVersion, message: `"method":"ping"`, item: "notifications/resources/updated"},
		ask{q: Question{Method: "notifications/message"}, version: oldVersion, message: `"method":"ping"`, item: "notifications/message"})
}()

// answers is a server that has a little of everything, and remembers what it got.
type answers struct{ got string }

func (s *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	s.got = string(body)
	var m struct{ Method string }
	if err := json.Unmarshal(body, &m); err != nil {
		return err
	}
	result := map[string]string{
		"tools/list":               `"tools":[{"name":"add"},{"name":"abb"},{"name":"zb"}]`,
		"prompts/list":             `"prompts":[{"name":"add"},{"name":"abb"},{"name":"zb"}]`,
		"resources/list":           `"resources":[{"uri":"file:///a/b"},{"uri":"file:///z"}]`,
		"resources/templates/list": `"resourceTemplates":[{"uriTemplate":"file:///a/{x}"},{"uriTemplate":"x:{y}"}]`,
	}[m.Method]
	if m.Method == "ping" {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, event := range []string{
			`"id":7,"method":"sampling/createMessage","params":{}`, `"id":8,"method":"roots/list"`,
			`"method":"notifications/resources/updated","params":{"uri":"file:///a/b"}`,
			`"method":"notifications/message","params":{}`, `"id":1,"result":{}`,
		} {
			if _, err := io.WriteString(w, `data: {"jsonrpc":"2.0",`+event+"}\n\n"); err != nil {
				return err
			}
		}
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{`+result+`}}`)
	return err
}

// live sends the message through the handler, and returns whether what was asked for
// was got, and the refusal if there was one.
func (a *ask) live(t *testing.T, h *Handler, server string, who *credential) (allowed bool, status int, reason string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, gateURL+"/servers/"+server+"/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,`+a.message+`}`))
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Mcp-Protocol-Version", a.version)
	if a.version == newVersion {
		r.Header.Set("Mcp-Method", a.q.Method)
		if slices.Contains([]string{"tools/call", "prompts/get", "resources/read"}, a.q.Method) {
			r.Header.Set("Mcp-Name", a.q.Object)
		}
	}
	w, upstream := httptest.NewRecorder(), new(answers)
	repl := caddy.NewReplacer()
	r = caddyhttp.PrepareRequest(r, repl, w, new(caddyhttp.Server))
	who.show(r, repl)
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "127.0.0.1")
	if err := h.ServeHTTP(w, r, upstream); err != nil {
		t.Fatal(err)
	}
	switch {
	case upstream.got == "":
		return false, w.Code, reasonOf(w.Body.String())
	case a.upstream != "":
		return strings.Contains(upstream.got, a.upstream), 0, ""
	}
	return strings.Contains(w.Body.String(), a.item), 0, ""
}

// TestInquiryAgreesWithGate asks the gate, with a request, and Explain, with the token
// and with its claims, the same; and then whether the scopes that it names do help.
func TestInquiryAgreesWithGate(t *testing.T) {
	layers := make(map[Layer]int)
	asked, helped, vouched, inTeams, hidden := 0, 0, 0, 0, 0
	for seed := range 150 {
		o := oracle{rand.New(rand.NewSource(int64(seed)))}
		config := o.config()
		h := provisioned(t, config)
		h.logger = zap.NewNop()
		for range 3 {
			who := o.credential(t, h)
			// As they are read from a file.
			text, err := json.Marshal(who.claims)
			if err != nil {
				t.Fatal(err)
			}
			var parsed map[string]any
			if err := json.Unmarshal(text, &parsed); err != nil {
				t.Fatal(err)
			}
			server := o.pick("notes", "crm")
			at := Circumstances{Now: time.Now(), ClientIP: netip.MustParseAddr("127.0.0.1")}
			byClaims, err := h.InquireClaims(parsed, server, at)
			if err != nil {
				t.Fatal(err)
			}
			inquiries := []*Inquiry{byClaims}
			if who.raw != "" {
				byToken, err := h.InquireToken(t.Context(), who.raw, server, at)
				if err != nil {
					t.Fatal(err)
				}
				inquiries = append(inquiries, byToken)
			}
			for _, a := range asks {
				a.q.Version = a.version
				allowed, status, reason := a.live(t, h, server, &who)
				for n, i := range inquiries {
					x, err := i.Explain(a.q)
					if err != nil {
						t.Fatalf("%+v: %v", a.q, err)
					}
					got := RefusalAnswer{}
					if x.Answer != nil {
						got = *x.Answer
					}
					if x.Allowed != allowed || got.Status != status || got.Reason != reason {
						t.Errorf("seed %d: %s with %s on %s: the gate says %v %d %q, Explain %+v", seed, a.message, text, server, allowed, status, reason, x)
					}
					if x.Allowed == (x.Layer != "") || x.Rule != nil && strings.HasPrefix(x.Rule.Text, "deny ") != (x.Reason == "denied") {
						t.Errorf("seed %d: %+v", seed, x)
					}
					if (x.Hides != nil) != (x.Layer == LayerVisibility) || x.Team != "" && (x.Rule == nil || x.Rule.Teams == nil) {
						t.Errorf("seed %d: %s: %+v", seed, a.message, x)
					}
					if n > 0 {
						continue
					}
					asked++
					layers[x.Layer]++
					if who.raw == "" && x.Allowed {
						vouched++
					}
					if x.Team != "" {
						inTeams++
					}
					if x.Reason == string(policy.HiddenObject) {
						hidden++
					}
					if x.Scopes != nil {
						helped++
						a.helps(t, h, server, who.claims, x)
					}
				}
			}
			if t.Failed() {
				t.Fatal(config)
			}
		}
	}
	t.Logf("%d questions, answered by %v, scopes would help with %d; %d allowed without a token, %d decided in a team, %d objects hidden",
		asked, layers, helped, vouched, inTeams, hidden)
	if asked < 10_000 || helped < asked/100 || vouched < asked/100 || inTeams < asked/100 || hidden < asked/100 {
		t.Error("the generator asks too little")
	}
	for _, layer := range []Layer{"", LayerToken, LayerVisibility, LayerTokenScope, LayerMessage, LayerRoles} {
		if layers[layer] < asked/200 {
			t.Errorf("layer %q answers %d of %d questions: the generator asks too little", layer, layers[layer], asked)
		}
	}
}

// helps checks that a token with these scopes is let through, and one without any of
// them is not.
func (a *ask) helps(t *testing.T, h *Handler, server string, claims map[string]any, x *Explanation) {
	t.Helper()
	with := func(scopes []string) bool {
		wider := maps.Clone(claims)
		name := "scope"
		if _, ok := claims["scp"]; ok {
			name = "scp"
		}
		held, _ := claims[name].(string)
		wider[name] = strings.TrimSpace(held + " " + strings.Join(scopes, " "))
		allowed, _, _ := a.live(t, h, server, &credential{wider, signed(t, []byte(gateSecret), wider)})
		return allowed
	}
	if !with(x.Scopes) {
		t.Errorf("%s with %v: %v do not help", a.message, claims, x.Scopes)
	}
	for n := range x.Scopes {
		if with(slices.Delete(slices.Clone(x.Scopes), n, n+1)) {
			t.Errorf("%s with %v: of %v, %s is not needed", a.message, claims, x.Scopes, x.Scopes[n])
		}
	}
}
