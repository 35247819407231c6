package canary

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
)

type object = map[string]any

// world is a gateway with a Redis server and an MCP server.
type world struct {
	t                    *testing.T
	cage                 cage
	dir, url, admin, bin string
	redis                *redistest.Server
	secrets              map[string]string
	caddy                *exec.Cmd
	key                  *ecdsa.PrivateKey
	mu                   sync.Mutex
	// received is what the server got, told what the provider did.
	received, told bytes.Buffer
	introspection  string
	requests, jti  int
}

// secretsOf are those in the environment of Caddy, by its variables.
var secretsOf = map[string]string{
	"CANARY_REDIS":  "canary-redis-Zq8vX2nW5tR7",
	"CANARY_HMAC":   "canary-hmac-4Kd9wPz1LmQx7Rt3Vb6NcYs8Hf2Jg5",
	"CANARY_ADMIN":  "canary keeper 7 Quiet otters row upstream",
	"CANARY_BOB":    "canary reader Tulip-42 walks sideways",
	"CANARY_SERVER": "canary-server-Pq3Zx9Lw6Vn2",
	"CANARY_CLIENT": "canary-client-Rb5Tz8Kw3Yq6 100%",
}

const (
	adminNext = "canary keeper: Granite 5 umbrellas; one violin"
	bobNext   = "canary reader: Marble*7 owes the tailor"
	wrong     = "canary wrong: Pencil 9 rides the moon"
)

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), secrets: secretsOf}
	for name, secret := range secretsOf {
		w.cage.add(name, secret)
	}
	for name, secret := range map[string]string{"the administrator's next password": adminNext, "bob's next password": bobNext, "a wrong password": wrong, "cleo's password": cleoFirst, "cleo's next password": cleoNext, "dora's password": doraFirst} {
		w.cage.add(name, secret)
	}
	var err error
	if w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if err := launch.WriteKey(filepath.Join(w.dir, "issuer.pem"), w.key); err != nil {
		t.Fatal(err)
	}
	w.redis = redistest.Start(t, "--requirepass", secretsOf["CANARY_REDIS"])
	for _, addr := range []*string{&w.url, &w.admin} {
		if *addr, err = launch.FreeAddr(); err != nil {
			t.Fatal(err)
		}
	}
	w.url, w.admin = "http://"+w.url, "http://"+w.admin
	w.introspection = w.provider().URL
	root, err := launch.Root()
	if err != nil {
		t.Fatal(err)
	}
	if w.bin, err = launch.Build(t.Context(), root, "./xcaddy"); err != nil {
		t.Fatal(err)
	}
	return w
}

// caddyfile is the gateway's, with every secret as users are told to write it.
func (w *world) caddyfile(server string) string {
	return strings.NewReplacer("{URL}", w.url, "{ADMIN}", strings.TrimPrefix(w.admin, "http://"), "{DIR}", w.dir,
		"{REDIS}", w.redis.Addr, "{SERVER}", server, "{PROVIDER}", w.introspection).Replace(`{
	admin {ADMIN}
	debug
	auto_https off
	grace_period 1s
	metrics
	mcp_gateway {
		store redis {REDIS} {
			password {env.CANARY_REDIS}
		}
		tokens {URL}
		accounts {
			administrator admin@example.com {
				password {env.CANARY_ADMIN}
			}
			user bob@example.com {
				password {env.CANARY_BOB}
				roles reader
			}
			team support {
				owners bob@example.com
			}
		}
	}
}

{URL} {
	log {
		output file {DIR}/access.log
		format filter {
			request>headers>Mcp-Session-Id delete
			request>headers>X-Api-Key delete
			request>headers>X-Forwarded-Access-Token delete
			resp_headers>Mcp-Session-Id delete
		}
	}
	mcp_gateway {
		public_url {URL}
		issuer {URL} {
			keys gateway
		}
		issuer https://hmac.example.com {
			secret {env.CANARY_HMAC}
		}
		issuer https://pem.example.com {
			key_file {DIR}/issuer.pem.pub
		}
		issuer https://opaque.example.com {
			introspect {PROVIDER} {
				client_id gateway
				client_secret {env.CANARY_CLIENT}
			}
		}
		role reader {
			when roles reader
			allow tools.execute
			allow tools.read
			deny tools.execute tickets/drop_*
		}
		server tickets {SERVER} {
			header_up X-Api-Key {env.CANARY_SERVER}
		}
		login on
		login_rate 1000
		registration on
		tokens on
		sessions on
		admin on
	}
}
`)
}

// start runs Caddy, and returns what is to be called for its end.
func (w *world) start(caddyfile string) {
	w.t.Helper()
	config := filepath.Join(w.dir, "Caddyfile")
	if err := os.WriteFile(config, []byte(caddyfile), 0o600); err != nil {
		w.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(w.dir, "caddy.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	w.caddy = w.command(context.Background(), "run", "--config", config, "--adapter", "caddyfile")
	w.caddy.Stdout, w.caddy.Stderr = log, log
	if err := w.caddy.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.kill)
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		response, err := http.Get(w.url + "/ready")
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	text, _ := os.ReadFile(filepath.Join(w.dir, "caddy.log"))
	w.t.Fatalf("Caddy did not become ready:\n%s", text)
}

func (w *world) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.bin, args...)
	cmd.Env = append(os.Environ(), "HOME="+w.dir, "XDG_DATA_HOME="+w.dir, "XDG_CONFIG_HOME="+w.dir, "GOTRACEBACK=all")
	for name, secret := range w.secrets {
		cmd.Env = append(cmd.Env, name+"="+secret)
	}
	return cmd
}

