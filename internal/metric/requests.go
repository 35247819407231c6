package metric

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddymcp/caddy-mcp-gateway/internal/mcp"
)

// What a request may be that is no single message with a method.
const (
	// Unread is one that was refused before it was read.
	Unread = "unread"
	// Batch has several messages.
	Batch = "batch"
	// Response is a client's answer to what a server has asked.
	Response = "response"
	// Get asks for a stream, Delete ends a session.
	Get    = "GET"
	Delete = "DELETE"
)

// slots are where the counters of each method are. There are no others, whatever method
// a client names.
var slots = func() map[string]int {
	index := make(map[string]int)
	for _, name := range append(mcp.ClientMethods(), Unread, Batch, Response, Get, Delete, other) {
		if _, there := index[name]; !there {
			index[name] = len(index)
		}
	}
	return index
}()

// Requests are the counters of one server.
type Requests struct {
	server string
	// counters are by slot, first those of what was refused. One is made when it is
	// needed, so that there are no hundreds that are 0.
	counters []atomic.Pointer[prometheus.Counter]
}

var servers sync.Map // *Requests by the server

// For returns the counters of a server, by its name in the configuration.
func For(server string) *Requests {
	made := &Requests{server: server, counters: make([]atomic.Pointer[prometheus.Counter], 2*len(slots))}
	r, _ := servers.LoadOrStore(server, made)
	return r.(*Requests)
}

// Decided counts a request. It neither waits nor allocates, but for the first of its kind.
func (r *Requests) Decided(method string, allowed bool) {
	slot, known := slots[method]
	if !known {
		method, slot = other, slots[other]
	}
	decision := "refused"
	if allowed {
		decision = "allowed"
		slot += len(slots)
	}
	c := r.counters[slot].Load()
	if c == nil {
		made := requests.WithLabelValues(r.server, method, decision)
		r.counters[slot].Store(&made)
		c = &made
	}
	(*c).Inc()
}
