package introspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

const secret = "s3cret: with/odd%chars+and ä"

// issuer is an authorization server on this machine, which may be as bad as it likes.
type issuer struct {
	*httptest.Server

	mu       sync.Mutex
	answer   func(w http.ResponseWriter, r *http.Request)
	metadata string
	asked    []url.Values
	headers  []http.Header
}

func newIssuer(tb testing.TB, answer func(w http.ResponseWriter, r *http.Request)) *issuer {
	tb.Helper()
	iss := &issuer{answer: answer}
	iss.Server = httptest.NewServer(iss)
	iss.metadata = `{"issuer":"` + iss.URL + `","introspection_endpoint":"` + iss.URL + `/found"}`
	tb.Cleanup(iss.Close)
	return iss
}

func (iss *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	iss.mu.Lock()
	answer := iss.answer
	if r.Method == http.MethodGet {
		defer iss.mu.Unlock()
		if r.URL.Path != "/.well-known/oauth-authorization-server" || iss.metadata == "" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, iss.metadata)
		return
	}
	_ = r.ParseForm()
	iss.asked, iss.headers = append(iss.asked, r.PostForm), append(iss.headers, r.Header)
	iss.mu.Unlock()
	answer(w, r)
}

func (iss *issuer) set(answer func(w http.ResponseWriter, r *http.Request)) {
	iss.mu.Lock()
	defer iss.mu.Unlock()
	iss.answer = answer
}

func (iss *issuer) count() int {
	iss.mu.Lock()
	defer iss.mu.Unlock()
	return len(iss.asked)
}

// says answers with a JSON text.
func says(text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json;charset=UTF-8")
		_, _ = io.WriteString(w, text)
	}
}

