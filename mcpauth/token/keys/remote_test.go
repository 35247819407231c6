package keys

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/metadata"
)

func TestNothingIsFetchedWhileLoading(t *testing.T) {
	iss := newIssuer(t, "a")
	gen := mustLoad(t, iss)
	wantFetches(t, iss, 0)
	if err := gen.Ready(start); err == nil {
		t.Error("ready before there are keys")
	}
	gen.settled() // Ready has begun to fetch
	wantFetches(t, iss, 1)
	if err := gen.Ready(start); err != nil {
		t.Errorf("not ready with keys: %v", err)
	}
	if gen.count(t, "a", 0) != 1 || gen.count(t, "", 0) != 1 {
		t.Error("the key is missing")
	}
	wantFetches(t, iss, 1)
}

func TestRotation(t *testing.T) {
	iss := newIssuer(t, "a")
	gen := mustLoad(t, iss)
	if gen.count(t, "a", 0) != 1 {
		t.Fatal("a is missing")
	}
	epoch := gen.Epoch()

	iss.change(func() { iss.keys["b"] = newPublic() })
	if gen.count(t, "b", 29*time.Second) != 0 {
		t.Error("b was fetched before the minimum interval was over")
	}
	if gen.count(t, "b", 30*time.Second) != 1 || gen.count(t, "a", 30*time.Second) != 1 {
		t.Error("b was not fetched when a token named it")
	}
	if gen.Epoch() != epoch {
		t.Error("an added key changed the epoch")
	}

	iss.change(func() { delete(iss.keys, "a") })
	if gen.count(t, "c", time.Minute) != 0 || gen.count(t, "a", time.Minute) != 0 {
		t.Error("the withdrawn key a is still known")
	}
	if gen.Epoch() == epoch {
		t.Error("a withdrawn key did not change the epoch")
	}

	epoch = gen.Epoch()
	iss.change(func() { iss.keys["b"] = newPublic() })
	gen.count(t, "c", 2*time.Minute)
	if gen.Epoch() == epoch {
		t.Error("a replaced key of the same kid did not change the epoch")
	}
	wantFetches(t, iss, 4)
}

func TestOldKeysAreRefreshedInTheBackground(t *testing.T) {
	iss := newIssuer(t, "a")
	gen := mustLoad(t, iss)
	gen.count(t, "a", 0)
	gen.count(t, "a", 8*time.Minute)
	gen.settled()
	wantFetches(t, iss, 1)

	gate := make(chan struct{})
	iss.change(func() { iss.gate = gate })
	for range 100 {
		if gen.count(t, "a", 12*time.Minute) != 1 { // answers although the issuer does not
			t.Fatal("a is missing")
		}
	}
	<-iss.arrived
	close(gate)
	gen.settled()
	wantFetches(t, iss, 2)
}

// G6 of the soundness checklist.
func TestUnknownKidFlood(t *testing.T) {
	iss := newIssuer(t, "a")
	gen := mustLoad(t, iss)
	gen.count(t, "a", 0)
	for round := range 4 {
		after := time.Duration(round) * 30 * time.Second
		var group sync.WaitGroup
		for i := range 20 {
			group.Go(func() {
				for j := range 50 {
					keys, _, err := gen.Keys(t.Context(), fmt.Sprint(round, i, j), start.Add(after))
					if err != nil || len(keys) != 0 {
						t.Errorf("got %v, %v", keys, err)
					}
				}
			})
		}
		group.Wait()
		wantFetches(t, iss, 1+int32(round))
	}
}

func TestIssuerDownKeepsLastGoodKeys(t *testing.T) {
	for name, broken := range map[string]func(*issuer){
		"status":    func(iss *issuer) { iss.status = http.StatusInternalServerError },
		"not JSON":  func(iss *issuer) { iss.body = "<html>" },
		"no keys":   func(iss *issuer) { iss.body = "{}" },
		"duplicate": func(iss *issuer) { iss.body = `{"keys":[],"keys":[]}` },
		"too large": func(iss *issuer) { iss.body = `{"keys":[]}` + strings.Repeat(" ", metadata.MaxBody) },
	} {
		t.Run(name, func(t *testing.T) {
			iss := newIssuer(t, "a")
			gen := mustLoad(t, iss)
			gen.count(t, "a", 0)
			epoch := gen.Epoch()
			iss.change(func() { broken(iss) })
			for i := range 3 {
				after := time.Hour + time.Duration(i)*time.Minute
				if gen.count(t, "a", after) != 1 {
					t.Fatal("a was lost")
				}
				gen.settled()
			}
			wantFetches(t, iss, 4)
			if gen.count(t, "a", 2*time.Hour) != 1 || gen.Epoch() != epoch || gen.Ready(start) != nil {
				t.Error("the last good keys were lost")
			}
			warned := gen.logs.FilterMessage("fetching the issuer's keys failed").All()
			if len(warned) < 3 {
				t.Fatalf("%d failures were logged", len(warned))
			}
			if fields := warned[0].ContextMap(); fields["keys_age"] != time.Hour || fields["failures"] != int64(1) {
				t.Errorf("logged %v", fields)
			}
		})
	}
}

