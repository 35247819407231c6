package jsonrpc

// extensionTasks is the capability to follow tasks (MCP extension
// io.modelcontextprotocol/tasks, SEP-2663).
const extensionTasks = "io.modelcontextprotocol/tasks"

var (
	capabilityNames = []string{"roots", "sampling", "elicitation", "extensions"}
	extensionNames  = []string{extensionTasks}
)

// capabilities reads what a client declares. The object has begun, but for its brace.
func (r *reader) capabilities(d *Declared) error {
	if _, err := r.token(); err != nil {
		return err
	}
	n := names{capabilityNames, len(r.names)}
	for {
		name, ok, err := r.next(&n)
		if err != nil || !ok {
			return err
		}
		isObject := r.dec.PeekKind() == '{'
		switch string(name) {
		case "roots":
			d.Roots = isObject
		case "sampling":
			d.Sampling = isObject
		case "elicitation":
			d.Elicitation = isObject
		case "extensions":
			if isObject {
				if err := r.extensions(d); err != nil {
					return err
				}
				continue
			}
		}
		if _, err := r.value(); err != nil {
			return err
		}
	}
}

func (r *reader) extensions(d *Declared) error {
	begin, err := r.token()
	if err != nil {
		return err
	}
	n := names{extensionNames, len(r.names)}
	for before := begin; ; before = int(r.dec.InputOffset()) {
		name, ok, err := r.next(&n)
		if err != nil || !ok {
			return err
		}
		isTasks := string(name) == extensionTasks
		v, err := r.value()
		if err != nil {
			return err
		}
		if !isTasks {
			continue
		}
		d.Tasks = v[0] == '{'
		d.tasks = span{before, int(r.dec.InputOffset())}
		if before == begin {
			// The first member has its comma behind it.
			for i, c := range r.body[d.tasks.to:] {
				if c == ',' {
					d.tasks.to += i + 1
				}
				if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
					break
				}
			}
		}
	}
}

// AppendWithoutTasks appends the message without the extension for tasks among the
// capabilities of its client, everything else as it was. The message must come from
// Read of body.
func (m *Message) AppendWithoutTasks(dst, body []byte) []byte {
	end := m.offset + len(m.Raw)
	at := m.Params.Meta.Declared.tasks
	if at.to == 0 {
		return append(dst, body[m.offset:end]...)
	}
	return append(append(dst, body[m.offset:at.from]...), body[at.to:end]...)
}
