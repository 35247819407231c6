package mcpadmin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddymcp/caddy-mcp-gateway"
	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

// Passwords, which must be nowhere but in requests.
const (
	adminFirst = "seven Quiet otters 9 row upstream"
	adminNext  = "Granite 5 umbrellas; one violin"
	bobFirst   = "Tulip-42 walks sideways"
	bobNext    = "Marble*7 owes the tailor"
	anna       = "Pencil 9 rides the moon"
)

type object = map[string]any

// world is a gateway in this process, as its Caddyfile makes it, in front of a server.
type world struct {
	t             *testing.T
	url, dir, log string
	upstream      *httptest.Server
	mu            sync.Mutex
	got           []string
	secrets       []string
	global, site  string
	// endpoint is the address of Caddy's admin endpoint, or off.
	endpoint string
	// more are further sites, store is where the state is kept, by default in a file.
	more, store string
	// settled is whether those who have accounts have changed their first passwords.
	settled bool
	// contract is what the handler says about itself, if there is one.
	contract *contract
}

const (
	accounts = `
		accounts {
			administrator admin@example.com {
				password {env.MCPADMIN_TEST_ADMIN}
			}
			user bob@example.com {
				name "Bob"
				password {env.MCPADMIN_TEST_BOB}
				roles reader
			}
			team support {
				owners bob@example.com
			}
		}`
	// quick has no password to be hashed.
	quick = `
		accounts {
			administrator bob@example.com {
				password_hash $argon2id$v=19$m=8192,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc
			}
		}`
	loginOn = "login on\n\t\tlogin_rate 1000"
)

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Setenv("MCPADMIN_TEST_ADMIN", adminFirst)
	t.Setenv("MCPADMIN_TEST_BOB", bobFirst)
	dir := t.TempDir()
	for _, name := range []string{"HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"} {
		t.Setenv(name, dir)
	}
	addr, err := launch.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, url: "http://" + addr, dir: dir, global: hashed, site: loginOn, endpoint: "off", store: "embedded " + filepath.Join(dir, "state.db")}
	w.log = filepath.Join(w.dir, "log")
	w.upstream = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.mu.Lock()
		w.got = append(w.got, string(body))
		if r.Method == http.MethodDelete {
			w.got = append(w.got, "DELETE "+r.Header.Get("Mcp-Session-Id"))
		}
		w.mu.Unlock()
		rw.Header().Set("Content-Type", "application/json")
		if strings.Contains(string(body), `"method":"initialize"`) {
			rw.Header().Set("Mcp-Session-Id", "recognisable-upstream-session")
			_, _ = io.WriteString(rw, `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}`)
			return
		}
		_, _ = io.WriteString(rw, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","tools":[]}}`)
	}))
	t.Cleanup(w.upstream.Close)
	t.Cleanup(w.stop)
	t.Cleanup(w.wantNoSecrets)
	w.secrets = []string{adminFirst, adminNext, bobFirst, bobNext, anna}
	return w
}

func (w *world) caddyfile() string {
	return fmt.Sprintf(`
{
	admin %[6]s
	persist_config off
	auto_https off
	log {
		output file %[1]s/log
		level DEBUG
	}
	mcp_gateway {
		store %[8]s
		tokens %[2]s
		%[3]s
	}
}
%[2]s {
	mcp_gateway {
		public_url %[2]s
		issuer %[2]s {
			keys gateway
		}
		role reader {
			when roles reader
			allow tools.read
		}
		server tickets %[4]s
		visibility tickets team support
		%[5]s
	}
}
%[7]s`, w.dir, w.url, w.global, w.upstream.Listener.Addr(), w.site, w.endpoint, w.more, w.store)
}

// load loads the configuration.
func (w *world) load() error {
	w.t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(w.caddyfile()), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	for _, secret := range w.secrets {
		if strings.Contains(string(config), secret) {
			w.t.Errorf("the configuration holds %q", secret)
		}
	}
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	w.contract = newContract(w.t)
	return nil
}

