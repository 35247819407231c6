package sse

import (
	"bytes"
	"strconv"
	"time"
)

// AppendData appends to dst the event with its data replaced. Every other line,
// comments and unknown fields included, is kept byte for byte and in order; the
// new data stands where the first data line stood, with that line's kind of line
// end, one data field for each of its lines. An event that had no data gets it
// in front of the blank line.
//
// A CR or CRLF in data, which no event stream can carry as such, arrives as LF.
// For JSON, where a line break can only be white space, that changes nothing.
func (e *Event) AppendData(dst, data []byte) []byte {
	from := len(dst)
	dst = append(dst, e.Raw[:e.skip]...)
	written := false
	for rest := e.Raw[e.skip:]; len(rest) > 0; {
		var content, end []byte
		line := rest
		content, end, rest = cutLine(rest)
		line = line[:len(line)-len(rest)]
		name, _ := cutField(content)
		isData := len(content) > 0 && string(name) == "data"
		if !written && (isData || len(content) == 0) {
			if len(end) == 0 {
				end = []byte{'\n'}
			}
			dst = appendData(dst, data, end)
			written = true
		}
		if !isData {
			dst = append(apart(dst, from, line), line...)
		}
	}
	if !written {
		// A block that broke off within a line: complete that line first.
		if n := len(dst); n > from+e.skip && dst[n-1] != '\n' && dst[n-1] != '\r' {
			dst = append(dst, '\n')
		}
		dst = appendData(dst, data, []byte{'\n'})
	}
	return dst
}

// apart makes dst ready to be followed by line. Where data lines have gone, a CR
// that ended a line may now meet the LF that is the blank line; the two would be
// read as one line end, so the CR becomes a CRLF.
func apart(dst []byte, from int, line []byte) []byte {
	if n := len(dst); n > from && dst[n-1] == '\r' && len(line) > 0 && line[0] == '\n' {
		dst = append(dst, '\n')
	}
	return dst
}

// AppendEvent appends to dst a new event made of e's Type, ID, Retry and Data.
// Raw is not looked at. A field is written when it is not empty or its Has... is
// set; the data is written always, since clients take no notice of an event
// without. A Type or ID with a line break in it, or an ID with a NUL, cannot be
// expressed and is left out: it must not be able to forge other fields.
func AppendEvent(dst []byte, e *Event) []byte {
	if len(e.Type) > 0 && !bytes.ContainsAny(e.Type, "\r\n") {
		dst = append(dst, "event: "...)
		dst = append(dst, e.Type...)
		dst = append(dst, '\n')
	}
	if (e.HasID || len(e.ID) > 0) && !bytes.ContainsAny(e.ID, "\r\n\x00") {
		dst = append(dst, "id: "...)
		dst = append(dst, e.ID...)
		dst = append(dst, '\n')
	}
	if e.HasRetry || e.Retry > 0 {
		dst = append(dst, "retry: "...)
		dst = strconv.AppendInt(dst, int64(max(e.Retry, 0)/time.Millisecond), 10)
		dst = append(dst, '\n')
	}
	dst = appendData(dst, e.Data, []byte{'\n'})
	return append(dst, '\n')
}

// AppendComment appends to dst a block that holds only a comment. Clients ignore
// it, but the connection is seen to be alive.
func AppendComment(dst []byte, text string) []byte {
	rest := []byte(text)
	for {
		var content []byte
		content, _, rest = cutLine(rest)
		dst = append(dst, ": "...)
		dst = append(dst, content...)
		dst = append(dst, '\n')
		if len(rest) == 0 {
			return append(dst, '\n')
		}
	}
}

// appendData appends the data fields that carry data, each with the line end
// given. The space after the colon is always written: it protects a value that
// begins with one.
func appendData(dst, data, end []byte) []byte {
	for {
		content, brk, rest := cutLine(data)
		dst = append(dst, "data: "...)
		dst = append(dst, content...)
		dst = append(dst, end...)
		if len(brk) == 0 {
			return dst
		}
		data = rest
	}
}
