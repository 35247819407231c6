// Package reload has tests of what becomes of requests, streams and memory when a real
// Caddy is given another configuration, or stopped.
package reload
