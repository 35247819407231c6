package gateways

import (
	"bytes"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// object is a JSON object, its members in order.
type object []member

type member struct {
	name  string
	value jsontext.Value
}

func (o object) get(name string) jsontext.Value {
	for _, m := range o {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// find returns the configuration of the mcp_gateway app, nil if it has none, and those
// of the mcp_auth handlers, wherever they are nested: in routes of servers, named routes,
// subroutes, handlers of responses and errors. What is there twice, because a snippet is
// imported twice, is one.
func find(config jsontext.Value) (app jsontext.Value, handlers []jsontext.Value, err error) {
	all, err := members(config)
	if err != nil {
		return nil, nil, err
	}
	apps := all.get("apps")
	if apps == nil || apps.Kind() != '{' {
		return nil, nil, nil
	}
	named, err := members(apps)
	if err != nil {
		return nil, nil, err
	}
	return named.get("mcp_gateway"), handlers, walk(apps, &handlers)
}

func walk(value jsontext.Value, handlers *[]jsontext.Value) error {
	switch value.Kind() {
	case '[':
		var list []jsontext.Value
		if err := json.Unmarshal(value, &list); err != nil {
			return err
		}
		for _, element := range list {
			if err := walk(element, handlers); err != nil {
				return err
			}
		}
	case '{':
		o, err := members(value)
		if err != nil {
			return err
		}
		if string(o.get("handler")) == `"mcp_auth"` {
			o = slices.DeleteFunc(o, func(m member) bool { return m.name == "handler" })
			text, err := o.text()
			if err == nil && !slices.ContainsFunc(*handlers, func(h jsontext.Value) bool { return bytes.Equal(h, text) }) {
				*handlers = append(*handlers, text)
			}
			return err
		}
		for _, m := range o {
			if err := walk(m.value, handlers); err != nil {
				return err
			}
		}
	default: // nothing can be in it
	}
	return nil
}

// withoutKeys takes the keys of the issuers out of a handler's configuration: what
// tokens they accept is then not known, and nothing else changes.
func withoutKeys(handler jsontext.Value) (jsontext.Value, error) {
	o, err := members(handler)
	if err != nil {
		return nil, err
	}
	for n, m := range o {
		if m.name != "issuers" {
			continue
		}
		var issuers []jsontext.Value
		if err := json.Unmarshal(m.value, &issuers); err != nil {
			return nil, err
		}
		for k, issuer := range issuers {
			of, err := members(issuer)
			if err != nil {
				return nil, err
			}
			of = slices.DeleteFunc(of, func(m member) bool { return m.name == "keys" || m.name == "algorithms" })
			of = append(of, member{"keys", jsontext.Value(nowhere)})
			if issuers[k], err = of.text(); err != nil {
				return nil, err
			}
		}
		if o[n].value, err = json.Marshal(issuers); err != nil {
			return nil, err
		}
	}
	return o.text()
}

// nowhere are keys that are never fetched, at an address that cannot exist (RFC 6761
// section 6.4).
const nowhere = `{"source":"jwks","url":"https://keys.invalid/"}`

func members(value jsontext.Value) (object, error) {
	d := jsontext.NewDecoder(bytes.NewReader(value))
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	var o object
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		text := name.String()
		inner, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		o = append(o, member{text, inner.Clone()})
	}
	return o, nil
}

func (o object) text() (jsontext.Value, error) {
	var out bytes.Buffer
	e := jsontext.NewEncoder(&out)
	if err := e.WriteToken(jsontext.BeginObject); err != nil {
		return nil, err
	}
	for _, m := range o {
		if err := e.WriteToken(jsontext.String(m.name)); err != nil {
			return nil, err
		}
		if err := e.WriteValue(m.value); err != nil {
			return nil, err
		}
	}
	err := e.WriteToken(jsontext.EndObject)
	return bytes.TrimSpace(out.Bytes()), err
}