func fails(status int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

const (
	active   = `{"active":true,"sub":"alice"}`
	inactive = `{"active":false}`
)

// lax lets everything pass.
var lax = Rules{
	Permitted:  func(*url.URL) error { return nil },
	Configured: func(*url.URL) error { return nil },
	Object:     func(error) error { return nil },
}

func newTestClient(tb testing.TB, iss *issuer, change func(*Config)) *Client {
	tb.Helper()
	config := Config{URL: iss.URL + "/introspect?tenant=a", ClientID: "the gateway", ClientSecret: secret}
	if change != nil {
		change(&config)
	}
	c, err := New(config, iss.URL, lax)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

// TestRequest: what the issuer is asked, and that it is told who asks, in both ways.
func TestRequest(t *testing.T) {
	for auth, tc := range map[string]struct{ header, id, secret string }{
		// base64 of the two, each encoded as a form is.
		"":    {"Basic dGhlK2dhdGV3YXk6czNjcmV0JTNBK3dpdGglMkZvZGQlMjVjaGFycyUyQmFuZCslQzMlQTQ=", "", ""},
		Basic: {"Basic dGhlK2dhdGV3YXk6czNjcmV0JTNBK3dpdGglMkZvZGQlMjVjaGFycyUyQmFuZCslQzMlQTQ=", "", ""},
		Post:  {"", "the gateway", secret},
	} {
		t.Run(auth, func(t *testing.T) {
			iss := newIssuer(t, says(active))
			c := newTestClient(t, iss, func(config *Config) { config.ClientAuth = auth })
			answer, err := c.Ask(t.Context(), "tok+en/=", time.Now())
			if err != nil || answer.Members["sub"] != "alice" {
				t.Fatalf("%v, %v", answer, err)
			}
			form, header := iss.asked[0], iss.headers[0]
			if form.Get("token") != "tok+en/=" || form.Get("token_type_hint") != "access_token" ||
				form.Get("client_id") != tc.id || form.Get("client_secret") != tc.secret {
				t.Errorf("the form is %v", form)
			}
			if header.Get("Authorization") != tc.header || header.Get("Accept") != "application/json" {
				t.Errorf("the header is %v", header)
			}
		})
	}
}

// TestAnswers has the issuer answer in every way that is not the one of RFC 7662.
func TestAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		err    string // empty: active; "inactive"
	}{
		"active":                   {says(active), ""},
		"inactive":                 {says(inactive), "inactive"},
		"inactive, and more":       {says(`{"active":false,"sub":"alice","exp":9999999999}`), "inactive"},
		"active is absent":         {says(`{"sub":"alice"}`), "does not say"},
		"active is null":           {says(`{"active":null}`), "does not say"},
		"active is a text":         {says(`{"active":"true"}`), "does not say"},
		"active is a number":       {says(`{"active":1}`), "does not say"},
		"active is an object":      {says(`{"active":{}}`), "does not say"},
		"Active":                   {says(`{"Active":true}`), "does not say"},
		"active twice":             {says(`{"active":false,"active":true}`), "not a JSON object"},
		"active twice, escaped":    {says(`{"active":true,"\u0061ctive":true}`), "not a JSON object"},
		"sub twice":                {says(`{"active":true,"sub":"bob","sub":"alice"}`), "not a JSON object"},
		"a member twice inside":    {says(`{"active":true,"a":{"b":1,"b":2}}`), "not a JSON object"},
		"null":                     {says(`null`), "not a JSON object"},
		"true":                     {says(`true`), "not a JSON object"},
		"an array":                 {says(`[{"active":true}]`), "not a JSON object"},
		"nothing":                  {says(``), "not a JSON object"},
		"half":                     {says(`{"active":true`), "not a JSON object"},
		"two":                      {says(active + active), "not a JSON object"},
		"a final comma":            {says(`{"active":true,}`), "not a JSON object"},
		"a comment":                {says(`{"active":true/**/}`), "not a JSON object"},
		"not UTF-8":                {says("{\"active\":true,\"sub\":\"\xff\"}"), "not a JSON object"},
		"too deep":                 {says(`{"active":true,"a":` + strings.Repeat("[", 15_000) + strings.Repeat("]", 15_000) + `}`), "not a JSON object"},
		"too large":                {says(active + strings.Repeat(" ", maxAnswer)), "larger than"},
		"as large as may be":       {says(active + strings.Repeat(" ", maxAnswer-len(active))), ""},
		"a JWT (RFC 9701)":         {labelled("application/token-introspection+jwt", active), "not application/json"},
		"HTML":                     {labelled("text/html", active), "not application/json"},
		"without a type":           {labelled("", active), "not application/json"},
		"compressed, as it says":   {encoded("gzip", "\x1f\x8b\x08\x00"), "not a JSON object"},
		"redirected to itself":     {redirects("/introspect"), "status 307"},
		"redirected elsewhere":     {redirects("http://evil.example/"), "status 307"},
		"204":                      {fails(204), "status 204"},
		"201":                      {labelledStatus(201, active), "status 201"},
		"400":                      {labelledStatus(400, active), "status 400"},
		"401":                      {labelledStatus(401, active), "check client_id"},
		"403":                      {labelledStatus(403, active), "check client_id"},
		"404":                      {labelledStatus(404, active), "status 404"},
		"429":                      {labelledStatus(429, active), "status 429"},
		"500":                      {labelledStatus(500, active), "status 500"},
		"503":                      {labelledStatus(503, active), "status 503"},
		"cut off":                  {cutOff, "unexpected EOF"},
		"closed without an answer": {closes, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			iss := newIssuer(t, tc.answer)
			c := newTestClient(t, iss, nil)
			const raw = "the-token-itself"
			answer, err := c.Ask(t.Context(), raw, time.Now())
			var down *UnavailableError
			switch {
			case tc.err == "":
				if err != nil || answer.Members["active"] != true {
					t.Fatalf("%v, %v", answer, err)
				}
				return
			case answer != nil:
				t.Fatalf("accepted: %v", answer.Members)
			case tc.err == "inactive":
				if !errors.Is(err, ErrInactive) {
					t.Error(err)
				}
				return
			case !errors.As(err, &down) || !strings.Contains(err.Error(), tc.err):
				t.Errorf("error %v, want %q", err, tc.err)
			case down.RetryAfter < time.Second:
				t.Errorf("to be tried again after %s", down.RetryAfter)
			}
			for _, hidden := range []string{raw, secret, "alice", "tenant"} {
				if strings.Contains(err.Error(), hidden) {
					t.Errorf("the error repeats %q: %v", hidden, err)
				}
			}
			if n := iss.count(); n > 1 && name != "closed without an answer" {
				t.Errorf("%d questions for one", n)
			}
		})
	}
}

