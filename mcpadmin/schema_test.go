package mcpadmin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
)

type (
	inner struct {
		Name string `json:"name" jsonschema:"What it is called"`
	}
	listing[T any] struct {
		Items []T    `json:"items"`
		Next  string `json:"next,omitzero"`
	}
	other struct {
		ID string `json:"id"`
	}
	embedding struct {
		inner
		When  time.Time          `json:"when"`
		Role  account.MemberRole `json:"role,omitzero"`
		Raw   jsontext.Value     `json:"raw,omitzero"`
		Other *other             `json:"other"`
		May   *other             `json:"may,omitzero" jsonschema:"If any"`
		Count *int               `json:"count,omitzero"`
		Texts map[string]string  `json:"texts"`
		Drop  string             `json:"-"`
	}
	reading struct {
		Name text   `json:"name"`
		Tags []text `json:"tags,omitzero"`
	}
)

func TestSchemas(t *testing.T) {
	for name, tc := range map[string]struct {
		value                any
		closed               bool
		expected, components string
	}{
		"a list of what has a name": {
			listing[inner]{},
			false,
			`{"$ref":"#/components/schemas/ListingInner"}`,
			`{"Inner":{"properties":{"name":{"description":"What it is called","type":"string"}},"required":["name"],"type":"object"},
			"ListingInner":{"properties":{"items":{"items":{"$ref":"#/components/schemas/Inner"},"type":"array"},"next":{"type":"string"}},"required":["items"],"type":"object"}}`,
		},
		"what is embedded": {
			&embedding{}, false,
			`{"$ref":"#/components/schemas/Embedding"}`,
			`{"Other":{"properties":{"id":{"type":"string"}},"required":["id"],"type":"object"},
			"Embedding":{"properties":{"name":{"description":"What it is called","type":"string"},"when":{"format":"date-time","type":"string"},
			"role":{"enum":["owner","member"],"type":"string"},"raw":true,"other":{"anyOf":[{"$ref":"#/components/schemas/Other"},{"type":"null"}]},
			"may":{"$ref":"#/components/schemas/Other","description":"If any"},"count":{"type":"integer"},
			"texts":{"additionalProperties":{"type":"string"},"type":"object"}},"required":["name","when","other","texts"],"type":"object"}}`,
		},
		"what is read": {
			reading{},
			true,
			`{"$ref":"#/components/schemas/Reading"}`,
			`{"Reading":{"additionalProperties":false,"properties":{"name":{"type":"string"},"tags":{"items":{"type":"string"},"type":"array"}},"required":["name"],"type":"object"}}`,
		},
		"no name": {
			struct {
				OK bool `json:"ok"`
			}{},
			false,
			`{"properties":{"ok":{"type":"boolean"}},"required":["ok"],"type":"object"}`, `{}`,
		},
		"any object": {map[string]any{}, false, `{"additionalProperties":true,"type":"object"}`, `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSchemas()
			got, err := s.of(tc.value, tc.closed)
			if err != nil {
				t.Fatal(err)
			}
			wantJSON(t, got, tc.expected)
			all, err := s.components()
			if err != nil {
				t.Fatal(err)
			}
			wantJSON(t, all, tc.components)
		})
	}
}

func wantJSON(t *testing.T, value any, expected string) {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(expected), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nexpected\n%s", text, expected)
	}
}

// TestSchemasOfOneName: two types of one name are told apart, what cannot be described
// is an error, and not left out.
func TestSchemasOfOneName(t *testing.T) {
	type Session struct{}
	s := newSchemas()
	for value, expected := range map[any]string{(*login.Session)(nil): "Session", (*Session)(nil): "Session"} {
		got, err := s.of(value, false)
		if err != nil || !strings.HasSuffix(got.Ref, expected) {
			t.Errorf("%T is %v, %v", value, got, err)
		}
	}
	all, err := s.components()
	if err != nil || len(all) != 2 || all["Session"] == nil || all["LoginSession"] == nil && all["McpadminSession"] == nil {
		t.Errorf("got %v, %v", all, err)
	}
	if _, err := newSchemas().of(struct{ F func() }{}, false); err == nil {
		t.Error("a function is described")
	}
}

// TestBasicOfAnotherSite: a browser sends a password that it remembers also when the page
// of another site makes it; nothing may be changed by that.
func TestBasicOfAnotherSite(t *testing.T) {
	h := &Handler{APIBasicAuth: true, origins: http.NewCrossOriginProtection()}
	for _, header := range []http.Header{{"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-site"}}, {"Origin": {"https://evil.example"}}, {"Origin": {"null"}}} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "https://mcp.example.com/admin/x", nil)
		r.Header = header
		r.SetBasicAuth("bob@example.com", "x")
		// It is refused before the password is looked at: there is nobody to do so.
		if _, err := h.identify(r); err == nil || err.Error() != errForeignOrigin.message {
			t.Errorf("%v: %v", header, err)
		}
	}
}