func TestIssuerDownFromTheStart(t *testing.T) {
	iss := newIssuer(t, "a")
	iss.status = http.StatusServiceUnavailable
	gen := mustLoad(t, iss)
	ask := func(after time.Duration) error {
		_, _, err := gen.Keys(t.Context(), "a", start.Add(after))
		return err
	}
	attempts := []int{0, 1, 3, 7, 15, 31, 61, 91}
	for second := range 100 {
		before := iss.fetches.Load()
		if err := ask(time.Duration(second) * time.Second); !strings.Contains(errorText(err), "status 503") {
			t.Fatalf("got %v", err)
		}
		if tried := iss.fetches.Load() > before; tried != slices.Contains(attempts, second) {
			t.Errorf("after %d s: attempt %v", second, tried)
		}
	}
	if err := gen.Ready(start); err == nil {
		t.Error("ready without keys")
	}
	iss.change(func() { iss.status = 0 })
	if err := ask(200 * time.Second); err != nil {
		t.Errorf("did not recover: %v", err)
	}
	if err := gen.Ready(start); err != nil {
		t.Errorf("not ready: %v", err)
	}
	// What went wrong before is forgotten.
	iss.change(func() { iss.status = http.StatusServiceUnavailable })
	gen.count(t, "b", 300*time.Second)
	warned := gen.logs.FilterMessage("fetching the issuer's keys failed").All()
	if failures := warned[len(warned)-1].ContextMap()["failures"]; failures != int64(1) {
		t.Errorf("logged %v failures in a row", failures)
	}
}

func TestIssuerThatWithdrawsAllKeysIsBelieved(t *testing.T) {
	iss := newIssuer(t, "a")
	gen := mustLoad(t, iss)
	gen.count(t, "a", 0)
	epoch := gen.Epoch()
	iss.change(func() { clear(iss.keys) })
	gen.count(t, "b", time.Minute)
	if gen.count(t, "a", time.Minute) != 0 || gen.Epoch() == epoch {
		t.Error("a withdrawn key is still known")
	}
	if gen.Ready(start) == nil {
		t.Error("ready without keys")
	}
}

func TestOneFetchForManyRequests(t *testing.T) {
	iss := newIssuer(t, "a")
	gate := make(chan struct{})
	iss.gate = gate
	gen := mustLoad(t, iss)
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if keys, _, err := gen.Keys(t.Context(), "a", start); err != nil || len(keys) != 1 {
				t.Errorf("got %v, %v", keys, err)
			}
		})
	}
	<-iss.arrived
	close(gate)
	group.Wait()
	wantFetches(t, iss, 1)
}

