package keys

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDiscovery(t *testing.T) {
	const (
		oauth     = "/.well-known/oauth-authorization-server"
		oidc      = "/.well-known/openid-configuration"
		oauthPath = oauth + "/t1"
		oidcPath  = oidc + "/t1"
		oidcBelow = "/t1" + oidc
	)
	// In documents, SELF is the server's own address.
	document := func(issuer string) string { return `{"issuer":"` + issuer + `","jwks_uri":"SELF/jwks"}` }
	for _, tc := range []struct {
		name      string
		issuer    string // behind the server's address
		metadata  string // metadata_url
		documents map[string]string
		asked     []string
		err       string
	}{
		{"RFC 8414", "", "", map[string]string{oauth: document("SELF")}, []string{oauth}, ""},
		{"OpenID", "", "", map[string]string{oidc: document("SELF")}, []string{oauth, oidc}, ""},
		{"final slash", "/", "", map[string]string{oidc: document("SELF/")}, []string{oauth, oidc}, ""},
		{"RFC 8414 with path", "/t1", "", map[string]string{oauthPath: document("SELF/t1")}, []string{oauthPath}, ""},
		{"OpenID with path in front", "/t1", "", map[string]string{oidcPath: document("SELF/t1")}, []string{oauthPath, oidcPath}, ""},
		{"OpenID with path behind", "/t1", "", map[string]string{oidcBelow: document("SELF/t1")}, []string{oauthPath, oidcPath, oidcBelow}, ""},
		{"none", "/t1", "", nil, []string{oauthPath, oidcPath, oidcBelow}, "status 404"},
		{"other issuer", "", "", map[string]string{oauth: document("https://evil.example")}, []string{oauth, oidc}, "another issuer"},
		{
			"other issuer, then the right one", "/t1", "",
			map[string]string{oauthPath: document("SELF"), oidcBelow: document("SELF/t1")},
			[]string{oauthPath, oidcPath, oidcBelow},
			"",
		},
		{"issuer differs by a slash", "", "", map[string]string{oauth: document("SELF/")}, []string{oauth, oidc}, "another issuer"},
		{"issuer absent", "", "", map[string]string{oauth: `{"jwks_uri":"SELF/jwks"}`}, []string{oauth, oidc}, "another issuer"},
		{
			"issuer twice", "", "",
			map[string]string{oauth: `{"issuer":"SELF","issuer":"SELF","jwks_uri":"SELF/jwks"}`},
			[]string{oauth, oidc},
			"not a metadata document",
		},
		{"no jwks_uri", "", "", map[string]string{oauth: `{"issuer":"SELF"}`}, []string{oauth, oidc}, "jwks_uri"},
		{
			"jwks_uri without TLS", "", "",
			map[string]string{oauth: `{"issuer":"SELF","jwks_uri":"http://a.example/jwks"}`},
			[]string{oauth, oidc},
			"must be https",
		},
		{
			"jwks_uri is a file", "", "",
			map[string]string{oauth: `{"issuer":"SELF","jwks_uri":"file:///etc/passwd"}`},
			[]string{oauth, oidc},
			"jwks_uri",
		},
		{"own address", "/t1", "/meta", map[string]string{"/meta": document("SELF/t1")}, []string{"/meta"}, ""},
		{"own address, other issuer", "/t1", "/meta", map[string]string{"/meta": document("SELF")}, []string{"/meta"}, "another issuer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			iss := newIssuer(t, "a")
			for path, text := range tc.documents {
				iss.metadata[path] = strings.ReplaceAll(text, "SELF", iss.URL)
			}
			config := map[string]string{}
			if tc.metadata != "" {
				config["metadata_url"] = iss.URL + tc.metadata
			}
			gen, err := load(t, "discovery", config, iss.URL+tc.issuer)
			if err != nil {
				t.Fatal(err)
			}
			wantFetches(t, iss, 0)
			keys, _, err := gen.Keys(t.Context(), "a", start)
			if got := errorText(err); (got == "") != (tc.err == "") || !strings.Contains(got, tc.err) {
				t.Fatalf("got error %q, want %q", got, tc.err)
			}
			if tc.err == "" && len(keys) != 1 {
				t.Errorf("got %d keys", len(keys))
			}
			if !slices.Equal(iss.asked, tc.asked) {
				t.Errorf("asked %q, want %q", iss.asked, tc.asked)
			}
		})
	}
}

func TestDiscoveryFollowsAMovedKeySet(t *testing.T) {
	iss, other := newIssuer(t, "a"), newIssuer(t, "b")
	const place = "/.well-known/oauth-authorization-server"
	iss.metadata[place] = fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, iss.URL, iss.URL+"/jwks")
	gen, err := load(t, "discovery", map[string]string{}, iss.URL)
	if err != nil {
		t.Fatal(err)
	}
	gen.count(t, "a", 0)
	iss.change(func() { iss.metadata[place] = fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, iss.URL, other.URL+"/jwks") })
	if gen.count(t, "b", time.Minute) != 1 || gen.count(t, "a", time.Minute) != 0 {
		t.Error("the moved key set was not found")
	}
}

// An issuer on the network must not point the gateway at a service that only
// listens on the gateway's own machine.
func TestPublicIssuerCannotNameALoopbackKeySet(t *testing.T) {
	iss := newIssuer(t, "a")
	const name = "https://login.example.com"
	iss.metadata["/meta"] = fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, name, iss.URL+"/jwks")
	gen, err := load(t, "discovery", map[string]string{"metadata_url": iss.URL + "/meta"}, name)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := gen.Keys(t.Context(), "a", start); !strings.Contains(errorText(err), "must be https") {
		t.Errorf("got %v", err)
	}
	wantFetches(t, iss, 0)
}

func TestDiscoveryConfigurationErrors(t *testing.T) {
	for _, tc := range []struct{ issuer, metadata, want string }{
		{"mcpgateway", "", "name a jwks, pem or secret key source"},
		{"http://login.example.com", "", "must be https"},
		{"https://login.example.com/?tenant=1", "", "query"},
		{"https://login.example.com/#x", "", "fragment"},
		{"https://login.example.com", "http://login.example.com/meta", "must be https"},
		{"https://login.example.com", "{env.KEYS_TEST_UNSET}", "is empty"},
	} {
		config := map[string]string{}
		if tc.metadata != "" {
			config["metadata_url"] = tc.metadata
		}
		if _, err := load(t, "discovery", config, tc.issuer); !strings.Contains(errorText(err), tc.want) {
			t.Errorf("%s, %s: got %v, want %q", tc.issuer, tc.metadata, err, tc.want)
		}
	}
}
