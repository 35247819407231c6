package mcpadmin

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/jsonschema-go/jsonschema"
)

// description is a description of the API, as far as it is needed of the OpenAPI
// Specification 3.1.1.
type description struct {
	OpenAPI    string                               `json:"openapi"`
	Info       information                          `json:"info"`
	Servers    []place                              `json:"servers"`
	Tags       []group                              `json:"tags"`
	Paths      map[string]map[string]*describedCall `json:"paths"`
	Components components                           `json:"components"`
}

type information struct {
	Title       string `json:"title"`
	Version     string `json:"version"`
	Description string `json:"description"`
}

type place struct {
	URL string `json:"url"`
}

type group struct {
	Name string `json:"name"`
}

// describedCall is an operation.
type describedCall struct {
	Tags        []string              `json:"tags"`
	Summary     string                `json:"summary"`
	ID          string                `json:"operationId"`
	Security    []map[string][]string `json:"security"`
	Parameters  []parameter           `json:"parameters,omitzero"`
	RequestBody *requestBody          `json:"requestBody,omitzero"`
	Responses   map[string]*response  `json:"responses"`
}

type parameter struct {
	Name        string             `json:"name"`
	In          string             `json:"in"`
	Required    bool               `json:"required,omitzero"`
	Description string             `json:"description,omitzero"`
	Schema      *jsonschema.Schema `json:"schema"`
}

type requestBody struct {
	Required bool                 `json:"required"`
	Content  map[string]mediaType `json:"content"`
}

// response is an answer, or a reference to one.
type response struct {
	Ref         string               `json:"$ref,omitzero"`
	Description string               `json:"description,omitzero"`
	Headers     map[string]header    `json:"headers,omitzero"`
	Content     map[string]mediaType `json:"content,omitzero"`
}

type header struct {
	Description string             `json:"description"`
	Schema      *jsonschema.Schema `json:"schema"`
}

type mediaType struct {
	Schema *jsonschema.Schema `json:"schema"`
}

type components struct {
	Schemas   map[string]*jsonschema.Schema `json:"schemas"`
	Responses map[string]*response          `json:"responses"`
	Schemes   map[string]securityScheme     `json:"securitySchemes"`
}

type securityScheme struct {
	Type         string `json:"type"`
	Scheme       string `json:"scheme,omitzero"`
	BearerFormat string `json:"bearerFormat,omitzero"`
	// Name and In are of a header that says who somebody is.
	Name        string `json:"name,omitzero"`
	In          string `json:"in,omitzero"`
	Description string `json:"description"`
}

const jsonType = "application/json"

// errorTexts say what the statuses of errors mean here.
var errorTexts = map[int]string{
	http.StatusBadRequest:            "The request is malformed, or breaks a rule",
	http.StatusUnauthorized:          "There is no credential, or it is not good",
	http.StatusForbidden:             "This is not allowed, or the password has to be changed first",
	http.StatusNotFound:              "There is no such thing, or it is somebody else's",
	http.StatusRequestTimeout:        "The body took too long",
	http.StatusConflict:              "There is one already, or there are as many as there may be",
	http.StatusRequestEntityTooLarge: "The body is too large",
	http.StatusUnsupportedMediaType:  "The body is of another type, or encoded",
	http.StatusUnprocessableEntity:   "A member of the body cannot be what it is",
	http.StatusTooManyRequests:       "Too many such requests came from this network",
	http.StatusInternalServerError:   "Something went wrong; the log has it",
	http.StatusServiceUnavailable:    "This cannot be decided now, and may be tried again",
}

