package wellknown

import (
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddymcp/caddy-mcp-gateway/internal/resource"
)

func renderSecurityTxt(t *testing.T, s SecurityTxt) (string, error) {
	t.Helper()
	base, err := resource.Parse("http://localhost:8080/gw")
	if err != nil {
		t.Fatal(err)
	}
	body, _, err := s.render(base, caddy.NewReplacer(), testTime)
	return string(body), err
}

func TestSecurityTxt(t *testing.T) {
	t.Setenv("WELLKNOWN_TEST_CONTACT", "mailto:sec@example.com")
	got, err := renderSecurityTxt(t, SecurityTxt{
		Contact:            []string{"{env.WELLKNOWN_TEST_CONTACT}", "https://example.com/report"},
		Expires:            "2027-06-01T02:00:00+02:00",
		Encryption:         []string{"openpgp4fpr:5f2de5521c63a801ab59ccb603d49de44b29100f"},
		Acknowledgments:    []string{"https://example.com/thanks"},
		PreferredLanguages: []string{"en", "pt-BR"},
		Policy:             []string{"https://example.com/policy"},
		Hiring:             []string{"https://example.com/jobs"},
	})
	want := `Contact: mailto:sec@example.com
Contact: https://example.com/report
Expires: 2027-06-01T00:00:00Z
Preferred-Languages: en, pt-BR
Encryption: openpgp4fpr:5f2de5521c63a801ab59ccb603d49de44b29100f
Acknowledgments: https://example.com/thanks
Canonical: http://localhost:8080/.well-known/security.txt
Policy: https://example.com/policy
Hiring: https://example.com/jobs
`
	if err != nil || got != want {
		t.Errorf("got %q, error %v", got, err)
	}
	got, err = renderSecurityTxt(t, SecurityTxt{Contact: []string{"tel:+1"}, Expires: "2027-06-01T00:00:00Z", Canonical: []string{"https://a/x", "https://b/x"}})
	want = "Contact: tel:+1\nExpires: 2027-06-01T00:00:00Z\nCanonical: https://a/x\nCanonical: https://b/x\n"
	if err != nil || got != want {
		t.Errorf("own canonical: got %q, error %v", got, err)
	}
}

func TestSecurityTxtRefuses(t *testing.T) {
	contact, expires := []string{"mailto:a@b"}, "2027-06-01T00:00:00Z"
	for _, tc := range []struct {
		name string
		in   SecurityTxt
		want string
	}{
		{"no contact", SecurityTxt{Expires: expires}, "contact is missing; write"},
		{"bare address", SecurityTxt{Contact: []string{"a@b"}, Expires: expires}, "write mailto:"},
		{"http contact", SecurityTxt{Contact: []string{"http://b"}, Expires: expires}, "must begin with https://"},
		{"http of another port", SecurityTxt{Contact: []string{"http://localhost:80801/"}, Expires: expires}, "must begin with https://"},
		{"another field in a value", SecurityTxt{Contact: []string{"mailto:a@b\nExpires: 2099-01-01T00:00:00Z"}, Expires: expires}, "is not a URI"},
		{"space", SecurityTxt{Contact: []string{"mailto:a @b"}, Expires: expires}, "is not a URI"},
		{"scheme only", SecurityTxt{Contact: []string{"mailto:"}, Expires: expires}, "nothing after the scheme"},
		{"no host", SecurityTxt{Contact: []string{"https:///x"}, Expires: expires}, "no host"},
		{"empty placeholder", SecurityTxt{Contact: []string{"{env.WELLKNOWN_TEST_UNSET}"}, Expires: expires}, "contact"},
		{"no expires", SecurityTxt{Contact: contact}, "expires is missing; write a time within the next year, such as 2027-05-22T00:00:00Z"},
		{"expires is a date", SecurityTxt{Contact: contact, Expires: "2027-06-01"}, "RFC 3339; write one such as 2027-05-22T00:00:00Z"},
		{"expired", SecurityTxt{Contact: contact, Expires: "2026-11-22T07:59:59Z"}, "has passed; check that the file is still right, and write a time within the next year, such as 2027-05-22T00:00:00Z"},
		{"expires right now", SecurityTxt{Contact: contact, Expires: "2026-11-22T08:00:00Z"}, "has passed"},
		{"expired elsewhere on earth", SecurityTxt{Contact: contact, Expires: "2026-11-22T09:00:00+01:30"}, "has passed"},
		{"empty expires placeholder", SecurityTxt{Contact: contact, Expires: "{env.WELLKNOWN_TEST_UNSET}"}, "expires"},
		{"bad language", SecurityTxt{Contact: contact, Expires: expires, PreferredLanguages: []string{"en, de"}}, "preferred_languages"},
		{"numeric language", SecurityTxt{Contact: contact, Expires: expires, PreferredLanguages: []string{"1"}}, "preferred_languages"},
		{"empty language", SecurityTxt{Contact: contact, Expires: expires, PreferredLanguages: []string{""}}, "preferred_languages"},
		{"bad policy", SecurityTxt{Contact: contact, Expires: expires, Policy: []string{"policy"}}, `policy "policy" is not a URI`},
		{"bad hiring", SecurityTxt{Contact: contact, Expires: expires, Hiring: []string{"http://x"}}, "hiring"},
		{"bad canonical", SecurityTxt{Contact: contact, Expires: expires, Canonical: []string{"/x"}}, "canonical"},
		{"bad encryption", SecurityTxt{Contact: contact, Expires: expires, Encryption: []string{""}}, "encryption"},
		{"bad acknowledgments", SecurityTxt{Contact: contact, Expires: expires, Acknowledgments: []string{"ü:x"}}, "acknowledgments"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := renderSecurityTxt(t, tc.in); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestSecurityTxtWarnings(t *testing.T) {
	for expires, want := range map[time.Duration]string{
		29 * 24 * time.Hour:  "expires soon",
		31 * 24 * time.Hour:  "",
		365 * 24 * time.Hour: "",
		367 * 24 * time.Hour: "more than a year",
	} {
		core, logs := observer.New(zap.WarnLevel)
		h := &Handler{PublicURL: "https://h", SecurityTxt: &SecurityTxt{Contact: []string{"mailto:a@b"}, Expires: testTime.Add(expires).Format(time.RFC3339)}}
		if err := h.render(zap.New(core), testTime); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, entry := range logs.All() {
			got += entry.Message
		}
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%v: warned %q", expires, got)
		}
	}
}