func TestCancelledWaiterDoesNotCancelTheFetch(t *testing.T) {
	iss := newIssuer(t, "a")
	gate := make(chan struct{})
	iss.gate = gate
	gen := mustLoad(t, iss)
	gone := errors.New("the client has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	result := make(chan error)
	go func() {
		_, _, err := gen.Keys(ctx, "a", start)
		result <- err
	}()
	<-iss.arrived
	cancel(gone)
	if err := <-result; !errors.Is(err, gone) { // while the issuer still thinks
		t.Errorf("the waiter got %v", err)
	}
	close(gate)
	if gen.count(t, "a", 0) != 1 {
		t.Error("the fetch was given up")
	}
	wantFetches(t, iss, 1)
}

func TestTimeout(t *testing.T) {
	iss := newIssuer(t, "a")
	gate := make(chan struct{})
	iss.gate = gate
	defer close(gate)
	gen, err := load(t, "jwks", map[string]string{"url": iss.URL + "/jwks", "timeout": "10ms"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := gen.Keys(t.Context(), "a", start); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestRedirects(t *testing.T) {
	iss := newIssuer(t, "a")
	for name, tc := range map[string]struct {
		target func(self string) string
		err    string
	}{
		"same host":  {func(self string) string { return self + "/final" }, ""},
		"other host": {func(string) string { return iss.URL + "/jwks" }, "redirect to another host"},
		"other name": {func(self string) string { return strings.Replace(self, "127.0.0.1", "localhost", 1) + "/final" }, "redirect to another host"},
		"loop":       {func(self string) string { return self + "/start" }, "too many redirects"},
		"other scheme": {
			func(self string) string { return strings.Replace(self, "http:", "https:", 1) + "/final" },
			"redirect to another host",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var server *httptest.Server
			server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/start" {
					http.Redirect(w, r, tc.target(server.URL), http.StatusFound)
					return
				}
				_, _ = w.Write([]byte(keySetText(iss.keys)))
			}))
			defer server.Close()
			gen, err := load(t, "jwks", map[string]string{"url": server.URL + "/start?code=s3cret"}, "")
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = gen.Keys(t.Context(), "a", start)
			if got := errorText(err); (got == "") != (tc.err == "") || !strings.Contains(got, tc.err) || strings.Contains(got, "s3cret") {
				t.Errorf("got %q, want %q", got, tc.err)
			}
		})
	}
	wantFetches(t, iss, 0)
}

func TestReloadSharesTheKeys(t *testing.T) {
	iss := newIssuer(t, "a")
	old := mustLoad(t, iss)
	old.count(t, "a", 0)
	key := old.key
	next := mustLoad(t, iss)
	wantReferences(t, key, 2)
	old.end()
	wantReferences(t, key, 1)
	iss.change(func() { iss.status = http.StatusInternalServerError })
	if next.count(t, "a", 0) != 1 || next.Ready(start) != nil {
		t.Error("the new generation has no keys")
	}
	wantFetches(t, iss, 1)
	state := next.state
	next.end()
	wantReferences(t, key, 0)
	if state.ctx.Err() == nil {
		t.Error("the shared state was not ended")
	}
}

func TestRejectedConfigurationReleasesNothing(t *testing.T) {
	iss := newIssuer(t, "a")
	live := mustLoad(t, iss)
	live.count(t, "a", 0)
	address := iss.URL + "/jwks"
	for name, config := range map[string]any{
		"negative interval": map[string]any{"url": address, "timeout": -1},
		"unknown option":    map[string]any{"url": address, "retries": 1},
	} {
		if _, err := load(t, "jwks", config, ""); err == nil {
			t.Errorf("%s was accepted", name)
		}
		wantReferences(t, live.key, 1)
	}
	// This one fails after its source has taken the keys.
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	rejected := &token.Issuer{
		Issuer: "a", Algorithms: []string{"HS256"}, KeysRaw: []byte(`{"source":"jwks","url":"` + address + `"}`),
	}
	if err := rejected.Provision(ctx); err == nil {
		t.Error("HS256 with a JWK Set was accepted")
	}
	wantReferences(t, live.key, 2)
	cancel()
	wantReferences(t, live.key, 1)
	if live.count(t, "a", 0) != 1 {
		t.Error("the live configuration lost its keys")
	}
}

func wantReferences(tb testing.TB, key remoteKey, want int) {
	tb.Helper()
	if got, _ := remotes.References(key); got != want {
		tb.Fatalf("the keys are held by %d generations, want %d", got, want)
	}
}

func TestCheckURL(t *testing.T) {
	for address, want := range map[string]string{
		"https://a.example/jwks":      "",
		"https://a.example/jwks?a=b":  "",
		"https://[2001:db8::1]/":      "",
		"http://127.0.0.1:80/":        "",
		"http://[::1]/":               "",
		"http://LOCALHOST/":           "",
		"http://a.example/jwks":       "must be https",
		"http://127.0.0.1.example/":   "must be https",
		"http://localhost.example/":   "must be https",
		"http://10.0.0.1/":            "must be https",
		"file:///etc/passwd":          "no host",
		"ftp://a.example/":            "must be https",
		"https://user:pw@a.example/":  "credentials",
		"https://a.example/#fragment": "fragment",
		"https:///path":               "no host",
		"https://:443/":               "no host",
		"a.example":                   "no host",
		"https://a.example/%zz":       "malformed",
		"":                            "no host",
	} {
		_, err := (&Remote{logger: zap.NewNop()}).checkURL(address)
		if got := errorText(err); (got == "") != (want == "") || !strings.Contains(got, want) || strings.Contains(got, "pw") {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
	}
}
