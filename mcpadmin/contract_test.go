package mcpadmin_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	validation "github.com/pb33f/libopenapi-validator/errors"

	"github.com/caddymcp/caddy-mcp-gateway/mcpadmin"
)

// contract is what a handler says about itself, to which each of its answers in these
// tests is held.
type contract struct {
	validator  validator.Validator
	operations []mcpadmin.Operation
	prefix     string
}

// checked are the operations of which an answer that was no error has been held to their
// description, and known all that there are.
var (
	checkedMu      sync.Mutex
	checked, known = map[string]bool{}, map[string]bool{}
)

// TestMain runs all tests, after which nothing may be described that was never seen.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if all := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" && flag.Lookup("test.list").Value.String() == ""; all && code == 0 {
		for name := range known {
			if !checked[name] {
				fmt.Printf("no test had an answer of %s that could be held to its description\n", name)
				code = 1
			}
		}
		if len(checked) == 0 {
			fmt.Println("no answer was held to a description")
			code = 1
		}
	}
	os.Exit(code)
}

// contracts are those of before, by their documents: the same configuration is loaded
// often, at other addresses.
var (
	contracts     sync.Map
	withoutServer = regexp.MustCompile(`"servers":\[[^]]*\]`)
)

// newContract reads what the handler of the running Caddy says about itself; nil if
// there is none.
func newContract(t *testing.T) *contract {
	t.Helper()
	h := runningHandler(t)
	if h == nil {
		return nil
	}
	document, prefix, err := h.Describe()
	if err != nil {
		t.Fatal(err)
	}
	return readContract(t, document, prefix, h.Operations())
}

func readContract(t *testing.T, document []byte, prefix string, operations []mcpadmin.Operation) *contract {
	t.Helper()
	for _, o := range operations {
		checkedMu.Lock()
		known[o.Method+" "+o.Path] = true
		checkedMu.Unlock()
	}
	key := withoutServer.ReplaceAllString(string(document), "")
	if c, ok := contracts.Load(key); ok {
		return c.(*contract)
	}
	read, err := libopenapi.NewDocument(closed(t, document))
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(read, config.WithFormatAssertions())
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, errs := v.ValidateDocument(); !ok {
		t.Fatalf("the description is no OpenAPI document: %s\n%s", explain(errs), document)
	}
	c := &contract{v, operations, prefix}
	contracts.Store(key, c)
	return c
}