// errorsOf returns the statuses of the errors that an operation can have, in order: what
// follows from how it is declared, and what it declares itself.
func (h *Handler) errorsOf(o *operation) []int {
	all := append([]int{http.StatusInternalServerError, http.StatusServiceUnavailable}, o.refusals...)
	all = slices.AppendSeq(all, maps.Keys(o.failures))
	if o.body != nil {
		all = append(all, http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	if o.access != needsNothing {
		all = append(all, http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden)
		if o.method != http.MethodGet {
			all = append(all, http.StatusConflict)
		}
	}
	if o.access == readsDocs || h.takesPassword(o) { // both are counted
		all = append(all, http.StatusTooManyRequests)
	}
	if o.query != nil {
		all = append(all, http.StatusBadRequest)
	}
	if strings.Contains(o.path, "{") {
		all = append(all, http.StatusNotFound)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// describe makes the description of what is switched on, from the operations that are
// asked for by the same table.
func (h *Handler) describe() (*description, error) {
	d := &description{
		OpenAPI: "3.1.1",
		Info: information{
			Title: "MCP gateway", Version: version(),
			Description: "The gateway's own API, as far as it is switched on. MCP itself is spoken at /servers/{name}/mcp, and described by its " +
				"specification. Every other error than those named here has the same body, and a status that says what to do about it.",
		},
		Servers: []place{{h.base}},
		Paths:   make(map[string]map[string]*describedCall),
		Components: components{
			Responses: make(map[string]*response),
			Schemes: map[string]securityScheme{
				"session": {Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "A session token, as POST /auth/login gives it."},
			},
		},
	}
	if h.APIBasicAuth || h.DocsBasicAuth {
		d.Components.Schemes["password"] = securityScheme{Type: "http", Scheme: "basic", Description: "The address and the password of an account. Each request counts as a login."}
	}
	if h.Docs {
		d.Components.Schemes["token"] = securityScheme{Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "An API token, as POST /tokens gives it."}
	}
	if h.AdminTrustedHeader != nil {
		d.Components.Schemes["proxy"] = securityScheme{
			Type: "apiKey", Name: h.AdminTrustedHeader.Header, In: "header",
			Description: "A proxy in front of the gateway says who somebody is. From anybody else, the header has no meaning.",
		}
	}
	known := newSchemas()
	failure, err := known.of(errorBody{}, false)
	if err != nil {
		return nil, err
	}
	for _, o := range h.operations {
		call, err := h.describeCall(o, known)
		if err != nil {
			return nil, fmt.Errorf("describing %s %s: %w", o.method, o.path, err)
		}
		for _, status := range h.errorsOf(o) {
			if call.Responses[strconv.Itoa(status)] != nil {
				continue
			}
			name := responseName(status)
			call.Responses[strconv.Itoa(status)] = &response{Ref: "#/components/responses/" + name}
			d.Components.Responses[name] = failureOf(status, failure)
		}
		if d.Paths[o.path] == nil {
			d.Paths[o.path] = make(map[string]*describedCall)
		}
		d.Paths[o.path][strings.ToLower(o.method)] = call
		if listed := (group{call.Tags[0]}); !slices.Contains(d.Tags, listed) {
			d.Tags = append(d.Tags, listed)
		}
	}
	d.Components.Schemas, err = known.components()
	return d, err
}

// bytes is the description as it is read.
func (d *description) bytes() (jsontext.Value, error) {
	return json.Marshal(d, json.Deterministic(true))
}

func (h *Handler) describeCall(o *operation, known *schemas) (*describedCall, error) {
	call := &describedCall{Tags: []string{groupOf(o)}, Summary: o.summary, ID: callID(o), Security: h.security(o), Responses: make(map[string]*response)}
	for segment := range strings.SplitSeq(o.path, "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			call.Parameters = append(call.Parameters, parameter{
				Name: strings.TrimSuffix(name, "}"), In: "path", Required: true, Schema: &jsonschema.Schema{Type: "string", MinLength: new(1)},
			})
		}
	}
	asked, err := known.parameters(o.query)
	if err != nil {
		return nil, err
	}
	call.Parameters = append(call.Parameters, asked...)
	if o.body != nil {
		body, err := known.of(o.body, true)
		if err != nil {
			return nil, err
		}
		kind := jsonType
		if o.form {
			kind = "application/x-www-form-urlencoded"
		}
		call.RequestBody = &requestBody{!o.optional, map[string]mediaType{kind: {body}}}
	}
	for status, body := range o.failures {
		schema, err := known.of(body, false)
		if err != nil {
			return nil, err
		}
		call.Responses[strconv.Itoa(status)] = failureOf(status, schema)
	}
	answer := &response{Description: http.StatusText(o.status)}
	switch o.answer.(type) {
	case nil:
	case *page:
		answer.Content = map[string]mediaType{"text/html": {&jsonschema.Schema{Type: "string"}}}
	default:
		schema, err := known.of(o.answer, false)
		if err != nil {
			return nil, err
		}
		answer.Content = map[string]mediaType{jsonType: {schema}}
	}
	call.Responses[strconv.Itoa(o.status)] = answer
	return call, nil
}

// parameters returns those of a query string.
func (s *schemas) parameters(query any) (all []parameter, err error) {
	switch query := query.(type) {
	case nil:
		return nil, nil
	case []string:
		for _, name := range query {
			all = append(all, parameter{Name: name, In: "query", Schema: &jsonschema.Schema{Type: "string"}})
		}
		return all, nil
	}
	asked, err := s.make(reflect.TypeOf(query), reflect.TypeOf(query), true)
	if err != nil {
		return nil, err
	}
	for _, name := range asked.PropertyOrder {
		p := parameter{Name: name, In: "query", Required: slices.Contains(asked.Required, name), Schema: asked.Properties[name]}
		p.Description, p.Schema.Description = p.Schema.Description, ""
		all = append(all, p)
	}
	return all, nil
}

// takesPassword reports whether an address and a password will do.
func (h *Handler) takesPassword(o *operation) bool {
	switch o.access {
	case takesBasic, administering:
		return h.APIBasicAuth
	case readsDocs:
		return h.DocsBasicAuth
	case needsNothing, needsSession:
	}
	return false
}

// security is what may be shown to be let in; with more than one, any of them.
func (h *Handler) security(o *operation) []map[string][]string {
	if o.access == needsNothing {
		return []map[string][]string{}
	}
	shown := []map[string][]string{{"session": {}}}
	if o.access == readsDocs {
		shown = append(shown, map[string][]string{"token": {}})
	}
	if h.takesPassword(o) {
		shown = append(shown, map[string][]string{"password": {}})
	}
	if o.access == administering && h.AdminTrustedHeader != nil {
		shown = append(shown, map[string][]string{"proxy": {}})
	}
	return shown
}

// failureOf is the answer of an error.
func failureOf(status int, body *jsonschema.Schema) *response {
	text := &jsonschema.Schema{Type: "string"}
	r := &response{
		Description: cmp.Or(errorTexts[status], http.StatusText(status)),
		Content:     map[string]mediaType{jsonType: {body}},
		Headers:     make(map[string]header),
	}
	switch status {
	case http.StatusUnauthorized:
		r.Headers["WWW-Authenticate"] = header{"How to be let in (RFC 9110 section 11.6.1)", text}
	case http.StatusForbidden:
		r.Headers["X-Password-Change-Required"] = header{"true, if the password has to be changed first", text}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		r.Headers["Retry-After"] = header{"After how many seconds to try again", text}
	}
	return r
}

func responseName(status int) string {
	return strings.ReplaceAll(http.StatusText(status), " ", "")
}

// groupOf is what an operation is listed under.
func groupOf(o *operation) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(o.path, "/"), "/")
	return cmp.Or(o.group, first)
}

// callID names an operation for programs: getAuthMe, deleteTokensById.
func callID(o *operation) string {
	var id strings.Builder
	id.WriteString(strings.ToLower(o.method))
	for word := range strings.FieldsFuncSeq(o.path, func(r rune) bool { return strings.ContainsRune("/.-_}", r) }) {
		if name, ok := strings.CutPrefix(word, "{"); ok {
			id.WriteString("By")
			word = name
		}
		id.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return id.String()
}

// modulePath is what the version is that of.
const modulePath = "github.com/caddymcp/caddy-mcp-gateway"

// version is that of the plugin in this Caddy.
func version() string {
	built, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range append(built.Deps, &built.Main) {
		if m.Path == modulePath {
			return cmp.Or(m.Version, "(devel)")
		}
	}
	return "unknown"
}

// sortedKeys returns the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
