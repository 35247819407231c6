package mcpadmin

import (
	"net/http"
	"net/url"
	"strings"

	"go.uber.org/zap"
)

// operation is one thing that can be asked for: what the API does, and what its
// description says, are made of the same operations.
type operation struct {
	method string
	// path is that below the public URL. A segment such as {id} stands for any one
	// that is not empty; the action has it from the request's PathValue.
	path string
	// summary says in a sentence what it does, without a full stop.
	summary string
	// body and answer are values of the types that are read and written, nil for
	// none; their doc comments and tags describe them: see schemas. status is the
	// answer's.
	body, answer any
	status       int
	act          action

	// group is what it is listed under; empty stands for the first segment of the path.
	group string
	// query says which parameters the query string may have: their names, or a value of
	// a struct type, whose members they are; nil for none.
	query any
	// form is whether the body is sent as an HTML form sends it, and optional whether
	// it may be left out.
	form, optional bool
	// access is what has to be shown to be let in; nothing given, a session token.
	access access
	// refusals are the statuses of errors that nothing else here implies; see
	// errorsOf.
	refusals []int
	// failures are values of the types of errors that have another body than all
	// others, by their statuses.
	failures map[int]any
}

// access is what an operation demands of who asks for it.
type access uint8

const (
	// needsSession is for a session token, and nothing else.
	needsSession access = iota
	// needsNothing is for whoever asks.
	needsNothing
	// takesBasic is for a session token or, if that is switched on for the API, an
	// address and a password: the action calls the handler's identify method.
	takesBasic
	// readsDocs is the same with the switch of the documentation, or for an API token:
	// the action calls the reader method.
	readsDocs
	// administering is for what takesBasic is, or for whom a trusted proxy names: the
	// action calls the administrator method.
	administering
)

// action answers a request. What it returns is written as JSON.
type action func(w http.ResponseWriter, r *http.Request) (*answer, error)

// table is what operations are looked up in.
type table struct {
	logger *zap.Logger
	// prefix is in front of all paths.
	prefix string
	// operations are all that are switched on, routes the same by path and method, and
	// patterns those paths that stand for several.
	operations []*operation
	routes     map[string]map[string]*operation
	patterns   []string
}

// add has an operation asked for by its method and path.
func (h *table) add(o operation) {
	path := h.prefix + o.path
	if h.routes == nil {
		h.routes = make(map[string]map[string]*operation)
	}
	if h.routes[path] == nil {
		h.routes[path] = make(map[string]*operation)
		if strings.Contains(o.path, "{") {
			h.patterns = append(h.patterns, path)
		}
	}
	h.routes[path][o.method] = &o
	h.operations = append(h.operations, &o)
}

// Operations lists all that is switched on, as a method and a path such as
// `DELETE /tokens/{id}`.
func (h *table) Operations() []string {
	list := make([]string, len(h.operations))
	for i, o := range h.operations {
		list[i] = o.method + " " + o.path
	}
	return list
}

// find returns the operations of a path, by their methods, and fills in the request's
// path values. An exact path goes before a pattern.
func (h *table) find(path string, r *http.Request) map[string]*operation {
	if found := h.routes[path]; found != nil && !strings.Contains(path, "{") {
		return found
	}
	for _, pattern := range h.patterns {
		if match(pattern, path, r) {
			return h.routes[pattern]
		}
	}
	return nil
}

// match reports whether a path is one of a pattern's. Each segment is decoded by itself,
// so that an encoded slash never makes two of one.
func match(pattern, path string, r *http.Request) bool {
	wanted, given := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(wanted) != len(given) {
		return false
	}
	values := make(map[string]string)
	for i, want := range wanted {
		if name, ok := strings.CutPrefix(want, "{"); ok {
			value, err := url.PathUnescape(given[i])
			if err != nil || value == "" {
				return false
			}
			values[strings.TrimSuffix(name, "}")] = value
		} else if want != given[i] {
			return false
		}
	}
	for name, value := range values {
		r.SetPathValue(name, value)
	}
	return true
}
