package mcpauth

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
)

// everything is a role that anybody has.
var everything = []any{map[string]any{"name": "all", "allow": []any{map[string]any{"permission": "*"}}}}

// team and private are for whom something is.
func team(id string) map[string]any { return map[string]any{"level": "team", "team": id} }

func private(owner string) map[string]any { return map[string]any{"level": "private", "owner": owner} }

// null is a claim of that value.
var null = json.RawMessage("null")

// recorder answers as a server that has the same objects under the names of tools,
// prompts and resources, and keeps what it received.
type recorder struct {
	objects  []string
	received []string
}

func (s *recorder) serve(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	s.received = append(s.received, string(body))
	var m struct{ Method string }
	if err := json.Unmarshal(body, &m); err != nil {
		return err
	}
	var items []string
	for _, o := range s.objects {
		items = append(items, map[string]string{
			"tools/list":               fmt.Sprintf(`{"name":%q,"inputSchema":{}}`, o),
			"prompts/list":             fmt.Sprintf(`{"name":%q}`, o),
			"resources/list":           fmt.Sprintf(`{"name":"r","uri":"x:%s"}`, o),
			"resources/templates/list": fmt.Sprintf(`{"name":"r","uriTemplate":"x:%s/{id}"}`, o),
		}[m.Method])
	}
	member := map[string]string{
		"tools/list": "tools", "prompts/list": "prompts", "resources/list": "resources", "resources/templates/list": "resourceTemplates",
	}[m.Method]
	result := "{}"
	if member != "" {
		result = fmt.Sprintf(`{%q:[%s]}`, member, strings.Join(items, ","))
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":%s}`, result)
	return err
}

// ask sends a request and has the handler succeed.
func (g *gate) ask(t *testing.T, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, body := g.do(t, r)
	if err := <-g.errs; err != nil {
		t.Error(err)
	}
	return resp, body
}

func request(method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, method, params)
}

// uses are the ways to use an object, and how the refusal of one that does not exist
// looks.
var uses = []struct{ method, params string }{
	{"tools/call", `{"name":"%s"}`},
	{"prompts/get", `{"name":"%s"}`},
	{"resources/read", `{"uri":"x:%s"}`},
	{"resources/subscribe", `{"uri":"x:%s"}`},
	{"completion/complete", `{"ref":{"type":"ref/prompt","name":"%s"},"argument":{"name":"a","value":""}}`},
	{"completion/complete", `{"ref":{"type":"ref/resource","uri":"x:%s"},"argument":{"name":"a","value":""}}`},
	{"completion/complete", `{"ref":{"type":"ref/resource","uri":"x:%s/{id}"},"argument":{"name":"a","value":""}}`},
}

// TestVisibilityOfObjects has the twelve cells of behaviour.md section 2.2 by those of
// section 2.3, for tools, prompts, resources and templates: what is listed is what can
// be used, and anything else is answered as what is not there, before any server hears
// of it.
func TestVisibilityOfObjects(t *testing.T) {
	const (
		publicOnly   = "public"
		unrestricted = "public team_a team_b mine"
		ofA          = "public team_a mine"
		ofBoth       = "public team_a team_b mine"
	)
	change := map[string]any{"roles": everything, "visibility": map[string]any{}}
	visibility := change["visibility"].(map[string]any)
	for name, for_ := range map[string]map[string]any{
		"public": {"level": "public"}, "team_a": team("a"), "team_b": team("b"), "mine": private("somebody"), "theirs": private("another"),
	} {
		visibility["notes/"+name], visibility["notes/x:"+name], visibility["notes/x:"+name+"/*"] = for_, for_, for_
	}
	server := &recorder{objects: []string{"public", "team_a", "team_b", "mine", "theirs"}}
	g := newGate(t, change, server.serve)
	for _, row := range []struct {
		teams           any
		absent          bool
		admin, nonAdmin string
	}{
		{absent: true, admin: unrestricted, nonAdmin: publicOnly},
		{teams: null, admin: unrestricted, nonAdmin: publicOnly},
		{teams: []any{}, admin: publicOnly, nonAdmin: publicOnly},
		{teams: []any{"a"}, admin: ofA, nonAdmin: ofA},
		{teams: []any{map[string]any{"id": "a"}}, admin: ofA, nonAdmin: ofA},
		{teams: []any{"b", "a"}, admin: ofBoth, nonAdmin: ofBoth},
	} {
		for admin, sees := range map[bool]string{true: row.admin, false: row.nonAdmin} {
			t.Run(fmt.Sprintf("teams %v (absent %v), admin %v", row.teams, row.absent, admin), func(t *testing.T) {
				claims := map[string]any{"is_admin": admin, "jti": t.Name()}
				if !row.absent {
					claims["teams"] = row.teams
				}
				token := tokenOf(t, "anybody", claims)
				seen := strings.Fields(sees)
				for method, member := range map[string]string{
					"tools/list": `"name":"%s"`, "prompts/list": `"name":"%s"`, "resources/list": `"uri":"x:%s"`, "resources/templates/list": `"uriTemplate":"x:%s/{id}"`,
				} {
					_, body := g.ask(t, g.post(t, token, request(method, "{}")))
					for _, o := range server.objects {
						if strings.Contains(body, fmt.Sprintf(member, o)) != slices.Contains(seen, o) {
							t.Errorf("%s of %s: %s", method, o, body)
						}
					}
				}
				for _, use := range uses {
					for _, o := range server.objects {
						server.received = nil
						sent := request(use.method, fmt.Sprintf(use.params, o))
						_, body := g.ask(t, g.post(t, token, sent))
						if slices.Contains(seen, o) {
							if !slices.Equal(server.received, []string{sent}) || strings.Contains(body, "error") {
								t.Errorf("%s of %s: the server received %q, the client %s", use.method, o, server.received, body)
							}
							continue
						}
						if server.received != nil || reasonOf(body) != "not_found" {
							t.Errorf("%s of %s: the server received %q, the client %s", use.method, o, server.received, body)
						}
					}
				}
			})
		}
	}
}

