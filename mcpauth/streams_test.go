package mcpauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
)

// configuration is one of the gateway, with a server that streams.
type configuration struct {
	*gate
	t      *testing.T
	app    *App
	ctx    caddy.Context
	cancel func()
}

// next provisions one, as a reload does.
func next(t *testing.T, app, change map[string]any) *configuration {
	t.Helper()
	if app == nil {
		app = map[string]any{}
	}
	return nextWith(t, map[string]any{"mcp_gateway": app}, change)
}

// nextWith provisions one with other apps.
func nextWith(t *testing.T, apps, change map[string]any) *configuration {
	t.Helper()
	raw := caddy.ModuleMap{}
	for name, app := range apps {
		encoded, err := json.Marshal(app)
		if err != nil {
			t.Fatal(err)
		}
		raw[name] = encoded
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}, AppsRaw: raw})
	if err != nil {
		t.Fatal(err)
	}
	g := &configuration{t: t}
	g.ctx, g.cancel = caddy.NewContext(ctx)
	t.Cleanup(g.cancel)
	h, err := g.ctx.LoadModuleByID("http.handlers.mcp_auth", json.RawMessage(gateConfig(change)))
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := g.ctx.App("mcp_gateway")
	if err != nil {
		t.Fatal(err)
	}
	g.app = loaded.(*App)
	t.Cleanup(func() { _ = g.app.Cleanup() })
	g.gate = gateOf(t, h.(*Handler), caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ": begun\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done() // as the transport does, which then reads an end
		return nil
	}))
	return g
}

// start has it run, as far as Start goes.
func (g *configuration) start() *configuration {
	g.t.Helper()
	if err := g.app.Start(); err != nil {
		g.t.Fatal(err)
	}
	return g
}

// run has it run.
func (g *configuration) run() *configuration {
	g.t.Helper()
	g.start().emit("started")
	return g
}

func (g *configuration) emit(event string) {
	g.t.Helper()
	events, err := g.ctx.App("events")
	if err != nil {
		g.t.Fatal(err)
	}
	events.(*caddyevents.App).Emit(g.ctx, event, nil)
}

// over is what Caddy does with a configuration that was replaced.
func (g *configuration) over() {
	g.t.Helper()
	g.emit("stopping")
	if err := errors.Join(g.app.Stop(), g.app.Cleanup()); err != nil {
		g.t.Error(err)
	}
}

// opened is an open stream.
type opened struct {
	t    *testing.T
	body io.ReadCloser
	end  chan error
	rest string
}

// listen opens a stream in which the server tells what changes.
func (g *configuration) listen(id string) *opened {
	g.t.Helper()
	r := g.post(g.t, tokenOf(g.t, "admin", map[string]any{"jti": id, "sub": id}), "")
	r.Method, r.Body, r.ContentLength = http.MethodGet, nil, 0
	return g.open(r)
}

// call opens one that answers a call.
func (g *configuration) call(id string) *opened {
	g.t.Helper()
	return g.open(g.post(g.t, tokenOf(g.t, "admin", map[string]any{"jti": id, "sub": id}), callTool))
}

func (g *configuration) open(r *http.Request) *opened {
	g.t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		g.t.Fatalf("%d %s", resp.StatusCode, text)
	}
	o := &opened{t: g.t, body: resp.Body, end: make(chan error, 1)}
	go func() {
		text, err := io.ReadAll(resp.Body)
		o.rest = string(text)
		o.end <- err
	}()
	return o
}

// ends waits for its end, which has to be that of a complete answer.
func (o *opened) ends(what string) {
	o.t.Helper()
	select {
	case err := <-o.end:
		if err != nil || strings.TrimSpace(o.rest) != ": begun" && o.rest != "" {
			o.t.Errorf("%s: %v, %q", what, err, o.rest)
		}
	case <-time.After(20 * time.Second):
		o.t.Fatalf("%s: it did not end", what)
	}
}

// isOpen closes it, and wants that to be its end.
func (o *opened) isOpen(what string) {
	o.t.Helper()
	o.body.Close()
	if err := <-o.end; err == nil {
		o.t.Errorf("%s: it has ended", what)
	}
}

