package mcpadmin

import "reflect"

// Describe returns the description of what a handler does, whether it shows it or not,
// and the path of the public URL.
func (h *Handler) Describe() (document []byte, prefix string, err error) {
	d, err := h.describe()
	if err != nil {
		return nil, "", err
	}
	document, err = d.bytes()
	return document, h.prefix, err
}

// Operations are what a handler does: the methods and the paths, with which credentials.
func (h *Handler) Operations() (all []Operation) {
	for _, o := range h.operations {
		all = append(all, Operation{o.method, o.path, o.access == needsNothing, h.takesPassword(o)})
	}
	return all
}

// Operation is one of them.
type Operation struct {
	Method, Path string
	// Open is whether anybody can do it, Basic whether a password will do.
	Open, Basic bool
}

// Types are the types of what a handler reads and writes, by the names with which their
// doc comments are kept.
func (h *Handler) Types() (map[string]reflect.Type, error) {
	known, all := newSchemas(), make(map[string]reflect.Type)
	for _, o := range h.operations {
		values := []any{o.body, o.answer, o.query, errorBody{}}
		for _, failure := range o.failures {
			values = append(values, failure)
		}
		for _, value := range values {
			if _, is := value.(*page); value == nil || is {
				continue
			}
			if err := known.collect(reflect.TypeOf(value), false, false); err != nil {
				return nil, err
			}
		}
	}
	for t := range known.names {
		all[typeName(t)] = t
	}
	return all, nil
}

// Descriptions are those of the program.
func Descriptions() map[string]string { return descriptions }

// Module is the path of the module, with which those of its packages begin.
const Module = modulePath
