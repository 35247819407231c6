package jsonrpc

var (
	paramNames = []string{
		"name", "uri", "cursor", "taskId", "protocolVersion", "requestId", "task",
		"arguments", "ref", "_meta", "notifications", "inputResponses", "requestState",
	}
	refNames  = []string{"type", "name", "uri"}
	metaNames = []string{
		metaProtocolVersion, metaClientCapabilities, "progressToken",
	}
	notificationNames = []string{
		"toolsListChanged", "promptsListChanged", "resourcesListChanged", "resourceSubscriptions", "taskIds",
	}
)

// The members of _meta that decide (MCP 2026-07-28, per-request metadata).
const (
	metaProtocolVersion    = "io.modelcontextprotocol/protocolVersion"
	metaClientCapabilities = "io.modelcontextprotocol/clientCapabilities"
)

func (r *reader) params(p *Params) error {
	ok, err := r.open('{', "params must be an object")
	if !ok || err != nil {
		return err
	}
	p.Present = true
	n := names{paramNames, len(r.names)}
	for {
		name, ok, err := r.next(&n)
		if err != nil || !ok {
			return err
		}
		switch string(name) {
		case "name":
			p.Name, err = r.text("name")
		case "uri":
			p.URI, err = r.text("uri")
		case "cursor":
			from := r.ahead()
			p.Cursor, err = r.text("cursor")
			p.cursorAt = span{from, int(r.dec.InputOffset())}
		case "taskId":
			p.TaskID, err = r.text("taskId")
		case "protocolVersion":
			p.ProtocolVersion, err = r.text("protocolVersion")
		case "requestId":
			p.RequestID, err = r.identifier()
		case "task":
			p.Task = true
			_, err = r.value()
		case "arguments":
			if p.Arguments, err = r.value(); err == nil && p.Arguments[0] != '{' {
				r.refuse(CodeInvalidParams, "member_type", "arguments must be an object")
			}
		case "ref":
			err = r.ref(&p.Ref)
		case "_meta":
			err = r.meta(&p.Meta)
		case "notifications":
			r.dec.PeekKind() // so that what is between name and value is read
			from := int(r.dec.InputOffset())
			err = r.notifications(&p.Notifications)
			p.Notifications.at = span{from, int(r.dec.InputOffset())}
		default:
			_, err = r.value()
		}
		if err != nil {
			return err
		}
	}
}

func (r *reader) ref(ref *Ref) error {
	ok, err := r.open('{', "ref must be an object")
	if !ok || err != nil {
		return err
	}
	ref.Present = true
	n := names{refNames, len(r.names)}
	for {
		name, ok, err := r.next(&n)
		if err != nil || !ok {
			return err
		}
		switch string(name) {
		case "type":
			ref.Type, err = r.text("ref.type")
		case "name":
			ref.Name, err = r.text("ref.name")
		case "uri":
			ref.URI, err = r.text("ref.uri")
		default:
			_, err = r.value()
		}
		if err != nil {
			return err
		}
	}
}

func (r *reader) meta(m *Meta) error {
	ok, err := r.open('{', "_meta must be an object")
	if !ok || err != nil {
		return err
	}
	m.Present = true
	n := names{metaNames, len(r.names)}
	for {
		name, ok, err := r.next(&n)
		if err != nil || !ok {
			return err
		}
		switch string(name) {
		case metaProtocolVersion:
			m.ProtocolVersion, err = r.text("_meta's protocolVersion")
		case metaClientCapabilities:
			var v []byte
			v, err = r.value()
			m.ClientCapabilities = err == nil && v[0] == '{'
		default:
			_, err = r.value()
		}
		if err != nil {
			return err
		}
	}
}

func (r *reader) notifications(f *Notifications) error {
	ok, err := r.open('{', "notifications must be an object")
	if !ok || err != nil {
		return err
	}
	f.Present = true
	n := names{notificationNames, len(r.names)}
	for {
		name, ok, err := r.next(&n)
		if err != nil || !ok {
			return err
		}
		switch string(name) {
		case "toolsListChanged":
			f.ToolsListChanged, err = r.flag("toolsListChanged")
		case "promptsListChanged":
			f.PromptsListChanged, err = r.flag("promptsListChanged")
		case "resourcesListChanged":
			f.ResourcesListChanged, err = r.flag("resourcesListChanged")
		case "resourceSubscriptions":
			f.ResourceSubscriptions, err = r.texts("resourceSubscriptions")
		case "taskIds":
			f.TaskIDs, err = r.texts("taskIds")
		default:
			f.Unknown = true
			_, err = r.value()
		}
		if err != nil {
			return err
		}
	}
}
