package jsonrpc

// Read reads a client's body: one message, or a batch of them, of which only the
// caller knows whether it is allowed. Every message aliases body. The error is an
// *Error.
func Read(body []byte) (messages []Message, batch bool, err error) {
	return read(body, false)
}

// ReadAnswer reads what a server sent: as Read, and what decides in the results
// of its responses.
func ReadAnswer(body []byte) (messages []Message, batch bool, err error) {
	return read(body, true)
}

func read(body []byte, answers bool) (messages []Message, batch bool, err error) {
	r := newReader(body, answers)
	defer r.release()
	switch r.dec.PeekKind() {
	case '{':
		messages = make([]Message, 1)
		err = r.message(&messages[0])
	case '[':
		batch = true
		messages, err = r.batch()
	default:
		// A scalar, nothing at all, or not JSON: value tells which.
		if _, err = r.value(); err == nil {
			r.refuse(CodeInvalidRequest, "message_shape", "a message must be an object")
		}
	}
	if err == nil {
		err = r.end()
	}
	if err == nil && tooDeep(body) {
		r.refuse(CodeParse, "json_depth", "the message nests too deeply")
	}
	if err == nil && r.fault != nil {
		if len(messages) == 1 && !batch {
			r.fault.ID = messages[0].ID
		}
		err = r.fault
	}
	if err != nil {
		return nil, batch, err
	}
	return messages, batch, nil
}

// batch reads an array of messages (MCP 2025-03-26, JSON-RPC 2.0 section 6).
func (r *reader) batch() ([]Message, error) {
	if _, err := r.token(); err != nil {
		return nil, err
	}
	var messages []Message
	responses := 0
	for r.dec.PeekKind() != ']' {
		if len(messages) == MaxBatch {
			return nil, &Error{Code: CodeInvalidRequest, Reason: "batch_too_long", Detail: "the batch holds too many messages"}
		}
		if r.dec.PeekKind() != '{' {
			if _, err := r.value(); err != nil {
				return nil, err
			}
			r.refuse(CodeInvalidRequest, "message_shape", "a message must be an object")
			continue
		}
		messages = append(messages, Message{})
		m := &messages[len(messages)-1]
		if err := r.message(m); err != nil {
			return nil, err
		}
		if m.Kind == Response {
			responses++
		}
	}
	if len(messages) == 0 {
		r.refuse(CodeInvalidRequest, "batch_empty", "the batch is empty")
	}
	if !r.answers && responses != 0 && responses != len(messages) {
		r.refuse(CodeInvalidRequest, "batch_mixed", "the batch mixes responses with other messages")
	}
	_, err := r.token()
	return messages, err
}

var messageNames = []string{"jsonrpc", "id", "method", "params", "result", "error"}

// message reads one message object.
func (r *reader) message(m *Message) error {
	begin, err := r.token()
	if err != nil {
		return err
	}
	var (
		n                                   = names{messageNames, len(r.names)}
		version, hasMethod, hasID, idIsNull bool
		hasResult, hasError                 bool
	)
	for {
		name, ok, err := r.next(&n)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		switch string(name) {
		case "jsonrpc":
			var v []byte
			v, err = r.value()
			version = string(v) == `"2.0"`
		case "id":
			hasID = true
			if idIsNull = r.dec.PeekKind() == 'n'; idIsNull {
				_, err = r.value()
			} else {
				m.ID, err = r.identifier()
			}
		case "method":
			hasMethod = true
			var t Text
			t, err = r.text("method")
			m.Method = t.Value
		case "params":
			err = r.params(&m.Params)
		case "result":
			hasResult = true
			err = r.result(&m.Result)
		case "error":
			hasError = true
			_, err = r.value()
		default:
			_, err = r.value()
		}
		if err != nil {
			return err
		}
	}
	end := int(r.dec.InputOffset())
	m.offset = begin - 1
	m.Raw = r.body[m.offset:end:end]
	m.Failed = hasError

	switch {
	case !version:
		r.refuse(CodeInvalidRequest, "message_version", `jsonrpc must be "2.0"`)
	case hasMethod && (hasResult || hasError):
		r.refuse(CodeInvalidRequest, "message_shape", "a message has either a method or a result")
	case hasMethod && idIsNull:
		r.refuse(CodeInvalidRequest, "id_null", "a request's id must not be null")
	case hasMethod && m.Method == "":
		r.refuse(CodeInvalidRequest, "message_shape", "the method is empty")
	case hasMethod && hasID:
		m.Kind = Request
	case hasMethod:
		m.Kind = Notification
	case hasResult == hasError:
		r.refuse(CodeInvalidRequest, "message_shape", "a message has a method, a result or an error")
	case (!hasID || idIsNull) && (hasResult || !r.answers):
		// Only a server may leave out the id, and only to say that it could
		// not read a request (JSON-RPC 2.0 section 5).
		r.refuse(CodeInvalidRequest, "message_shape", "a response needs an id")
	default:
		m.Kind = Response
	}
	return nil
}