func storedAt(path string) map[string]any {
	return map[string]any{"store": map[string]any{"store": "embedded", "path": path}}
}

func revokeIn(t *testing.T, g *configuration, id string) {
	t.Helper()
	r := state.Revocation{Kind: state.RevokeID, Value: id, Expires: time.Now().Add(time.Hour)}
	if err := g.app.Revocations().Revoke(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// TestStreamsFollowTheStore: after a reload that changes the store, a stream of the
// configuration before ends when its token is revoked in the new one, and so does a
// session; one that was revoked there ends with the reload. What becomes of the old
// store means nothing any more.
func TestStreamsFollowTheStore(t *testing.T) {
	dir := t.TempDir()
	first := next(t, storedAt(filepath.Join(dir, "a")), nil).run()
	later, before, stays := first.listen("later"), first.listen("before"), first.listen("stays")
	call := first.call("later-call")
	told := make(chan string, 9)
	watch := func(g *configuration, id string) *Watch {
		p := &Principal{revocable: revocation.Token{Issuer: gateIssuer, ID: id, IssuedAt: time.Now()}}
		w := (&Call{handler: g.handler, Principal: p}).Watch(func() { told <- id })
		w.Renew()
		return w
	}
	session, idle := watch(first, "later"), watch(first, "stays")
	closed := watch(first, "later")
	closed.Close()

	second := next(t, storedAt(filepath.Join(dir, "b")), nil).start()
	revokeIn(t, second, "before")
	second.emit("started")
	before.ends("revoked in the new store before")
	first.over()

	revokeIn(t, second, "later")
	revokeIn(t, second, "later-call")
	later.ends("revoked in the new store")
	call.ends("a call, revoked in the new store")
	if got := <-told; got != "later" {
		t.Errorf("the session of %s was told", got)
	}
	session.Close()
	idle.Renew()
	stays.isOpen("not revoked")
	idle.Close()
	if n := len(told); n != 0 {
		t.Errorf("%d more were told", n)
	}
	statetest.Eventually(t, "that nobody watches", func() bool {
		return second.app.Revocations().Status(time.Now()).Watches == 0 && len(second.app.shared.watches.list()) == 0
	})
}

// TestStreamsAfterManyReloads: a revocation ends the streams of every configuration that
// ever ran.
func TestStreamsAfterManyReloads(t *testing.T) {
	dir := t.TempDir()
	var open []*opened
	var last *configuration
	for i := range 6 {
		g := next(t, storedAt(filepath.Join(dir, fmt.Sprint(i/2))), nil).run()
		if last != nil {
			last.over()
		}
		open = append(open, g.listen("all"))
		last = g
	}
	other := last.listen("other")
	revokeIn(t, last, "all")
	for i, o := range open {
		o.ends(fmt.Sprint("the stream of configuration ", i))
	}
	other.isOpen("somebody else's")
}

// TestDrain: with stream_drain, the streams that listen end after a reload and calls go
// on; what the new configuration has opened does, too.
func TestDrain(t *testing.T) {
	draining := map[string]any{"stream_drain": int64(200 * time.Millisecond)}
	first := next(t, nil, nil).run()
	var old []*opened
	for i := range 20 {
		old = append(old, first.listen(fmt.Sprint("old-", i)))
	}
	call := first.call("call")
	second := next(t, draining, nil).run()
	first.over()
	mine := second.listen("new")
	for i, o := range old {
		o.ends(fmt.Sprint("stream ", i))
	}
	call.isOpen("the call")
	mine.isOpen("the new stream")
	statetest.Eventually(t, "that no stream is open", func() bool {
		s := &second.app.shared.streams
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.open) == 0
	})
}

// TestDrainModern: subscriptions/listen listens.
func TestDrainModern(t *testing.T) {
	first := next(t, nil, nil).run()
	r := first.modern(t, tokenOf(t, "admin", nil), "subscriptions/listen", "notifications", "", "{}")
	body := `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	r.Header.Del("Mcp-Name")
	listening := first.open(r)
	next(t, map[string]any{"stream_drain": int64(time.Millisecond)}, nil).run()
	first.over()
	listening.ends("subscriptions/listen")
}

// TestNoDrain: by default streams go on, and a later reload that has it ends them.
func TestNoDrain(t *testing.T) {
	first := next(t, nil, nil).run()
	old := first.listen("old")
	second := next(t, nil, nil).run()
	first.over()
	third := next(t, map[string]any{"stream_drain": int64(time.Hour)}, nil).run()
	second.over()
	s := &third.app.shared.streams
	timer := func() *time.Timer {
		s.mu.Lock()
		defer s.mu.Unlock()
		for a := range s.open {
			return a.drain
		}
		return nil
	}
	set := timer()
	if set == nil {
		t.Fatal("the end of the stream is not set")
	}
	fourth := next(t, map[string]any{"stream_drain": int64(time.Hour)}, nil).run()
	third.over()
	if timer() != set {
		t.Error("another reload has put off the end of the stream")
	}
	old.isOpen("the old stream")
	fourth.over()
}

// TestSpread: the ends of streams are spread evenly.
func TestSpread(t *testing.T) {
	const n, over = 1000, time.Minute
	moments := spread(n, over)
	if slices.IsSorted(moments) {
		t.Error("they end in the order in which they were found")
	}
	slices.Sort(moments)
	for i, at := range moments {
		if from := time.Duration(i) * over / n; at < from || at > from+over/n {
			t.Fatalf("number %d ends after %s", i, at)
		}
	}
	if len(spread(0, over)) != 0 {
		t.Error("something of nothing")
	}
}

// TestRejectedStreams: what a configuration has let in that was then rejected, since
// another app could not be started, does not stay out of reach: streams that listen end,
// and calls are judged by the configuration that runs.
func TestRejectedStreams(t *testing.T) {
	dir := t.TempDir()
	first := next(t, storedAt(filepath.Join(dir, "a")), nil).run()
	kept := first.listen("kept")
	rejected := next(t, storedAt(filepath.Join(dir, "b")), map[string]any{"max_answer": 1 << 20}).start()
	listening, call := rejected.listen("listening"), rejected.call("call")
	if err := rejected.app.Cleanup(); err != nil {
		t.Fatal(err)
	}
	listening.ends("a stream of a configuration that was rejected")
	revokeIn(t, first, "call")
	call.ends("a call of a configuration that was rejected, whose token is revoked")
	kept.isOpen("the stream of the one that runs")

	c := &Call{handler: rejected.handler, generation: rejected.handler.generation, endpoint: rejected.handler.endpoints["/mcp"]}
	c.Principal = &Principal{}
	c.incoming = first.post(t, "", "")
	if c.refresh() {
		t.Error("it is not judged by the configuration that runs")
	}
}

// TestEnding: when the gateway stops, streams that listen end at once, those that are
// yet to come, too, and calls can be answered. When another configuration has taken
// over, nothing of that happens.
func TestEnding(t *testing.T) {
	first := next(t, nil, nil).run()
	old := first.listen("old")
	second := next(t, nil, nil).run()
	first.over()
	mine, call := second.listen("mine"), second.call("call")
	second.emit("stopping")
	old.ends("the stream of an older configuration")
	mine.ends("the stream")
	second.listen("late").ends("a stream that comes late")
	call.isOpen("the call")
	if err := second.app.Cleanup(); err != nil {
		t.Error(err)
	}
	next(t, nil, nil).run().listen("again").isOpen("a stream of a configuration that comes after")
}

// TestEndingCalls: calls are ended, too, when Caddy is about to give up waiting; with a
// shutdown_delay nothing ends before it is over.
func TestEndingCalls(t *testing.T) {
	const soon = int64(10 * time.Millisecond)
	for name, web := range map[string]map[string]any{
		"grace_period":   {"grace_period": soon},
		"shutdown_delay": {"grace_period": soon, "shutdown_delay": soon},
		"neither":        {},
	} {
		t.Run(name, func(t *testing.T) {
			g := nextWith(t, map[string]any{"mcp_gateway": map[string]any{}, "http": web}, nil).run()
			listening := g.listen("listening")
			call := g.call("call")
			g.emit("stopping")
			listening.ends("the stream")
			call.ends("the call")
		})
	}
}
