package soundness

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Some servers look for the exchange on which they answer by the request's id alone:
// who uses an id twice could have a list arrive where none is expected.
func TestIDsUsedTwice(t *testing.T) {
	list := func(id string) string { return call(id, "tools/list", "") }
	tool := func(id string) string { return call(id, "tools/call", `{"name":"ok"}`) }
	inUse := want{400, -32600, "id_in_use"}
	// same are ids that a server may take for one.
	same := [][2]string{{`7`, `7`}, {`7`, `7.0`}, {`7`, `70e-1`}, {`0`, `-0`}, {`"a"`, `"\u0061"`}, {`9007199254740992`, `9007199254740993`}}
	for _, w := range wires {
		t.Run("D1 in a batch/"+w.name, func(t *testing.T) {
			for _, ids := range same {
				up := watch(t)
				up.replies(answerBatch)
				for _, batch := range []string{"[" + tool(ids[0]) + "," + list(ids[1]) + "]", "[" + list(ids[0]) + "," + tool(ids[1]) + "]"} {
					w.send(t, post(t, viewer, batch)).unleaked(t)
				}
			}
		})
	}
	for v, w := range both(legacy) {
		t.Run("D1 while the first is open/"+v+"/"+w.name, func(t *testing.T) {
			for _, ids := range same {
				up := watch(t)
				id := session(t, viewer, v)
				held, release := make(chan struct{}), make(chan struct{})
				up.replies(func(w http.ResponseWriter, r *http.Request, got received) {
					if strings.Contains(string(got.body), "tools/list") {
						close(held)
						<-release
					}
					speak(w, r, got)
				})
				first := make(chan *reply, 1)
				go func() { first <- w.send(t, post(t, viewer, list(ids[0]), inSession(id, v)...)) }()
				wait(t, held, "the list")
				up.forget()
				r := w.send(t, post(t, viewer, tool(ids[1]), inSession(id, v)...))
				up.nothing(t)
				inUse.check(t, r)
				close(release)
				wait(t, first, "the answer").only(t, "tools", lists[0].kept)
				// From now on it is free.
				w.send(t, post(t, viewer, tool(ids[1]), inSession(id, v)...)).ok(t)
			}
		})
		t.Run("D1 after the client has gone away from the first/"+v+"/"+w.name, func(t *testing.T) {
			up := watch(t)
			id := session(t, viewer, v)
			gone := make(chan struct{})
			began := make(chan struct{})
			up.replies(func(w http.ResponseWriter, r *http.Request, got received) {
				if strings.Contains(string(got.body), "tools/list") {
					close(began)
					<-r.Context().Done()
					close(gone)
					return
				}
				// The answer to the list comes now, and goes to whoever has its id.
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, result("7", results["tools/list"]))
			})
			m := post(t, viewer, list("7"), inSession(id, v)...)
			leave := abandon(t, w, m)
			wait(t, began, "the list")
			leave()
			wait(t, gone, "the end of the first exchange")
			r := w.send(t, post(t, viewer, tool("7"), inSession(id, v)...))
			r.unleaked(t)
		})
	}
}

// answerBatch answers each request of a batch under the id as a server reads it.
func answerBatch(w http.ResponseWriter, _ *http.Request, got received) {
	var batch []struct {
		ID     any    `json:"id"`
		Method string `json:"method"`
	}
	if err := json.Unmarshal(got.body, &batch); err != nil {
		http.Error(w, "malformed", http.StatusBadRequest)
		return
	}
	answers := make([]string, len(batch))
	for i, m := range batch {
		id, _ := json.Marshal(m.ID)
		answers[i] = result(string(id), results[m.Method])
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, "[%s]", strings.Join(answers, ","))
}
