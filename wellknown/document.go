package wellknown

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddymcp/caddy-mcp-gateway/internal/resource"
)

const (
	textPlain       = "text/plain; charset=utf-8"
	applicationJSON = "application/json"
)

// defaultRobots keeps crawlers away from all of the gateway.
const defaultRobots = `User-agent: *
Disallow: /

# This is a private MCP gateway: there is nothing here to be crawled or indexed.
`

// document is an answer that is always the same.
type document struct {
	body         []byte
	contentType  string
	cacheControl string
	etag         string
	location     string // redirect to here instead of sending the body
	cors         bool   // any web page may read it
	noIndex      bool   // search engines must not list it
}

func newDocument(body []byte, contentType, cacheControl string) *document {
	sum := sha256.Sum256(body)
	return &document{
		body: body, contentType: contentType, cacheControl: cacheControl,
		etag: `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`,
	}
}

func (d *document) serve(w http.ResponseWriter, r *http.Request) error {
	if d.cors {
		if allowAnyOrigin(w, r) {
			return nil
		}
	}
	if err := checkMethod(w, r, d.cors); err != nil {
		return err
	}
	header := w.Header()
	header.Set("Cache-Control", d.cacheControl)
	if d.location != "" {
		header.Set("Location", d.location)
		w.WriteHeader(http.StatusMovedPermanently)
		return nil
	}
	header.Set("Content-Type", d.contentType)
	header.Set("ETag", d.etag)
	header.Set("X-Content-Type-Options", "nosniff")
	if d.noIndex {
		header.Set("X-Robots-Tag", "noindex, nofollow")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(d.body))
	return nil
}

// allowAnyOrigin lets web pages of any origin read the answer, and answers the
// preflight that browsers send because of MCP-Protocol-Version. It reports
// whether that was all. No credentials are involved: the answer is public.
func allowAnyOrigin(w http.ResponseWriter, r *http.Request) bool {
	header := w.Header()
	header.Set("Access-Control-Allow-Origin", "*")
	if r.Method != http.MethodOptions {
		return false
	}
	header.Set("Access-Control-Allow-Methods", "GET, HEAD")
	header.Set("Access-Control-Allow-Headers", "*, Authorization, MCP-Protocol-Version")
	header.Set("Access-Control-Max-Age", "86400")
	header.Set("Allow", "GET, HEAD, OPTIONS")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// checkMethod refuses everything but GET and HEAD.
func checkMethod(w http.ResponseWriter, r *http.Request, options bool) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	allow := "GET, HEAD"
	if options {
		allow = "GET, HEAD, OPTIONS"
	}
	w.Header().Set("Allow", allow)
	return caddyhttp.Error(http.StatusMethodNotAllowed, errors.New("the method must be one of "+allow))
}

// addFiles adds robots.txt and the configured files.
func (h *Handler) addFiles(repl *caddy.Replacer, cacheControl string) error {
	robots := repl.ReplaceKnown(h.RobotsTxt, "")
	if !strings.Contains(robots, "\n") {
		robots = strings.ReplaceAll(robots, `\n`, "\n")
	}
	switch {
	case h.RobotsTxt == "":
		robots = defaultRobots
	case robots == "":
		return errors.New("robots_txt is empty once its placeholders are replaced; check that what they name exists")
	case !strings.HasSuffix(robots, "\n"):
		robots += "\n"
	}
	d := newDocument([]byte(robots), textPlain, cacheControl)
	d.noIndex = true
	h.documents["/robots.txt"] = d

	for name, content := range h.Files {
		if err := checkFileName(name); err != nil {
			return err
		}
		// Only known placeholders are replaced: JSON is full of braces.
		content = repl.ReplaceKnown(content, "")
		if content == "" {
			return fmt.Errorf("file %q is empty; write its content, and check that what its placeholders name exists", name)
		}
		contentType := textPlain
		if strings.HasSuffix(name, ".json") || isJSON(content) {
			contentType = applicationJSON
		}
		h.documents["/.well-known/"+name] = newDocument([]byte(content), contentType, cacheControl)
	}
	return nil
}

// checkFileName refuses names that are not one clean path, and those that the
// gateway or Caddy itself answers.
func checkFileName(name string) error {
	if !resource.CleanPath(name) {
		return fmt.Errorf("file name %q must be a relative path of letters, digits and any of -._~ such as ai.txt; it is served below /.well-known/", name)
	}
	first, _, _ := strings.Cut(name, "/")
	switch first {
	case "security.txt":
		return errors.New("file name security.txt is taken; use security_txt")
	case "oauth-protected-resource":
		return fmt.Errorf("file name %q is taken by the protected resource metadata; use authorization_servers and the options next to it", name)
	case "acme-challenge":
		return fmt.Errorf("file name %q is taken by Caddy's certificate management; leave it out", name)
	}
	return nil
}

// isJSON reports whether a text is a JSON object or array.
func isJSON(text string) bool {
	v := jsontext.Value(text)
	kind := v.Kind()
	return (kind == '{' || kind == '[') && v.IsValid()
}
