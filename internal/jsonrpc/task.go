package jsonrpc

import (
	"strconv"
	"time"
)

// Task is what a server says of a task, as far as something is decided by it.
type Task struct {
	ID Text
	// TTL is how long after its creation the server may forget it; 0 when it sets no
	// limit, or none that is a positive number.
	TTL time.Duration
}

// maxTTL is where longer times are cut off, in milliseconds: some three years.
const maxTTL = 1e11

var (
	taskNames       = []string{"taskId", "ttl"}
	taskResultNames = []string{"inputRequests"}
	askNames        = []string{"method"}
)

// maybeText reads a string as text does; what is none is read over, and odd.
func (r *reader) maybeText(name string) (t Text, odd bool, err error) {
	if r.dec.PeekKind() == '"' {
		t, err = r.text(name)
		return t, false, err
	}
	_, err = r.value()
	return Text{}, true, err
}

// created reads the "task" of a result. What is no object is no task.
func (r *reader) created() (*Task, error) {
	if r.dec.PeekKind() != '{' {
		_, err := r.value()
		return nil, err
	}
	if _, err := r.token(); err != nil {
		return nil, err
	}
	t := new(Task)
	n := names{taskNames, len(r.names)}
	for {
		name, ok, err := r.next(&n)
		if err == nil && ok {
			err = r.taskMember(t, name)
		}
		if err != nil || !ok {
			return t, err
		}
	}
}

// taskMember reads the value of a task's member.
func (r *reader) taskMember(t *Task, name []byte) (err error) {
	switch string(name) {
	case "taskId":
		t.ID, _, err = r.maybeText("taskId")
	case "ttl", "ttlMs":
		t.TTL, err = r.ttl()
	default:
		_, err = r.value()
	}
	return err
}

// ttl reads a number of milliseconds.
func (r *reader) ttl() (time.Duration, error) {
	isNumber := r.dec.PeekKind() == '0'
	v, err := r.value()
	if err != nil || !isNumber {
		return 0, err
	}
	milliseconds, _ := strconv.ParseFloat(string(v), 64) // beyond its range: infinite
	if !(milliseconds > 0) {
		return 0, nil
	}
	return max(1, time.Duration(min(milliseconds, maxTTL)*float64(time.Millisecond))), nil
}

// asksOf reads the requests that a server has for the client, by names of the
// server's (MCP 2026-07-28, multi round-trip requests). From a client they are
// carried as they are.
func (r *reader) asksOf(asks *[]string) error {
	if !r.answers {
		_, err := r.value()
		return err
	}
	ok, err := r.open('{', "inputRequests must be an object")
	if !ok || err != nil {
		return err
	}
	requests := names{nil, len(r.names)}
	for {
		_, ok, err := r.next(&requests)
		if err != nil || !ok {
			return err
		}
		if ok, err = r.open('{', "an input request must be an object"); err != nil {
			return err
		}
		if !ok {
			continue
		}
		var method Text
		for n := (names{askNames, len(r.names)}); ; {
			name, ok, err := r.next(&n)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if string(name) == "method" {
				method, err = r.text("method")
			} else {
				_, err = r.value()
			}
			if err != nil {
				return err
			}
		}
		if !method.Present {
			r.refuse(CodeInvalidParams, "input_request", "an input request has no method")
		}
		*asks = append(*asks, method.Value)
	}
}

// asksWithin reads the result of the call that a task was made for, which stands
// within what is said of the task.
func (r *reader) asksWithin(asks *[]string) error {
	if !r.answers || r.dec.PeekKind() != '{' {
		_, err := r.value()
		return err
	}
	if _, err := r.token(); err != nil {
		return err
	}
	n := names{taskResultNames, len(r.names)}
	for {
		name, ok, err := r.next(&n)
		if err != nil || !ok {
			return err
		}
		if string(name) == "inputRequests" {
			err = r.asksOf(asks)
		} else {
			_, err = r.value()
		}
		if err != nil {
			return err
		}
	}
}