// What is hidden is answered as what no role allows, to the byte.
func TestHiddenLooksAbsent(t *testing.T) {
	server := &recorder{}
	hidden := newGate(t, map[string]any{"roles": everything, "visibility": map[string]any{"notes/secret": team("a"), "notes/x:secret": team("a"), "notes/x:secret/*": team("a")}}, server.serve)
	absent := newGate(t, map[string]any{"roles": []any{map[string]any{"name": "some", "allow": []any{map[string]any{"permission": "*", "objects": []string{"notes/other", "notes/y:**"}}}}}}, server.serve)
	for _, use := range uses {
		var seen [2]string
		for i, g := range []*gate{hidden, absent} {
			resp, body := g.ask(t, g.post(t, tokenOf(t, "anybody", nil), request(use.method, fmt.Sprintf(use.params, "secret"))))
			resp.Header.Del("Date")
			seen[i] = fmt.Sprint(resp.StatusCode, resp.Header, body)
		}
		if seen[0] != seen[1] {
			t.Errorf("%s: %s for what is hidden, %s for what is not allowed", use.method, seen[0], seen[1])
		}
	}
	if server.received != nil {
		t.Errorf("the server received %q", server.received)
	}
}

// Subscriptions, and what a server sends on its own, leave out what is hidden.
func TestHiddenIsNotFollowed(t *testing.T) {
	change := map[string]any{"roles": everything, "visibility": map[string]any{"notes/x:secret": team("a"), "notes/x:secret/**": team("a")}}
	stream := ""
	for _, uri := range []string{"x:secret", "x:open", "X:SECRET/", "x:secret/%61", "x:secret/b"} {
		stream += fmt.Sprintf("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{\"uri\":%q}}\n\n", uri)
	}
	g := newGate(t, change, func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "text/event-stream")
		_, err := io.WriteString(w, stream+"data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n")
		return err
	})
	for teams, want := range map[string]int{"a": 5, "b": 1} {
		_, body := g.ask(t, g.post(t, tokenOf(t, "anybody", map[string]any{"teams": []string{teams}}), callList))
		if got := strings.Count(body, "resources/updated"); got != want || !strings.Contains(body, "x:open") {
			t.Errorf("of team %s: %s", teams, body)
		}
	}
}

