package wellknown

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddymcp/caddy-mcp-gateway/internal/report"
)

// bookkeeper is what is asked of the mcp_gateway app, to tell administrators of what is
// published.
type bookkeeper interface {
	Book() *report.Book
}

// enter has the app know what is published. Without an app there is nobody to ask for it.
func (h *Handler) enter(ctx caddy.Context) {
	app, err := ctx.AppIfConfigured("mcp_gateway")
	if err != nil {
		return
	}
	if b, ok := app.(bookkeeper); ok {
		b.Book().AddPages(h.pages)
	}
}

// pagesTimeout is how long the answers of all pages may take: only the keys and the
// readiness are not at hand.
const pagesTimeout = 5 * time.Second

// pages tells what is published, and what each of it is answered with now: by the very
// code that answers clients, without a request over the network.
func (h *Handler) pages() []report.Page {
	paths := slices.Collect(maps.Keys(h.documents))
	if h.JWKS {
		paths = append(paths, jwksPath)
	}
	if !h.DisableHealth {
		paths = append(paths, "/health", "/ready")
	}
	slices.Sort(paths)
	ctx, cancel := context.WithTimeout(context.Background(), pagesTimeout)
	defer cancel()
	list := make([]report.Page, len(paths))
	for i, path := range paths {
		list[i] = h.page(ctx, path)
	}
	return list
}

func (h *Handler) page(ctx context.Context, path string) report.Page {
	p := report.Page{Path: path, URL: h.origin + path}
	r := (&http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}, Header: http.Header{}}).WithContext(ctx)
	w := &probe{header: http.Header{}}
	err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusNotFound)
		return nil
	}))
	p.Status = w.status
	if failed, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		p.Status = failed.StatusCode
	}
	p.Answers = p.Status == http.StatusOK || p.Status == http.StatusMovedPermanently
	p.ContentType, p.CacheControl = w.header.Get("Content-Type"), w.header.Get("Cache-Control")
	return p
}

// probe takes an answer and keeps what it begins with.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header { return p.header }

func (p *probe) WriteHeader(status int) {
	if p.status == 0 {
		p.status = status
	}
}

func (p *probe) Write(b []byte) (int, error) {
	p.WriteHeader(http.StatusOK)
	return len(b), nil
}
