package differential

import (
	"bytes"
	"encoding/json"
)

// goStruct reads as servers in Go do that decode into structs with encoding/json, which
// folds case and takes the last of two.
func goStruct(body []byte) view {
	v := view{Batch: isArray(body)}
	raws := []json.RawMessage{body}
	if v.Batch {
		raws = nil
		if err := json.Unmarshal(body, &raws); err != nil {
			return view{Error: err.Error()}
		}
	}
	for _, raw := range raws {
		var m struct {
			ID     json.RawMessage
			Method *string
			Params *struct {
				Name, URI, Cursor, TaskID, ProtocolVersion *string
				RequestID, Task, Arguments                 json.RawMessage

				Ref  *struct{ Type, Name, URI *string }
				Meta *struct {
					Version *string `json:"io.modelcontextprotocol/protocolVersion"`
				} `json:"_meta"`
				Notifications *struct {
					ToolsListChanged, PromptsListChanged, ResourcesListChanged bool
					ResourceSubscriptions, TaskIDs                             []string
				}
			}
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return view{Error: err.Error()}
		}
		s := seen{}
		text := func(name string, value *string) {
			if value != nil {
				s[name] = canonicalString(*value)
			}
		}
		raw := func(name string, value json.RawMessage) {
			if value != nil {
				s[name] = canonicalJSON(value)
			}
		}
		text("method", m.Method)
		raw("id", m.ID)
		if p := m.Params; p != nil {
			text("name", p.Name)
			text("uri", p.URI)
			text("cursor", p.Cursor)
			text("taskId", p.TaskID)
			text("protocolVersion", p.ProtocolVersion)
			raw("requestId", p.RequestID)
			raw("arguments", p.Arguments)
			if p.Task != nil {
				s["task"] = "present"
			}
			if p.Ref != nil {
				text("refType", p.Ref.Type)
				text("refName", p.Ref.Name)
				text("refURI", p.Ref.URI)
			}
			if p.Meta != nil {
				text("version", p.Meta.Version)
			}
			if n := p.Notifications; n != nil {
				s["notifications"] = canonicalValue([]any{
					n.ToolsListChanged, n.PromptsListChanged, n.ResourcesListChanged, list(n.ResourceSubscriptions), list(n.TaskIDs),
				})
			}
		}
		s["kind"] = kindOf(s)
		v.Messages = append(v.Messages, s)
	}
	return v
}

// goMap reads as servers in Go do that decode into maps, which are exact.
func goMap(body []byte) view {
	var parsed any
	if err := unmarshal(body, &parsed); err != nil {
		return view{Error: err.Error()}
	}
	all, batch := parsed.([]any)
	if !batch {
		all = []any{parsed}
	}
	v := view{Batch: batch}
	for _, message := range all {
		s := seen{}
		for name, path := range map[string][]string{
			"method": {"method"}, "id": {"id"}, "name": {"params", "name"}, "uri": {"params", "uri"},
			"cursor": {"params", "cursor"}, "taskId": {"params", "taskId"}, "protocolVersion": {"params", "protocolVersion"},
			"requestId": {"params", "requestId"}, "arguments": {"params", "arguments"},
			"refType": {"params", "ref", "type"}, "refName": {"params", "ref", "name"}, "refURI": {"params", "ref", "uri"},
			"version": {"params", "_meta", "io.modelcontextprotocol/protocolVersion"},
		} {
			if value, ok := member(message, path...); ok {
				s[name] = canonicalValue(value)
			}
		}
		if _, ok := member(message, "params", "task"); ok {
			s["task"] = "present"
		}
		if n, ok := member(message, "params", "notifications"); ok {
			asked := []any{}
			for _, name := range []string{"toolsListChanged", "promptsListChanged", "resourcesListChanged"} {
				flag, _ := member(n, name)
				asked = append(asked, flag == true)
			}
			for _, name := range []string{"resourceSubscriptions", "taskIds"} {
				texts, _ := member(n, name)
				all, _ := texts.([]any)
				asked = append(asked, all)
			}
			s["notifications"] = canonicalValue(asked)
		}
		s["kind"] = kindOf(s)
		v.Messages = append(v.Messages, s)
	}
	return v
}

func member(value any, path ...string) (any, bool) {
	for _, name := range path {
		object, _ := value.(map[string]any)
		var ok bool
		if value, ok = object[name]; !ok {
			return nil, false
		}
	}
	return value, true
}

func kindOf(s seen) string {
	switch {
	case s["method"] == "":
		return "response"
	case s["id"] == "":
		return "notification"
	}
	return "request"
}

func isArray(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte{'['})
}
