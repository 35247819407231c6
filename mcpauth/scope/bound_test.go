package scope

import (
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// TestWithin: a record takes away from its token, and never adds anything.
func TestWithin(t *testing.T) {
	allowed, narrowed := 0, 0
	for seed := range int64(2000) {
		g := generator{rand.New(rand.NewSource(seed))}
		claims, other := g.claims(), g.claims()
		delete(claims, "token_use")
		cfg := Config{EmptyPermissions: g.pick("", EmptyInherit)}
		var scopes *Scope
		record := Bound{Team: g.pick("", "x", "y")}
		if value, ok := other["scopes"]; ok {
			var err error
			if scopes, err = ParseBound(value, "https://a", "1", cfg); err != nil {
				t.Fatal(err)
			}
			record.Scopes = scopes
		}
		s := g.parse(t, claims, nil, cfg)
		within := s.Within(record)
		for range 40 {
			q := g.request()
			alone := Request{Server: q.Server, Visibility: Public, ClientIP: q.ClientIP, Now: q.Now, Need: q.Need}
			before := allows(s, q)
			want := before && (scopes == nil || allows(scopes, &alone))
			switch q.Visibility {
			case Public:
			case Team, "":
				// What belongs to a team is seen by a token for all of them, and by one
				// for this one; the record's team, if any, is the only one.
				want = want && (record.Team == q.Team || record.Team == "" && s.Unrestricted())
			default:
				want = want && (record.Team == "" && s.Unrestricted() || record.Team != "" && s.Sees(Team, record.Team, "", ""))
			}
			got := allows(within, q)
			if got != want {
				t.Fatalf("seed %d: %v within %+v of %v: %+v is %v", seed, claims, record, other, q, got)
			}
			if got {
				allowed++
			} else if before {
				narrowed++
			}
		}
		if within.ServerScoped() != (s.ServerScoped() || scopes != nil && scopes.ServerScoped()) ||
			within.Admin() != s.Admin() || within.Unrestricted() && !s.Unrestricted() || s.PublicOnly() && !within.PublicOnly() {
			t.Fatalf("seed %d: %+v within %+v", seed, s, record)
		}
	}
	if allowed < 1000 || narrowed < 1000 {
		t.Errorf("%d were allowed, and %d not any more", allowed, narrowed)
	}
	if (*Scope)(nil).Within(Bound{}) != nil {
		t.Error("a bound makes something of nil")
	}
}

// TestWithinLimits: the lower limit counts, under the key of the token.
func TestWithinLimits(t *testing.T) {
	for _, tc := range []struct {
		token, record string
		want          Limits
	}{
		{``, ``, Limits{}},
		{`"requests_per_hour":5`, ``, Limits{PerHour: 5}},
		{``, `"requests_per_hour":5`, Limits{PerHour: 5}},
		{`"requests_per_hour":5`, `"requests_per_hour":7`, Limits{PerHour: 5}},
		{`"requests_per_hour":5,"requests_per_day":9`, `"requests_per_hour":3`, Limits{PerHour: 3, PerDay: 9}},
	} {
		s := parse(t, `{"iss":"https://a","jti":"1","scopes":{"usage_limits":{`+tc.token+`}}}`, Config{})
		record, err := ParseBound(map[string]any{"usage_limits": decoded(t, `{`+tc.record+`}`)}, "https://a", "1", Config{})
		if err != nil {
			t.Fatal(err)
		}
		key, limits, ok := s.Within(Bound{Scopes: record}).Usage()
		if limits != tc.want || ok != (tc.want != Limits{}) || ok && key != UsageKey("https://a", "1") {
			t.Errorf("%s within %s: %+v", tc.token, tc.record, limits)
		}
	}
}

func decoded(t *testing.T, text string) (value any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// TestParseBoundRefuses: a record that is damaged bounds nothing by accident.
func TestParseBoundRefuses(t *testing.T) {
	for _, text := range []string{
		`null`, `[]`, `"*"`, `true`, `1`, `{"permission":["*"]}`, `{"permissions":"*"}`, `{"server_id":""}`, `{"ip_restrictions":["x"]}`,
		`{"time_restrictions":{"start_time":"09:00"}}`, `{"usage_limits":{"requests_per_hour":0}}`,
	} {
		if s, err := ParseBound(decoded(t, text), "https://a", "1", Config{}); err == nil || s != nil {
			t.Errorf("%s is accepted", text)
		}
	}
	none, err := ParseBound(decoded(t, `{"permissions":[]}`), "https://a", "1", Config{})
	if err != nil || none.Permits(useServer) {
		t.Errorf("no permissions: %v", err)
	}
	all, err := ParseBound(decoded(t, `{"permissions":[]}`), "https://a", "1", Config{EmptyPermissions: EmptyInherit})
	if err != nil || !all.Permits(useServer) {
		t.Errorf("inherited: %v", err)
	}
}

func TestWithinDoesNotAllocate(t *testing.T) {
	s := parse(t, `{"iss":"https://a","jti":"1","teams":["a","b"],"scopes":{"permissions":["tools.*"]}}`, Config{})
	record, err := ParseBound(decoded(t, `{"server_id":"warehouse","ip_restrictions":["192.0.2.0/24"],"time_restrictions":{"days":["Monday","Tuesday","Wednesday","Thursday","Friday","Saturday","Sunday"]}}`), "https://a", "1", Config{})
	if err != nil {
		t.Fatal(err)
	}
	bounded, q := s.Within(Bound{Team: "a", Scopes: record}), request()
	if !slices.Equal(bounded.Teams(), []string{"a"}) {
		t.Errorf("teams %v", bounded.Teams())
	}
	if got := testing.AllocsPerRun(100, func() {
		if refusal := bounded.Check(q); refusal != nil {
			t.Errorf("%+v", refusal)
		}
	}); got > 0 {
		t.Errorf("%v allocations", got)
	}
	if q.Now = q.Now.Add(time.Hour); bounded.Check(q) != nil {
		t.Error("refused an hour later")
	}
}