// TestTeamRoleDoesNotReachAnotherTeam: behaviour.md section 3.3, a role in team A
// grants nothing on team B.
func TestTeamRoleDoesNotReachAnotherTeam(t *testing.T) {
	change := map[string]any{
		"servers":    []string{"alpha", "beta", "both", "free"},
		"visibility": map[string]any{"alpha": team("a"), "both/b_*": team("b")},
		"teams":      map[string]any{"b": []string{"beta"}, "a": []string{"both/a_*"}},
		"roles": []any{
			map[string]any{"name": "developer", "teams": []string{"*"}, "when": []any{map[string]any{"claim": "roles", "values": []string{"dev"}}}, "extends": []string{"developer"}},
			map[string]any{"name": "lead", "teams": []string{"a"}, "when": []any{map[string]any{"claim": "roles", "values": []string{"lead"}}}, "allow": []any{map[string]any{"permission": "*"}}},
			map[string]any{"name": "looker", "when": []any{map[string]any{"claim": "roles", "values": []string{"look"}}}, "allow": []any{map[string]any{"permission": "tools.read"}}},
		},
	}
	type cell struct {
		role, server, tool, reason, told string
		teams                            any
	}
	var told string
	server := &recorder{objects: []string{"x", "a_x", "b_x"}}
	g := newGate(t, change, func(w http.ResponseWriter, r *http.Request) error {
		told = CallOf(r).Principal.Identity.Get("X-Mcp-Roles")
		return server.serve(w, r)
	})
	for _, c := range []cell{
		{role: "dev", teams: []string{"a"}, server: "alpha", tool: "x", told: "developer"},
		{role: "dev", teams: []string{"a"}, server: "beta", tool: "x", reason: "forbidden"},
		{role: "dev", teams: []string{"b"}, server: "beta", tool: "x", told: "developer"},
		{role: "dev", teams: []string{"b"}, server: "alpha", tool: "x", reason: "forbidden_scope"},
		{role: "dev", teams: []string{"a", "b"}, server: "beta", tool: "x", told: "developer"},
		{role: "dev", teams: []string{"a"}, server: "free", tool: "x", reason: "forbidden"},
		{role: "dev", teams: []string{"a"}, server: "both", tool: "a_x"},
		{role: "dev", teams: []string{"a"}, server: "both", tool: "b_x", reason: "not_found"},
		{role: "dev", teams: []string{"a"}, server: "both", tool: "x", reason: "not_found"},
		{role: "dev", teams: []string{"b"}, server: "both", tool: "b_x"},
		{role: "dev", teams: []string{"b"}, server: "both", tool: "a_x", reason: "not_found"},
		{role: "dev", teams: []string{}, server: "beta", tool: "x", reason: "forbidden"},
		{role: "dev", teams: []string{"c"}, server: "beta", tool: "x", reason: "forbidden"},
		{role: "dev", teams: nil, server: "beta", tool: "x", told: "developer"}, // an unrestricted administrator
		{role: "dev", teams: nil, server: "both", tool: "a_x"},
		{role: "dev", teams: nil, server: "free", tool: "x", reason: "forbidden"},
		{role: "lead", teams: []string{"a", "b"}, server: "beta", tool: "x", reason: "forbidden"},
		{role: "lead", teams: nil, server: "beta", tool: "x", reason: "forbidden"},
		{role: "lead", teams: nil, server: "alpha", tool: "x", told: "lead"},
		{role: "lead", teams: []string{"b"}, server: "beta", tool: "x", reason: "forbidden"},
		{role: "look", teams: []string{"a"}, server: "beta", tool: "x", reason: "not_found"},
	} {
		claims := map[string]any{"teams": c.teams, "is_admin": c.teams == nil}
		token := tokenOf(t, c.role, claims)
		server.received = nil
		r := g.post(t, token, request("tools/call", fmt.Sprintf(`{"name":%q}`, c.tool)))
		r.URL.Path = "/servers/" + c.server + "/mcp"
		_, body := g.ask(t, r)
		if reasonOf(body) != c.reason || (server.received == nil) != (c.reason != "") {
			t.Errorf("%+v: the server received %q, the client %s", c, server.received, body)
		}
		if c.reason == "" && told != c.told {
			t.Errorf("%+v: the server was told the roles %q", c, told)
		}
		if c.reason != "" && c.reason != "not_found" {
			continue
		}
		r = g.post(t, token, request("tools/list", `{}`))
		r.URL.Path = "/servers/" + c.server + "/mcp"
		if _, body = g.ask(t, r); strings.Contains(body, fmt.Sprintf("%q", c.tool)) != (c.reason == "" || c.role == "look") {
			t.Errorf("%+v: listed %s", c, body)
		}
	}
}

// A decision about what is hidden from some, or belongs to teams, costs no
// allocation, and a list of which everything is seen is not filtered.
func TestTeamsCostNothing(t *testing.T) {
	h := provisioned(t, gateConfig(map[string]any{
		"servers":    []string{"notes", "other"},
		"visibility": map[string]any{"notes/secret_*": team("a")}, "teams": map[string]any{"a": []string{"notes"}},
		"roles": []any{map[string]any{"name": "r", "teams": []string{"*"}, "allow": []any{map[string]any{"permission": "*"}}}, everything[0]},
	}))
	for teams, sees := range map[string]bool{"a": true, "b": false} {
		claims, err := h.verifier.Verify(t.Context(), tokenOf(t, "anybody", map[string]any{"teams": []string{teams}}), time.Now(), []string{gateURL})
		if err != nil {
			t.Fatal(err)
		}
		p := h.newPrincipal(claims, "notes")
		other := h.newPrincipal(claims, "other")
		for list := jsonrpc.Tools; list <= jsonrpc.Contents; list++ {
			if p.seesAll[list] != sees || !other.seesAll[list] {
				t.Errorf("of team %s: sees all of list %d: %v, and of another server: %v", teams, list, p.seesAll[list], other.seesAll[list])
			}
		}
		if n := testing.AllocsPerRun(100, func() {
			for _, name := range []string{"secret_a", "open"} {
				if p.maySee("notes", jsonrpc.Tools, name) != (sees || name == "open") {
					t.Error(teams, name)
				}
			}
		}); n != 0 {
			t.Errorf("of team %s: %v allocations", teams, n)
		}
	}
}