func labelled(media, text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{media}
		_, _ = io.WriteString(w, text)
	}
}

func labelledStatus(status int, text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

func encoded(encoding, text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", encoding)
		says(text)(w, r)
	}
}

func redirects(to string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusTemporaryRedirect) }
}

func cutOff(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, active)
}

func closes(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// TestTokenIsNotRepeated: what an issuer gives as the token's identifier may be the token
// itself, which must get into no log.
func TestTokenIsNotRepeated(t *testing.T) {
	iss := newIssuer(t, says(`{"active":true,"jti":"opaque","sub":"alice","access_token":"opaque"}`))
	answer, err := newTestClient(t, iss, nil).Ask(t.Context(), "opaque", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := json.Marshal(answer.Members); string(text) != `{"active":true,"sub":"alice"}` {
		t.Errorf("the answer is %s", text)
	}
}

// TestDiscovery finds the endpoint in the issuer's metadata, and nowhere else.
func TestDiscovery(t *testing.T) {
	for name, tc := range map[string]struct{ metadata, err string }{
		"found":            {`{"issuer":"SELF","introspection_endpoint":"SELF/found"}`, ""},
		"no metadata":      {"", "status 404"},
		"no endpoint":      {`{"issuer":"SELF","jwks_uri":"SELF/jwks"}`, "introspection_endpoint"},
		"another issuer's": {`{"issuer":"https://evil.example","introspection_endpoint":"SELF/found"}`, "another issuer"},
		"not permitted":    {`{"issuer":"SELF","introspection_endpoint":"http://far.example/"}`, "not permitted"},
		"a file":           {`{"issuer":"SELF","introspection_endpoint":"file:///etc/passwd"}`, "no host"},
		"with credentials": {`{"issuer":"SELF","introspection_endpoint":"https://a:b@c.example/"}`, "credentials"},
		"issuer twice":     {`{"issuer":"x","issuer":"SELF","introspection_endpoint":"SELF/found"}`, "not a metadata document"},
	} {
		t.Run(name, func(t *testing.T) {
			iss := newIssuer(t, says(active))
			iss.metadata = strings.ReplaceAll(tc.metadata, "SELF", iss.URL)
			rules := lax
			rules.Permitted = func(u *url.URL) error {
				if u.Hostname() == "far.example" {
					return errors.New("not permitted")
				}
				return nil
			}
			c, err := New(Config{ClientID: "a", ClientSecret: secret}, iss.URL, rules)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, err = c.Ask(t.Context(), "opaque", time.Now())
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			if n := iss.count(); (n == 1) != (tc.err == "") {
				t.Errorf("%d questions", n)
			}
		})
	}
}

// TestReady looks for the endpoint in the background, before anybody asks.
func TestReady(t *testing.T) {
	iss := newIssuer(t, says(active))
	c, err := New(Config{ClientID: "a", ClientSecret: secret}, iss.URL, lax)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	now := time.Now()
	if err := c.Ready(now); err == nil {
		t.Error("ready before anything is known")
	}
	eventually(t, "the endpoint", func() bool { return c.Ready(now) == nil })
	iss.set(fails(500))
	if _, err := c.Ask(t.Context(), "opaque", now); err == nil {
		t.Fatal("accepted")
	}
	if err := c.Ready(now); err == nil || !strings.Contains(err.Error(), "status 500") {
		t.Errorf("with an issuer that is down: %v", err)
	}
	// Nobody sends a token to a gateway that is not ready.
	iss.set(says(inactive))
	eventually(t, "the issuer to be found back", func() bool { return c.Ready(now) == nil })
	iss.set(fails(500))
	for range tolerated {
		_, _ = c.Ask(t.Context(), "another "+time.Now().String(), now)
	}
	before := iss.count()
	for range 100 {
		if c.Ready(now) == nil {
			t.Fatal("ready while it is down")
		}
	}
	if n := iss.count(); n != before {
		t.Errorf("an issuer that is down was asked %d times", n-before)
	}
	iss.set(says(inactive))
	eventually(t, "the issuer to be found back after a pause", func() bool { return c.Ready(now.Add(time.Minute)) == nil })
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !is(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestConfig refuses what cannot work, or would show the secret.
func TestConfig(t *testing.T) {
	t.Setenv("INTROSPECT_TEST_SECRET", secret)
	const at = "https://login.example.com"
	strict := lax
	strict.Object = func(unsafe error) error { return unsafe }
	strict.Configured = func(u *url.URL) error {
		if u.Scheme != "https" {
			return errors.New("must be https")
		}
		return nil
	}
	strict.Permitted = strict.Configured
	good := Config{ClientID: "a", ClientSecret: "{env.INTROSPECT_TEST_SECRET}"}
	for name, tc := range map[string]struct {
		issuer string
		change func(*Config)
		err    string
	}{
		"good":                   {at, func(*Config) {}, ""},
		"with an address":        {"name", func(c *Config) { c.URL = at + "/introspect?a=b" }, ""},
		"without client_id":      {at, func(c *Config) { c.ClientID = "" }, "client_id and client_secret"},
		"without client_secret":  {at, func(c *Config) { c.ClientSecret = "" }, "client_id and client_secret"},
		"a secret":               {at, func(c *Config) { c.ClientSecret = "hunter2 itself" }, "written into the configuration"},
		"an unknown placeholder": {at, func(c *Config) { c.ClientSecret = "{env.hunter2}" }, "unknown or empty"},
		"client_auth":            {at, func(c *Config) { c.ClientAuth = "none" }, "client_auth"},
		"cache too long":         {at, func(c *Config) { c.Cache = caddy.Duration(MaxCache + 1) }, "cache"},
		"cache negative":         {at, func(c *Config) { c.Cache = -1 }, "cache"},
		"timeout too long":       {at, func(c *Config) { c.Timeout = caddy.Duration(maxTimeout + 1) }, "timeout"},
		"timeout negative":       {at, func(c *Config) { c.Timeout = -1 }, "timeout"},
		"max_rate negative":      {at, func(c *Config) { c.MaxRate = -1 }, "max_rate"},
		"http":                   {at, func(c *Config) { c.URL = "http://login.example.com/" }, "must be https"},
		"credentials":            {at, func(c *Config) { c.URL = "https://a:b@login.example.com/" }, "credentials"},
		"no URL":                 {"name", func(*Config) {}, "write down the URL"},
		"issuer with http":       {"http://login.example.com", func(*Config) {}, "must be https"},
		"issuer with a query":    {at + "?a=b", func(*Config) {}, "has a query"},
	} {
		config := good
		tc.change(&config)
		_, err := New(config, tc.issuer, strict)
		if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: %v, want %q", name, err, tc.err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows the secret: %v", name, err)
		}
		if text := fmt.Sprint(config); strings.Contains(text, secret) {
			t.Errorf("%s: the secret was put into the configuration: %s", name, text)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, text := range []string{
		active, inactive, `{"active":true,"active":false}`, `{"active":true,"jti":"opaque"}`, `null`, ``, `{"active":true,"a":[{}]}`,
		"{\"active\":true,\"sub\":\"\xff\"}", `{"\u0061ctive":true}`, " {\n\"active\" : true }\t",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		members, err := read(body, "opaque")
		var lenient map[string]any
		valid := json.Unmarshal(body, &lenient) == nil
		switch {
		case err == nil:
			if members["active"] != true || !valid || lenient["active"] != true {
				t.Fatalf("%q is accepted as %v", body, members)
			}
			for name, value := range members {
				if value == any("opaque") {
					t.Fatalf("%q: the token is repeated in %q", body, name)
				}
			}
		case members != nil:
			t.Fatalf("%q: both %v and %v", body, members, err)
		case errors.Is(err, ErrInactive):
			if !valid || lenient["active"] != false {
				t.Fatalf("%q is taken for inactive", body)
			}
		}
	})
}
