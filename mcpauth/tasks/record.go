package tasks

import (
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// record is a task as the store has it. Times are in milliseconds since 1970.
type record struct {
	Issuer    string `json:"issuer"`
	Subject   string `json:"subject"`
	Client    string `json:"client,omitempty"`
	Tool      string `json:"tool"`
	Arguments []byte `json:"arguments,omitempty"`
	Known     bool   `json:"known,omitempty"`
	Upstream  string `json:"upstream,omitempty"`
	Created   int64  `json:"created"`
}

// size is what an owner's index has of a task.
type size struct {
	Created   int64 `json:"created"`
	Arguments int   `json:"arguments,omitempty"`
}

var (
	records = state.Table[record]{Name: state.TableTask, Version: 1}
	byOwner = state.Table[size]{Name: state.TableTaskBy, Version: 1}
)

func fingerprint(id string) string { return state.Fingerprint(20, id) }

// keyOf is the key of a task.
func keyOf(server, id string) string { return records.Key(server, fingerprint(id)) }

// indexOf is the key of the task with that key in the index of an owner.
func indexOf(owner state.Owner, key string) string {
	person, client := owner.Parts()
	_, parts, err := state.Parts(key)
	if err != nil {
		return ""
	}
	return byOwner.Key(append([]string{person, client}, parts...)...)
}

// keyOfIndex is its reverse.
func keyOfIndex(key string) string {
	_, parts, err := state.Parts(key)
	if err != nil || len(parts) != 4 {
		return ""
	}
	return records.Key(parts[2:]...)
}

func newRecord(t *state.Task) record {
	return record{
		Issuer: t.Owner.Issuer, Subject: t.Owner.Subject, Client: t.Owner.ClientID,
		Tool: t.Tool, Arguments: t.Arguments, Known: t.Known, Upstream: t.Upstream, Created: t.Created.UnixMilli(),
	}
}

func (r *record) task() state.Task {
	return state.Task{
		Owner: state.Owner{Issuer: r.Issuer, Subject: r.Subject, ClientID: r.Client},
		Tool:  r.Tool, Arguments: r.Arguments, Known: r.Known, Upstream: r.Upstream, Created: time.UnixMilli(r.Created),
	}
}
