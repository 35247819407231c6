package mcpauth

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/metric"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/revocation"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/session"
)

// observed is what can be seen of the configuration that runs. The registry of one that
// was rejected shows it, too: Caddy's admin endpoint keeps that until the next reload.
type observed struct {
	generation  uint64
	shared      *shared
	revocations *revocation.Set
	sessions    *session.Sessions
	issuer      *issue.Issuer
}

// inForce is nil while nothing runs.
var inForce atomic.Pointer[observed]

// observe shows this configuration from now on.
func (a *App) observe() {
	metric.Configured()
	inForce.Store(&observed{a.generation, a.shared, a.store.revocations, a.store.sessions, a.issuer})
}

// unobserve shows nothing, if it is this configuration that is shown.
func (a *App) unobserve() {
	if seen := inForce.Load(); seen != nil && seen.shared == a.shared && seen.generation == a.generation {
		inForce.CompareAndSwap(seen, nil)
	}
}

// gauges has what is looked up when somebody asks.
type gauges struct{}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(metric.Namespace, metric.Subsystem, name), help, labels, nil)
}

var (
	descStreams = describe("streams",
		"Open event streams: those that listen, in which servers tell what changes, and those that answer a call.", "kind")
	descOldStreams = describe("streams_old",
		"Open event streams that an older configuration has opened.")
	descConfigurations = describe("configurations",
		"Configurations in memory: the one that runs, and each older one that has opened a stream which is still open.")
	descSessions = describe("sessions",
		"MCP sessions, those included whose time is up and which nobody asked for since.")
	descRevocations = describe("revocations",
		"Revocations that are known.")
	descAge = describe("revocation_age_seconds",
		"How long ago everything was known that was revoked. Missing until that was so for the first time.")
	descLag = describe("revocation_lag_seconds",
		"How long the store's last news of revocations took to arrive.")
	descStale = describe("revocation_stale",
		"Whether requests are refused because it is not known what was revoked.")
	descWatches = describe("revocation_watches",
		"Streams and sessions that end when their token is revoked.")
	descKeyAge = describe("signing_key_age_seconds",
		"The age of the key that signs the gateway's own tokens. Missing without one.")
)

// Describe implements prometheus.Collector.
func (gauges) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		descStreams, descOldStreams, descConfigurations, descSessions, descRevocations, descAge, descLag, descStale, descWatches, descKeyAge,
	} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (gauges) Collect(to chan<- prometheus.Metric) {
	seen := inForce.Load()
	if seen == nil {
		return
	}
	at := steady.Now()
	put := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	listening, calls, old, configurations := seen.shared.streams.count(seen.generation)
	put(descStreams, float64(listening), "listen")
	put(descStreams, float64(calls), "call")
	put(descOldStreams, float64(old))
	put(descConfigurations, float64(configurations))
	put(descSessions, float64(seen.sessions.Len()))
	status := seen.revocations.Status(at)
	put(descRevocations, float64(status.Revocations))
	if status.Loaded {
		put(descAge, status.Age.Seconds())
	}
	put(descLag, status.Lag.Seconds())
	stale := 0.0
	if status.Stale {
		stale = 1
	}
	put(descStale, stale)
	put(descWatches, float64(status.Watches))
	if seen.issuer == nil {
		return
	}
	for _, key := range seen.issuer.List() {
		if key.Signs {
			put(descKeyAge, at.Sub(key.Created).Seconds())
		}
	}
}

// count returns how many streams there are that listen and that answer calls, how many
// of both an older configuration has opened, and how many configurations there are.
func (s *streams) count(running uint64) (listening, calls, old, configurations int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	generations := map[uint64]struct{}{running: {}}
	for a := range s.open {
		if a.listens {
			listening++
		} else {
			calls++
		}
		if a.generation < running {
			old++
		}
		generations[a.generation] = struct{}{}
	}
	return listening, calls, old, len(generations)
}

// cause is a word for why a stream has ended.
func (a *answer) cause() string {
	switch err := a.endedBy(); {
	case err == nil:
		return "server"
	case errors.Is(err, context.Canceled):
		return "client"
	case errors.Is(err, errTokenOver):
		return "token_expired"
	case errors.Is(err, errRevoked):
		return "token_revoked"
	case errors.Is(err, errRevocationUnknown):
		return "revocation_unknown"
	case errors.Is(err, errRefusedNow):
		return "refused"
	case errors.Is(err, errDrained):
		return "drained"
	default:
		return "stopping"
	}
}

// kind is what a request is counted as.
func (c *Call) kind(r *http.Request) string {
	switch {
	case r.Method == http.MethodGet:
		return metric.Get
	case r.Method == http.MethodDelete:
		return metric.Delete
	case len(c.Messages) == 0:
		return metric.Unread
	case c.Batch:
		return metric.Batch
	case c.Messages[0].Kind == jsonrpc.Response:
		return metric.Response
	default:
		return c.Messages[0].Method
	}
}

// count counts a request on which was decided.
func (c *Call) count(r *http.Request, allowed bool) {
	if c.endpoint == nil {
		nowhere.Decided(metric.Unread, allowed)
		return
	}
	c.endpoint.requests.Decided(c.kind(r), allowed)
}

// nowhere are requests to where no server is.
var nowhere = metric.For("")
