// Package report is what the handlers of one configuration tell of themselves, so that
// administrators can be shown it in one place. It decides nothing.
package report

import "slices"

// Server is an MCP server, as it is now.
type Server struct {
	Name string `json:"name"`
	// Path is where the MCP endpoint is on the upstreams.
	Path string `json:"path"`
	// Available is whether some upstream can take a request, as far as is known. Of
	// upstreams that are found anew for each request, nothing is.
	Available bool `json:"available"`
	// TLS is whether connections to the upstreams are encrypted.
	TLS bool `json:"tls"`
	// ActiveChecks and PassiveChecks are whether the upstreams are asked how they are,
	// and whether their failures are counted. Without either, an upstream looks healthy
	// whatever happens.
	ActiveChecks  bool `json:"active_health_checks"`
	PassiveChecks bool `json:"passive_health_checks"`
	// Dynamic is whether upstreams are found anew for each request. They are not listed.
	Dynamic   bool       `json:"dynamic_upstreams"`
	Upstreams []Upstream `json:"upstreams"`
}

// Upstream is one of the addresses of a server.
type Upstream struct {
	// Address is what is dialed, with placeholders as they are written.
	Address string `json:"address"`
	// Healthy is what the health checks and the circuit breaker say.
	Healthy bool `json:"healthy"`
	// Full is whether it has as many requests as it may.
	Full bool `json:"full"`
	// Requests is how many it has now, Fails how many failures are remembered of it.
	Requests int `json:"requests"`
	Fails    int `json:"fails"`
}

// Page is a public address that the gateway answers.
type Page struct {
	// Path is below the site; URL is the same under the public URL's host.
	Path string `json:"path"`
	URL  string `json:"url"`
	// Status is what a request for it is answered with now, Answers whether that is
	// what it is there for.
	Status  int  `json:"status"`
	Answers bool `json:"answers"`
	// ContentType and CacheControl are the answer's.
	ContentType  string `json:"content_type,omitzero"`
	CacheControl string `json:"cache_control,omitzero"`
}

// Book is where the handlers of one configuration enter what they can tell. They do so
// when they are provisioned; it is read when the configuration has started.
type Book struct {
	servers []func() []Server
	pages   []func() []Page
	// Registration is whether everybody can make an account.
	Registration bool
}

// AddServers enters a handler's servers.
func (b *Book) AddServers(tell func() []Server) { b.servers = append(b.servers, tell) }

// AddPages enters a handler's public addresses.
func (b *Book) AddPages(tell func() []Page) { b.pages = append(b.pages, tell) }

// Servers are those of all handlers, as they are now.
func (b *Book) Servers() []Server { return all(b.servers) }

// Pages are those of all handlers, as they are now.
func (b *Book) Pages() []Page { return all(b.pages) }

func all[T any](tellers []func() []T) []T {
	lists := make([][]T, len(tellers))
	for i, tell := range tellers {
		lists[i] = tell()
	}
	return slices.Concat(lists...)
}