// start loads it, and waits until the accounts are there.
func (w *world) start() {
	w.t.Helper()
	if err := w.load(); err != nil {
		w.t.Fatal(err)
	}
	if w.settled {
		return // they are there
	}
	statetest.Eventually(w.t, "the accounts are made", func() bool {
		text, err := os.ReadFile(w.log)
		return err == nil && strings.Contains(string(text), `"target":"bob@example.com"`)
	})
}

func (w *world) stop() {
	if err := caddy.Stop(); err != nil {
		w.t.Error(err)
	}
}

// reply is an answer.
type reply struct {
	t      *testing.T
	status int
	header http.Header
	text   string
	body   object
}

func (r *reply) want(status int, reason string) *reply {
	r.t.Helper()
	got, _ := r.body["reason"].(string)
	if r.status != status || got != reason {
		r.t.Errorf("got %d %q, expected %d %q: %s", r.status, got, status, reason, r.text)
	}
	return r
}

// str is a member of the answer that is a string.
func (r *reply) str(member string) string {
	r.t.Helper()
	text, _ := r.body[member].(string)
	if text == "" {
		r.t.Fatalf("there is no %s in %s", member, r.text)
	}
	return text
}

func (w *world) do(method, path, token, kind, body string) *reply {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return w.send(request)
}

// client has a connection for each request: a reload closes those that are idle.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// send sends a request. Just after a reload, Caddy's old listener may take a connection
// that it then drops unserved: such a request is sent again.
func (w *world) send(request *http.Request) *reply {
	w.t.Helper()
	var sent []byte
	if request.GetBody != nil {
		body, err := request.GetBody()
		if err != nil {
			w.t.Fatal(err)
		}
		if sent, err = io.ReadAll(body); err != nil {
			w.t.Fatal(err)
		}
	}
	response, err := client.Do(request)
	for range 5 {
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			break
		}
		if request.GetBody != nil {
			request.Body, _ = request.GetBody()
		}
		response, err = client.Do(request)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	r := &reply{t: w.t, status: response.StatusCode, header: response.Header, text: string(text)}
	_ = json.Unmarshal(text, &r.body)
	if w.contract != nil {
		w.contract.check(w.t, request, sent, r)
	}
	return r
}

func (w *world) post(path, token string, body object) *reply {
	w.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.do(http.MethodPost, path, token, "application/json", string(text))
}

func (w *world) get(path, token string) *reply {
	w.t.Helper()
	return w.do(http.MethodGet, path, token, "", "")
}

// login logs somebody in.
func (w *world) login(email, password string) *reply {
	w.t.Helper()
	r := w.post("/auth/login", "", object{"email": email, "password": password})
	if r.status == http.StatusOK {
		w.secrets = append(w.secrets, r.str("access_token"), r.str("refresh_token"))
	}
	return r
}

func (w *world) change(email, password, next string) *reply {
	w.t.Helper()
	return w.post("/auth/password", "", object{"email": email, "password": password, "new_password": next})
}

// list asks the MCP server behind the gateway, in the stateless revision.
func (w *world) list(token string) *reply {
	w.t.Helper()
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"}}}}`
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+"/mcp", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": "Bearer " + token,
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list",
	} {
		request.Header.Set(name, value)
	}
	return w.send(request)
}

// forwarded is how many requests the server has received.
func (w *world) forwarded() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.got)
}

// wantNoSecrets looks for passwords and tokens in what was written.
func (w *world) wantNoSecrets() {
	log, err := os.ReadFile(w.log)
	if err != nil {
		w.t.Error(err)
	}
	store, err := os.ReadFile(filepath.Join(w.dir, "state.db"))
	if err != nil && strings.HasPrefix(w.store, "embedded") {
		w.t.Error(err)
	}
	for _, secret := range w.secrets {
		if strings.Contains(string(log), secret) {
			w.t.Errorf("the log holds %q", secret)
		}
		if strings.Contains(string(store), secret) {
			w.t.Errorf("the store holds %q", secret)
		}
	}
}