// closed makes a description stricter than it is for those who read it: no member that it
// does not name may be there.
func closed(t *testing.T, document []byte) []byte {
	t.Helper()
	var all any
	if err := json.Unmarshal(document, &all); err != nil {
		t.Fatal(err)
	}
	var walk func(value any)
	walk = func(value any) {
		switch value := value.(type) {
		case object:
			if _, given := value["additionalProperties"]; !given && value["properties"] != nil {
				value["additionalProperties"] = false
			}
			for _, member := range value {
				walk(member)
			}
		case []any:
			for _, member := range value {
				walk(member)
			}
		}
	}
	walk(all)
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// runningHandler is that of the Caddy that runs in this process.
func runningHandler(t *testing.T) *mcpadmin.Handler {
	t.Helper()
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	var find func(routes caddyhttp.RouteList) *mcpadmin.Handler
	find = func(routes caddyhttp.RouteList) *mcpadmin.Handler {
		for _, route := range routes {
			for _, handler := range route.Handlers {
				switch handler := handler.(type) {
				case *mcpadmin.Handler:
					return handler
				case *caddyhttp.Subroute:
					if h := find(handler.Routes); h != nil {
						return h
					}
				}
			}
		}
		return nil
	}
	for _, server := range app.(*caddyhttp.App).Servers {
		if h := find(server.Routes); h != nil {
			return h
		}
	}
	return nil
}

// check holds an answer to what is said of the operation, if it is one.
func (c *contract) check(t *testing.T, request *http.Request, sent []byte, r *reply) {
	t.Helper()
	o := c.find(request)
	if o == nil {
		return
	}
	name := o.Method + " " + o.Path
	if err := c.verify(request, sent, r); err != nil {
		t.Errorf("%s is not as described: %v", name, err)
	} else if r.status < http.StatusMultipleChoices {
		checkedMu.Lock()
		checked[name] = true
		checkedMu.Unlock()
	}
}

// verify returns an error unless the status of the answer is one that was told, and its
// body has all members and no other. What was done must have been asked for as told, too.
func (c *contract) verify(request *http.Request, sent []byte, r *reply) error {
	request = request.Clone(request.Context())
	request.URL = &url.URL{Scheme: request.URL.Scheme, Host: request.URL.Host, Path: strings.TrimPrefix(request.URL.EscapedPath(), c.prefix), RawQuery: request.URL.RawQuery}
	// The validator reads both bodies.
	request.Body = io.NopCloser(bytes.NewReader(sent))
	response := &http.Response{StatusCode: r.status, Header: r.header, Body: io.NopCloser(strings.NewReader(r.text)), Request: request}
	if ok, errs := c.validator.ValidateHttpResponse(request, response); !ok {
		return fmt.Errorf("the answer: %s\n%d %s", explain(errs), r.status, r.text)
	}
	if r.status >= http.StatusMultipleChoices {
		return nil
	}
	request.Body = io.NopCloser(bytes.NewReader(sent))
	if ok, errs := c.validator.ValidateHttpRequestSync(request); !ok {
		return fmt.Errorf("there is no such request: %s\n%s", explain(errs), sent)
	}
	return nil
}

// find returns the operation that a request is for, if it is for one: an exact path goes
// before a pattern.
func (c *contract) find(request *http.Request) *mcpadmin.Operation {
	path, ok := strings.CutPrefix(request.URL.EscapedPath(), c.prefix)
	if !ok {
		return nil
	}
	given := strings.Split(path, "/")
	fits := func(o mcpadmin.Operation) bool {
		wanted := strings.Split(o.Path, "/")
		return o.Method == request.Method && slices.EqualFunc(wanted, given, func(want, have string) bool {
			return want == have || strings.HasPrefix(want, "{") && have != ""
		})
	}
	i := slices.IndexFunc(c.operations, func(o mcpadmin.Operation) bool { return o.Path == path && o.Method == request.Method })
	if i < 0 {
		i = slices.IndexFunc(c.operations, fits)
	}
	if i < 0 {
		return nil
	}
	return &c.operations[i]
}

func explain(errs []*validation.ValidationError) string {
	var text strings.Builder
	for _, err := range errs {
		fmt.Fprintf(&text, "\n  %s: %s", err.Message, err.Reason)
		for _, schema := range err.SchemaValidationErrors {
			fmt.Fprintf(&text, "\n    %s: %s", schema.FieldPath, schema.Reason)
		}
	}
	return text.String()
}

// TestContract: what differs from the description in any way is found.
func TestContract(t *testing.T) {
	w := newSettled(t)
	w.site = everything
	w.start()
	credentials := object{"email": "bob@example.com", "password": bobNext}
	session := w.post("/auth/login", "", credentials).want(http.StatusOK, "")
	w.secrets = append(w.secrets, session.str("access_token"), session.str("refresh_token"))
	for _, tc := range []struct {
		name           string
		request, reply func(object)
		status         int
		found          bool
	}{
		{name: "as it was"},
		{name: "another member", reply: func(r object) { r["more"] = 1 }, found: true},
		{name: "another member of what has a name", reply: func(r object) { r["user"].(object)["hash"] = "x" }, found: true},
		{name: "no member", reply: func(r object) { delete(r, "expires_in") }, found: true},
		{name: "no member of what has a name", reply: func(r object) { delete(r["user"].(object), "is_admin") }, found: true},
		{name: "another type", reply: func(r object) { r["expires_in"] = "20m" }, found: true},
		{name: "no time", reply: func(r object) { r["user"].(object)["created_at"] = "yesterday" }, found: true},
		{name: "null", reply: func(r object) { r["user"] = nil }, found: true},
		{name: "an answer as an error", status: http.StatusForbidden, found: true},
		{name: "a status that was not told", reply: func(r object) { clear(r); r["error"], r["reason"] = "x", "x" }, status: http.StatusPaymentRequired, found: true},
		{name: "an error that was told", reply: func(r object) { clear(r); r["error"], r["reason"] = "x", "x" }, status: http.StatusForbidden},
		{name: "another member asked for", request: func(r object) { r["more"] = 1 }, found: true},
		{name: "a member not given", request: func(r object) { delete(r, "password") }, found: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var answered object
			if err := json.Unmarshal([]byte(session.text), &answered); err != nil {
				t.Fatal(err)
			}
			sent := maps.Clone(credentials)
			if tc.reply != nil {
				tc.reply(answered)
			}
			if tc.request != nil {
				tc.request(sent)
			}
			body, err := json.Marshal(sent)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(answered)
			if err != nil {
				t.Fatal(err)
			}
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/auth/login", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/json")
			err = w.contract.verify(request, body, &reply{t: t, status: cmp.Or(tc.status, http.StatusOK), header: session.header, text: string(text)})
			if (err != nil) != tc.found {
				t.Errorf("got %v", err)
			}
		})
	}
}
