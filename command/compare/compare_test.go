package compare

import (
	"encoding/json"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/command/gateways"
	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/policy"
	_ "github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/keys"
)

const testIssuer = "https://login.example.com"

// config is a configuration of one gateway, with what change says otherwise.
func config(change map[string]any) map[string]any {
	auth := map[string]any{
		"handler": "mcp_auth", "public_url": "https://mcp.example.com", "servers": []string{"a"},
		"issuers": []any{map[string]any{"issuer": testIssuer}},
	}
	maps.Copy(auth, change)
	return auth
}

// load loads a configuration with these handlers.
func load(t testing.TB, handlers ...map[string]any) *gateways.Set {
	t.Helper()
	text, err := json.Marshal(map[string]any{"apps": map[string]any{"http": map[string]any{"servers": map[string]any{
		"s": map[string]any{"routes": []any{map[string]any{"handle": handlers}}},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "caddy.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := gateways.Load(file, gateways.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func inquire(t *testing.T, h *mcpauth.Handler, claims map[string]any) *mcpauth.Inquiry {
	t.Helper()
	i, err := h.InquireClaims(claims, "a", mcpauth.Circumstances{Now: time.Now()})
	if err != nil || i.Refused() != "" {
		t.Fatalf("%v: %v %s", claims, err, i.Refused())
	}
	return i
}

func statusOf(i *mcpauth.Inquiry, perm mcp.Permission, o policy.Region) string {
	outlook, _ := i.Outlook(perm, o.Kind, o.Object)
	return status(outlook)
}

// covers reports whether a change is one of somebody with these claims, and of that
// permission and object.
func covers(c Change, claims map[string]any, perm mcp.Permission, object string) bool {
	changed, _ := mcp.ParsePermission(c.Permission)
	if c.Permission != "*" && changed != perm && changed.Implies() != perm && perm != mcp.ServersUse {
		return false
	}
	for said := range strings.FieldsSeq(strings.TrimPrefix(c.Who, "anybody")) {
		claim, values, _ := strings.Cut(said, "=")
		has, ok := claims[claim].([]any)
		if !ok {
			has = []any{claims[claim]}
		}
		// These stand for scopes that give the permission, and for any team.
		if values != everything && values != "any" && !slices.ContainsFunc(strings.Split(values, "|"), func(value string) bool { return slices.Contains(has, any(value)) }) {
			return false
		}
	}
	return perm == mcp.ServersUse || c.Object == "" || stands(c.Object, object)
}

// stands reports whether a pattern of the generator stands for an object.
func stands(pattern, object string) bool {
	p, err := policy.Compile([]policy.Role{{Name: "r", Allow: []policy.Grant{{Permission: "*", Objects: []string{"a/" + pattern}}}}})
	if err != nil {
		return false
	}
	rs := p.RolesOf(nil, nil, nil)
	kind, perm := policy.KindName, mcp.ToolsRead
	if strings.HasPrefix(object, "x:") {
		kind, perm = policy.KindURI, mcp.ResourcesRead
	}
	if p.Allows(rs, perm, "a", kind, object) {
		return true
	}
	// A deny takes a little more of URIs.
	return kind == policy.KindURI && (strings.Contains(object, "..") || p.Allows(rs, perm, "a", kind, object+"/"))
}

// compared are the issuers of principals that are compared: what both have, or what the
// one has with what the other has instead.
func compared(handlers [2]*mcpauth.Handler) (both [][2]string) {
	older, newer := handlers[0].Sources(), handlers[1].Sources()
	for _, name := range older {
		if slices.Contains(newer, name) {
			both = append(both, [2]string{name, name})
		}
	}
	if both == nil && len(older) == 1 && len(newer) == 1 {
		both = append(both, [2]string{older[0], newer[0]})
	}
	return both
}

func from(issuer string, claims map[string]any) map[string]any {
	all := maps.Clone(claims)
	all["iss"] = issuer
	return all
}

// TestComparesWithEverybody asks both configurations of everybody and everything: there
// must be a change for each difference, and every change must be a difference.
func TestComparesWithEverybody(t *testing.T) {
	different, changes, found := 0, 0, make(map[Kind]int)
	hides, inTeams, vouched := 0, 0, 0
	const pairs, people = 100, 16
	for seed := range pairs {
		g := generator{rand.New(rand.NewSource(int64(seed)))}
		pair := g.pair()
		sets := [2]*gateways.Set{load(t, pair[0]), load(t, pair[1])}
		r, err := Configurations(sets[0], sets[1], nil)
		if err != nil {
			t.Fatal(err)
		}
		handlers := [2]*mcpauth.Handler{sets[0].All()[0], sets[1].All()[0]}
		differs := false
		asked := compared(handlers)
		for _, n := range g.Perm(len(everybody))[:people*min(len(asked), 1)] {
			issuers := asked[g.Intn(len(asked))]
			claims := from(issuers[1], everybody[n])
			older, newer := inquire(t, handlers[0], from(issuers[0], claims)), inquire(t, handlers[1], claims)
			for _, perm := range mcp.Permissions() {
				asked := objects[category(perm.String())]
				if asked == nil {
					asked = []policy.Region{{}}
				}
				for _, o := range asked {
					before, after := statusOf(older, perm, o), statusOf(newer, perm, o)
					if before == after || category(perm.String()) == "completions" {
						continue
					}
					differs = true
					if !slices.ContainsFunc(r.Changes, func(c Change) bool { return covers(c, claims, perm, o.Object) }) {
						t.Errorf("seed %d: %v: %s %s is %q, then %q, and no change says so", seed, claims, perm, o.Object, before, after)
					}
				}
			}
		}
		for _, c := range r.Changes {
			found[c.Kind]++
			changes++
			if c.Hides != nil {
				hides++
			}
			for _, rule := range []*mcpauth.WrittenRule{c.Old, c.New} {
				if rule != nil && rule.Teams != nil {
					inTeams++
				}
			}
			if len(handlers[1].Sources()) == 1 && handlers[1].TrustedHeader != nil || c.Claims["iss"] == "trusted_header" {
				vouched++
			}
			perm, _ := mcp.ParsePermission(c.Permission)
			if c.Permission == "*" {
				after := inquire(t, handlers[1], c.Claims)
				for _, perm := range mcp.Permissions() {
					for _, o := range append(objects[category(perm.String())], policy.Region{}) {
						if c.Object != "" && (o.Kind == policy.KindNone || strings.Contains(o.Object, "..") || !stands(c.Object, o.Object)) {
							continue
						}
						if now := statusOf(after, perm, o) != ""; o.Kind != policy.KindNone && now != (c.Kind == Gained) {
							t.Errorf("seed %d: %+v: not %s of %s", seed, c, perm, o.Object)
						}
					}
				}
				continue
			}
			o := policy.Region{Object: c.Example}
			if all := kinds[category(c.Permission)]; all != nil {
				o.Kind = all[0]
			}
			older, newer := inquire(t, handlers[0], c.Claims), inquire(t, handlers[1], c.Claims)
			before, after := statusOf(older, perm, o), statusOf(newer, perm, o)
			if o.Kind == policy.KindName && before == after && category(c.Permission) == "completions" {
				o.Kind = policy.KindURI // the example does not say which
				before, after = statusOf(older, perm, o), statusOf(newer, perm, o)
			}
			want := Changed
			switch {
			case before == "":
				want = Gained
			case after == "":
				want = Lost
			}
			if before == after || c.Kind != want {
				t.Errorf("seed %d: %+v: is %q, then %q", seed, c, before, after)
			}
			for _, o := range objects[category(perm.String())] {
				now := statusOf(newer, perm, o) != ""
				if !c.Partly && o.Kind == policy.KindName && (c.Object == "" || stands(c.Object, o.Object)) && (c.Kind == Gained && !now || c.Kind == Lost && now) {
					t.Errorf("seed %d: %+v: not of %s", seed, c, o.Object)
				}
			}
		}
		if differs {
			different++
		}
		if t.Failed() {
			a, _ := json.Marshal(pair)
			b, _ := json.Marshal(r)
			t.Fatalf("%s\n%s", a, b)
		}
	}
	t.Logf("%d of %d pairs differ, by %d changes: %v; by %d something is hidden, %d are of rules in teams, %d of principals without a token",
		different, pairs, changes, found, hides, inTeams, vouched)
	if different < pairs/4 || different > pairs*9/10 || found[Gained] < 30 || found[Lost] < 30 || found[Changed] < 10 ||
		hides < 20 || inTeams < 20 || vouched < 20 {
		t.Error("the generator makes too little that differs, or too much")
	}
}
