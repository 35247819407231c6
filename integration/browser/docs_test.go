package browser_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	_ "github.com/caddymcp/caddy-mcp-gateway"
	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

const (
	email = "bob@example.com"
	first = "Tulip-42 walks sideways"
	next  = "Marble*7 owes the tailor"
)

// startGateway starts Caddy with a gateway that shows its docs to whoever has an
// account, and gives the user a password that need not be changed.
func startGateway(t *testing.T) (url string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"} {
		t.Setenv(name, dir)
	}
	t.Setenv("BROWSER_TEST_ADMIN", "seven Quiet otters 9 row upstream")
	t.Setenv("BROWSER_TEST_BOB", first)
	addr, err := launch.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	url = "http://" + addr
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(fmt.Appendf(nil, `
{
	admin off
	persist_config off
	auto_https off
	log {
		output file %[1]s/log
	}
	mcp_gateway {
		store embedded %[1]s/state.db
		tokens %[2]s
		accounts {
			administrator admin@example.com {
				password {env.BROWSER_TEST_ADMIN}
			}
			user bob@example.com {
				password {env.BROWSER_TEST_BOB}
			}
		}
	}
}
%[2]s {
	mcp_admin {
		public_url %[2]s
		login on
		registration on
		login_rate 1000
		docs on
		docs_basic_auth on
		api_basic_auth on
	}
}
`, dir, url), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	// The accounts are made beside the start, so the first answers are 401.
	body := fmt.Sprintf(`{"email":%q,"password":%q,"new_password":%q}`, email, first, next)
	for ctx, deadline := t.Context(), time.Now().Add(time.Minute); ; {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/auth/password", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		r, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode == http.StatusOK {
			return url
		}
		if time.Now().After(deadline) {
			t.Fatalf("the password is not changed: %d %s", r.StatusCode, text)
		}
	}
}

// watch is what a browser tells about a page while it is open.
type watch struct {
	mu        sync.Mutex
	requested []string
	// complaints are what the console shows as an error or a warning: exceptions,
	// what failed to load, and what the page's policy has kept back.
	complaints []string
	challenges int
}

// challenged is how often the browser was asked for a password.
func (w *watch) challenged() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.challenges
}

