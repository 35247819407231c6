package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// taskVisit is what the client of tasks is asked to do.
type taskVisit struct {
	visit

	// Tasks are ids of tasks that it tries to follow, and to cancel.
	Tasks []string `json:"tasks,omitempty"`
	// Results has it ask for their results, too, for which it would wait.
	Results bool `json:"results,omitempty"`
}

// taskFront is the gateway before a server whose tasks are everybody's.
func taskFront(t *testing.T, server *mcpServer) *front {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	f := &front{base: baseURL(port), issuer: "https://issuer.test"}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(world.dir, "tasks-issuer.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	f.token = func(who principal, audience string) (string, error) { return signToken(key, f.issuer, who, audience) }
	f.caddy, err = startCaddy("tasks", caddyfile(port, fmt.Sprintf(`
mcp_gateway {
	public_url %s
	issuer %s {
		key_file %s
	}
	role worker {
		when groups worker
		allow tools.execute tasks
		allow tasks.read tasks
		allow tasks.write tasks
		allow client.elicitation tasks
	}
	role lapsed {
		when groups lapsed
		allow tools.execute tasks/work tasks/ask
		allow tasks.read tasks
		allow tasks.write tasks
	}
	server tasks %s
	forward_headers %s
}`, f.base, f.issuer, file, server.url, tagHeader)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestTasks: a real client follows its tasks at a real server as it does directly, and
// nobody else's, although the server itself tells everybody about all of them.
func TestTasks(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	server := &mcpServer{name: "tasks"}
	var err error
	if server.url, err = startNodeServer("server-tasks.mjs", "SERVER_CONFIG", nil, server.log.line); err != nil {
		t.Fatal(err)
	}
	f := taskFront(t, server)
	defer f.caddy.check(t)

	run := func(v taskVisit) map[string]outcome {
		t.Helper()
		outcomes := make(map[string]outcome)
		p, err := startNode(ctx, "client-tasks.mjs", "CLIENT_CONFIG", v, func(line []byte) {
			var step struct {
				Step  string
				Value json.RawMessage
				Error *stepError
			}
			if err := json.Unmarshal(line, &step); err != nil || step.Step == "" {
				t.Errorf("the client reports %s", line)
				return
			}
			outcomes[step.Step] = outcome{Value: string(step.Value), Err: step.Error}
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.wait(); err != nil {
			t.Error(err)
		}
		return outcomes
	}
	expect := func(name string, got map[string]outcome, want map[string]string) {
		t.Helper()
		for step, expected := range want {
			o, ok := got[step]
			seen := o.Value
			if o.Err != nil {
				seen = fmt.Sprintf("error %v", o.Err.Code)
			}
			if !ok || seen != expected {
				t.Errorf("%s: %s gave %v, want %s", name, step, o, expected)
			}
		}
	}
	whole := map[string]string{
		"work": `"1 task: worked on it"`, "ask": `"1 task: accept blue"`, "hold": `"working"`, "get": `"working"`, "list": `{"mine":true,"others":0}`,
	}
	expect("directly", run(taskVisit{visit: visit{URL: server.url, Tag: "direct"}}), whole)

	wanda, walter, lapsed := principal{"wanda", "app", "worker"}, principal{"walter", "app", "worker"}, principal{"wanda", "app", "lapsed"}
	as := func(who principal, tasks ...string) taskVisit {
		return taskVisit{visit: visit{
			URL: f.url(server), Token: f.mustToken(t, who, server), Tag: who.subject, Headers: map[string]string{tagHeader: who.subject},
		}, Tasks: tasks, Results: who != wanda}
	}
	first := run(as(wanda))
	expect("wanda", first, whole)
	held := strings.Trim(first["held"].Value, `"`)

	second := run(as(walter, held))
	expect("walter", second, whole)
	expect("walter", second, map[string]string{"0 get": "error -32602", "0 result": "error -32602", "0 cancel": "error -32602"})

	// The tool is no longer hers; nor may the server ask her client any more.
	expect("wanda without the tool", run(as(lapsed, held)), map[string]string{
		"work": whole["work"], "ask": `"1 task: failed"`, "hold": "error -32602", "list": `{"mine":false,"others":0}`,
		"0 get": "error -32602", "0 result": "error -32602", "0 cancel": "error -32602",
	})

	// Another session, another token, the same principal.
	expect("wanda again", run(as(wanda, held, strings.Trim(second["held"].Value, `"`))), map[string]string{
		"list": `{"mine":true,"others":1}`, "0 get": `"working"`, "0 cancel": `"cancelled"`, "1 get": "error -32602", "1 cancel": "error -32602",
	})
	if len(server.log.faults) > 0 {
		t.Errorf("the server reports %q", server.log.faults)
	}
	for _, r := range server.log.of("walter") {
		if strings.Contains(r.Body, held) {
			t.Errorf("the server received from walter: %s", r.Body)
		}
	}
}
