// Package metric is what the gateway counts for Prometheus. The counters are those of
// the process: they go on over reloads, each of which brings a registry of its own.
package metric

import (
	"errors"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Namespace and Subsystem begin the name of every metric.
const (
	Namespace = "caddy"
	Subsystem = "mcp"
)

func counter(name, help string) prometheus.CounterOpts {
	return prometheus.CounterOpts{Namespace: Namespace, Subsystem: Subsystem, Name: name, Help: help}
}

var (
	requests = prometheus.NewCounterVec(counter("requests_total",
		"Requests to MCP endpoints, by the server, the MCP method and the gateway's decision."), []string{"server", "method", "decision"})
	refusals = prometheus.NewCounterVec(counter("refusals_total",
		"Requests that the gateway answered itself, with an error, by the reason in that."), []string{"reason"})
	streamsEnded = prometheus.NewCounterVec(counter("streams_ended_total",
		"Event streams that have ended, by the cause."), []string{"cause"})
	sessionsBegun = prometheus.NewCounter(counter("sessions_begun_total",
		"MCP sessions that were begun."))
	sessionsEnded = prometheus.NewCounterVec(counter("sessions_ended_total",
		"MCP sessions that have ended, by the cause."), []string{"cause"})
	configurations = prometheus.NewCounter(counter("configurations_total",
		"Configurations with the gateway that have come into force since the process began."))
	storeErrors = prometheus.NewCounterVec(counter("store_errors_total",
		"Operations for which the store was not available."), []string{"operation"})
	storeDuration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: Namespace, Subsystem: Subsystem, Name: "store_duration_seconds",
		Help:    "How long operations of the store took.",
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
	}, []string{"operation"})

	all = []prometheus.Collector{
		requests, refusals, streamsEnded, sessionsBegun, sessionsEnded, configurations, storeErrors, storeDuration,
	}
)

// Register has a configuration's registry gather what is counted, and what more collects.
func Register(registry *prometheus.Registry, more prometheus.Collector) error {
	var failures error
	for _, c := range append([]prometheus.Collector{more}, all...) {
		var there prometheus.AlreadyRegisteredError
		if err := registry.Register(c); err != nil && !errors.As(err, &there) {
			failures = errors.Join(failures, err)
		}
	}
	return failures
}

// StreamEnded counts an event stream that has ended.
func StreamEnded(cause string) { streamsEnded.WithLabelValues(cause).Inc() }

// SessionBegun counts a session that was begun.
func SessionBegun() { sessionsBegun.Inc() }

// SessionEnded counts one that has ended.
func SessionEnded(cause string) { sessionsEnded.WithLabelValues(cause).Inc() }

// Configured counts a configuration that has come into force.
func Configured() { configurations.Inc() }

// reasons are those that were ever counted.
var reasons struct {
	sync.RWMutex
	by map[string]prometheus.Counter
}

const (
	// maxReasons bounds how many there may be. There are fewer.
	maxReasons = 200
	maxReason  = 40
	other      = "other"
)

// Refused counts a request that was refused. The reasons are words of the gateway's; to
// be sure of that, anything that does not look like one, or is one too many, is other.
func Refused(reason string) {
	reasons.RLock()
	c := reasons.by[reason]
	reasons.RUnlock()
	if c == nil {
		c = newReason(reason)
	}
	c.Inc()
}

func newReason(reason string) prometheus.Counter {
	strange := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' }
	reasons.Lock()
	defer reasons.Unlock()
	if reason == "" || len(reason) > maxReason || strings.ContainsFunc(reason, strange) || len(reasons.by) >= maxReasons {
		reason = other
	}
	if c := reasons.by[reason]; c != nil {
		return c
	}
	if reasons.by == nil {
		reasons.by = make(map[string]prometheus.Counter)
	}
	c := refusals.WithLabelValues(strings.Clone(reason))
	reasons.by[strings.Clone(reason)] = c
	return c
}