// startBrowser starts Chromium, which answers a challenge once, with what the function
// says.
func startBrowser(t *testing.T, user, password string) (context.Context, *watch) {
	t.Helper()
	path := ""
	for _, name := range []string{"/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"} {
		if _, err := os.Stat(name); err == nil {
			path = name
			break
		}
	}
	if path == "" {
		t.Fatal("there is no Chromium; make test installs it")
	}
	w := new(watch)
	complain := func(text string) {
		w.mu.Lock()
		w.complaints = append(w.complaints, text)
		w.mu.Unlock()
	}
	// What must be told to the browser, told by another goroutine than the one that
	// hears it.
	answers := make(chan chromedp.Action[chromedp.Void], 100)
	answer := func(call func(ctx context.Context, t *chromedp.Target) error) { answers <- chromedp.Func(call) }
	hear := func(event any) {
		switch event := event.(type) {
		case *network.EventRequestWillBeSent:
			w.mu.Lock()
			w.requested = append(w.requested, event.Request.URL)
			w.mu.Unlock()
		case *log.EventEntryAdded:
			complain(fmt.Sprintf("%s: %s", event.Entry.Level, event.Entry.Text))
		case *runtime.EventConsoleAPICalled:
			complain(fmt.Sprintf("console.%s", event.Type))
		case *runtime.EventExceptionThrown:
			complain(event.ExceptionDetails.Text)
		case *fetch.EventRequestPaused:
			answer(func(ctx context.Context, t *chromedp.Target) error {
				_, err := cdp.Call(ctx, t, fetch.ContinueRequest, fetch.ContinueRequestParams{RequestID: event.RequestID})
				return err
			})
		case *fetch.EventAuthRequired:
			w.mu.Lock()
			w.challenges++
			given := &fetch.AuthChallengeResponse{Response: "ProvideCredentials", Username: user, Password: password}
			if w.challenges > 1 {
				given = &fetch.AuthChallengeResponse{Response: "CancelAuth"}
			}
			w.mu.Unlock()
			answer(func(ctx context.Context, t *chromedp.Target) error {
				_, err := cdp.Call(ctx, t, fetch.ContinueWithAuth, fetch.ContinueWithAuthParams{RequestID: event.RequestID, AuthChallengeResponse: given})
				return err
			})
		}
	}
	// A container has no user namespaces to make a sandbox of, and root cannot have one;
	// the only page that is opened is our own.
	ctx, end := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(2*time.Minute))...)
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx, chromedp.WithListener(hear))
	t.Cleanup(end)
	handle := true
	if err := chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, first := cdp.Call(ctx, t, log.Enable, cdp.Empty{})
		_, second := cdp.Call(ctx, t, network.Enable, network.EnableParams{})
		_, third := cdp.Call(ctx, t, fetch.Enable, fetch.EnableParams{HandleAuthRequests: &handle})
		return errors.Join(first, second, third)
	})); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			select {
			case a := <-answers:
				if err := chromedp.Do(ctx, a); err != nil {
					complain(err.Error())
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	limited, end := context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(end)
	return limited, w
}

// look evaluates an expression in the page.
func look[T any](ctx context.Context, t *testing.T, expression string) T {
	t.Helper()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// operations are what the description has, as the page lists it.
func operations(t *testing.T, url string) (all []string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/openapi.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(email, next)
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var document struct {
		Paths map[string]map[string]struct{ Summary string }
	}
	if err := json.NewDecoder(r.Body).Decode(&document); err != nil {
		t.Fatal(err)
	}
	for path, methods := range document.Paths {
		for method, o := range methods {
			all = append(all, strings.ToUpper(method)+" "+path+" "+o.Summary)
		}
	}
	return all
}

// TestDocs reads the docs as a person does, who is asked for a password by the browser.
func TestDocs(t *testing.T) {
	url := startGateway(t)
	ctx, w := startBrowser(t, email, next)

	if err := chromedp.Do(ctx, chromedp.Navigate(url+"/docs"), chromedp.WaitVisible(chromedp.CSS("main summary"))); err != nil {
		t.Fatal(err)
	}
	title := look[string](ctx, t, `document.title`)
	listed := look[[]string](ctx, t, `[...document.querySelectorAll("main summary")].map(s => s.innerText.replace(/\s+/g, " ").trim())`)
	if n := w.challenged(); title != "MCP gateway API" || n != 1 {
		t.Errorf("the page is %q, after %d challenges", title, n)
	}
	shown := map[string]bool{}
	for _, line := range listed {
		shown[line] = true
	}
	expected := operations(t, url)
	for _, o := range expected {
		if !shown[o] {
			t.Errorf("the page does not list %q: %q", o, listed)
		}
	}
	if len(listed) != len(expected) || len(expected) == 0 {
		t.Errorf("%d operations are listed, there are %d", len(listed), len(expected))
	}

	t.Run("landmarks", func(t *testing.T) {
		tree, err := chromedp.Run(ctx, func(ctx context.Context, t *chromedp.Target) (accessibility.GetFullAXTreeResult, error) {
			return cdp.Call(ctx, t, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		})
		if err != nil {
			t.Fatal(err)
		}
		roles := map[string]int{}
		for _, node := range tree.Nodes {
			if node.Ignored || node.Role == nil {
				continue
			}
			var role string
			if err := json.Unmarshal(node.Role.Value, &role); err != nil {
				t.Fatal(err)
			}
			roles[role]++
		}
		for _, role := range []string{"banner", "navigation", "main", "contentinfo"} {
			if roles[role] != 1 {
				t.Errorf("there are %d of %s: %v", roles[role], role, roles)
			}
		}
		if n := look[int](ctx, t, `document.querySelectorAll("h1").length`); n != 1 {
			t.Errorf("there are %d headings of the first level", n)
		}
	})

	t.Run("keyboard", func(t *testing.T) {
		press := func(key string) {
			if err := chromedp.Do(ctx, chromedp.KeyEvent(key)); err != nil {
				t.Fatal(err)
			}
		}
		press(kb.Tab)
		focused := look[string](ctx, t, `document.activeElement.textContent`)
		press(kb.Enter)
		hash := look[string](ctx, t, `location.hash`)
		// The next stop is the first operation.
		press(kb.Tab)
		press(kb.Enter)
		open := look[bool](ctx, t, `document.activeElement === document.querySelector("main summary") && document.querySelector("main details").open`)
		if focused != "Skip to the operations" || hash != "#main" || !open {
			t.Errorf("the first stop is %q, which leads to %q; the first operation is open: %v", focused, hash, open)
		}
	})

	t.Run("light, dark and narrow", func(t *testing.T) {
		colours := map[string]string{}
		for _, scheme := range []string{"light", "dark"} {
			if err := chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
				_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
				})
				return err
			})); err != nil {
				t.Fatal(err)
			}
			colours[scheme] = look[string](ctx, t, `getComputedStyle(document.body).backgroundColor`)
			picture(ctx, t, scheme, 1200)
		}
		if colours["light"] == colours["dark"] {
			t.Errorf("the page is %v", colours)
		}
		if err := chromedp.Do(ctx, chromedp.EmulateViewport(320, 640)); err != nil {
			t.Fatal(err)
		}
		if width := look[int](ctx, t, `document.documentElement.scrollWidth`); width > 320 {
			t.Errorf("the page is %d wide on a phone of 320", width)
		}
		picture(ctx, t, "narrow", 320)
	})

	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.complaints) > 0 {
		t.Errorf("the browser complains: %q", w.complaints)
	}
	if len(w.requested) == 0 {
		t.Error("the browser has told of no request")
	}
	for _, requested := range w.requested {
		if requested != url+"/docs" && requested != url+"/docs#main" {
			t.Errorf("the page makes the browser ask for %s", requested)
		}
	}
}

// picture writes what is to be seen into the folder that BROWSER_PICTURES names, for a
// look at it.
func picture(ctx context.Context, t *testing.T, name string, width int64) {
	t.Helper()
	dir := os.Getenv("BROWSER_PICTURES")
	if dir == "" {
		return
	}
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(width, 900)); err != nil {
		t.Fatal(err)
	}
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDocsClosed: with a wrong password there is nothing to be seen but the refusal.
func TestDocsClosed(t *testing.T) {
	url := startGateway(t)
	ctx, w := startBrowser(t, email, first)
	if err := chromedp.Do(ctx, chromedp.Navigate(url+"/docs")); err != nil {
		t.Fatal(err)
	}
	text := look[string](ctx, t, `document.body.innerText`)
	if n := w.challenged(); n != 2 || !strings.Contains(text, "credentials_invalid") || strings.Contains(text, "/auth/") {
		t.Errorf("after %d challenges the page is %q", n, text)
	}
}