// kill has Caddy print the stacks of all its goroutines, and ends it.
func (w *world) kill() {
	if w.caddy == nil {
		return
	}
	_ = w.caddy.Process.Signal(syscall.SIGABRT)
	_ = w.caddy.Wait()
	w.caddy = nil
}

// serve is the MCP server: it keeps what it receives, and fails in several ways.
func (w *world) serve() *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.mu.Lock()
		fmt.Fprintf(&w.received, "%s %s\n%v\n%s\n", r.Method, r.URL, r.Header, body)
		w.requests++
		w.mu.Unlock()
		if got := r.Header.Get("X-Api-Key"); got != w.secrets["CANARY_SERVER"] {
			w.t.Errorf("the server's key is %q", got)
		}
		rw.Header().Set("Content-Type", "application/json")
		switch {
		case strings.Contains(string(body), `"initialize"`):
			rw.Header().Set("Mcp-Session-Id", w.cage.add("the server's session id", "canary-upstream-session-"+randomText()))
			_, _ = io.WriteString(rw, `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"c","version":"1"}}}`)
		case strings.Contains(string(body), "notifications/"):
			rw.WriteHeader(http.StatusAccepted)
		case strings.Contains(string(body), "cut"):
			// A broken answer has the proxy panic.
			rw.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(rw, `{"jsonrpc":`)
			panic(http.ErrAbortHandler)
		case strings.Contains(string(body), "garbage"):
			_, _ = io.WriteString(rw, `{"jsonrpc":"2.0","id":1,"id":2}`)
		case r.Method == http.MethodGet:
			rw.Header().Set("Content-Type", "text/event-stream")
			rw.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(rw).Flush()
			<-r.Context().Done()
		default:
			_, _ = io.WriteString(rw, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[],"tools":[]}}`)
		}
	}))
	w.t.Cleanup(server.Close)
	return server
}

func randomText() string { return rand.Text() }

// mint makes a token of one of the other issuers.
func (w *world) mint(name, issuer string, alg jose.SignatureAlgorithm, key any, more object) string {
	w.t.Helper()
	w.jti++
	claims := object{
		"iss": issuer, "aud": w.url, "sub": "alice", "roles": []string{"reader"}, "jti": fmt.Sprint("jti-", w.jti),
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	maps.Copy(claims, more)
	token, err := launch.Sign(alg, key, claims)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.cage.addToken(name, token)
}

// reply is an answer. What may be in it was taken out of it before it is looked through.
type reply struct {
	status int
	header http.Header
	text   string
	body   object
}

// ask sends a request, and looks for secrets in the answer.
func (w *world) ask(request *http.Request, mayTell ...string) reply {
	w.t.Helper()
	var answer reply
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.cage.look(w.t, "an error of the client", []byte(strings.ReplaceAll(err.Error(), request.URL.String(), "")))
		return answer
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body) // it may be broken off
	answer = reply{status: response.StatusCode, header: response.Header, text: string(body)}
	_ = json.Unmarshal(body, &answer.body)
	// What the answer is meant to tell is a secret from now on.
	told := answer.text
	for _, member := range mayTell {
		secret, _ := answer.body[member].(string)
		if secret == "" {
			w.t.Fatalf("%s %s: there is no %s in %d %s", request.Method, request.URL.Path, member, answer.status, answer.text)
		}
		told = strings.ReplaceAll(told, secret, "")
		if strings.Count(secret, ".") == 2 {
			w.cage.addToken(member, secret)
		} else {
			w.cage.add(member, secret)
		}
	}
	header := response.Header.Clone()
	header.Del("Mcp-Session-Id")
	w.cage.look(w.t, "the answer to "+request.Method+" "+request.URL.Path, fmt.Appendf(nil, "%v %s", header, told))
	return answer
}

func (w *world) request(method, address, body string, header ...string) *http.Request {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Accept", "application/json, text/event-stream")
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

// post sends a JSON object to the gateway's own API.
func (w *world) post(path, token string, body object, mayTell ...string) reply {
	w.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	var header []string
	if token != "" {
		header = append(header, "Authorization: Bearer "+token)
	}
	return w.ask(w.request(http.MethodPost, w.url+path, string(text), header...), mayTell...)
}

// mcp sends a message to the server through the gateway.
func (w *world) mcp(token, body string, header ...string) reply {
	w.t.Helper()
	if token != "" {
		header = append(header, "Authorization: Bearer "+token)
	}
	return w.ask(w.request(http.MethodPost, w.url+"/mcp", body, header...))
}

// lines are those of a file that satisfy a condition.
func lines(t *testing.T, path string, is func(string) bool) int {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n := 0
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		if is(scanner.Text()) {
			n++
		}
	}
	return n
}
