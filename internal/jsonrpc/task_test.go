package jsonrpc

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func withCapabilities(capabilities string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/clientCapabilities": ` + capabilities + `},"name":"x"}}`
}

// Row F8: what a client declares is read exactly, and what is not plainly declared is
// not declared.
func TestReadCapabilities(t *testing.T) {
	all := Declared{Roots: true, Sampling: true, Elicitation: true, Tasks: true}
	for capabilities, want := range map[string]Declared{
		`{}`:           {},
		`{"roots":{}}`: {Roots: true},
		`{"s\u0061mpling":{"tools":{}},"elicitation":{"form":{}}}`:                                                                           {Sampling: true, Elicitation: true},
		`{"roots":{},"sampling":{},"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{},"x/y":{}},"experimental":{"tasks":{}}}`: all,
		`{"roots":null,"sampling":true,"elicitation":["form"],"extensions":{"io.modelcontextprotocol/tasks":null}}`:                          {},
		`{"extensions":["io.modelcontextprotocol/tasks"]}`:                                                                                   {},
		`{"extensions":null}`: {},
		`{"tasks":{}}`:        {},
		`{"experimental":{"roots":{},"io.modelcontextprotocol/tasks":{}}}`: {},
		`{"elicitation ":{}}`: {},
	} {
		m, _, err := Read([]byte(withCapabilities(capabilities)))
		if err != nil {
			t.Errorf("%s: %v", capabilities, err)
			continue
		}
		got := m[0].Params.Meta.Declared
		got.tasks = span{}
		if got != want || !m[0].Params.Meta.ClientCapabilities || m[0].Params.Name.Value != "x" {
			t.Errorf("%s: read as %+v, want %+v", capabilities, got, want)
		}
	}
	for capabilities, reason := range map[string]string{
		`{"roots":{},"roots":null}`:                                "json_duplicate_name",
		`{"roots":{},"Roots":{}}`:                                  "json_case_variant",
		`{"SAMPLING":{}}`:                                          "json_case_variant",
		`{"\u017fampling":{}}`:                                     "json_case_variant",
		`{"extensions":{"IO.modelcontextprotocol/tasks":{}}}`:      "json_case_variant",
		`{"extensions":{"io.modelcontextprotocol/ta\u017fks":{}}}`: "json_case_variant",
	} {
		_, _, err := Read([]byte(withCapabilities(capabilities)))
		if e, ok := errors.AsType[*Error](err); !ok || e.Reason != reason || e.ID != "1" && reason != "json_duplicate_name" {
			t.Errorf("%s: %v, want %s", capabilities, err, reason)
		}
	}
	for _, capabilities := range []string{`null`, `[]`, `"roots"`, `true`} {
		m, _, err := Read([]byte(withCapabilities(capabilities)))
		if err != nil || m[0].Params.Meta.ClientCapabilities || m[0].Params.Meta.Declared != (Declared{}) {
			t.Errorf("%s: %+v %v", capabilities, m, err)
		}
	}
}

func TestAppendWithoutTasks(t *testing.T) {
	const tasks = `"io.modelcontextprotocol/tasks"`
	for in, want := range map[string]string{
		`{ ` + tasks + ` : {"a":1} }`:                      `{ }`,
		`{` + tasks + `:{} , "x/y":{}}`:                    `{ "x/y":{}}`,
		`{"x/y":{} ,` + tasks + `:{} ,"z/y":{}}`:           `{"x/y":{} ,"z/y":{}}`,
		`{"x/y":{}, ` + tasks + `:{}}`:                     `{"x/y":{}}`,
		`{"io.modelcontextprotocol\/t\u0061sks":{},"a":1}`: `{"a":1}`,
		`{"x/y":{}}`: `{"x/y":{}}`,
		`{}`:         `{}`,
	} {
		body := []byte("\n" + withCapabilities(`{"extensions":`+in+`}`) + " ")
		m, _, err := Read(body)
		if err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		got := string(m[0].AppendWithoutTasks(nil, body))
		if want := withCapabilities(`{"extensions":` + want + `}`); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", in, got, want)
		}
		if m, _, err := Read([]byte(got)); err != nil || m[0].Params.Meta.Declared.Tasks {
			t.Errorf("%s: read again as %+v, %v", got, m, err)
		}
	}
}

func TestReadTaskResults(t *testing.T) {
	for result, want := range map[string]Result{
		`{"resultType":"task","taskId":"t","ttlMs":60000}`:               {Type: Text{"task", true}, Task: &Task{Text{"t", true}, time.Minute}},
		`{"resultType":"complete"}`:                                      {Type: Text{"complete", true}},
		`{"resultType":7}`:                                               {NotText: true},
		`{"resultType":null}`:                                            {NotText: true},
		`{"resultType":["task"]}`:                                        {NotText: true},
		`{"resultT\u0079pe":"t\u0061sk"}`:                                {Type: Text{"task", true}},
		`{"task":{"taskId":"t","ttl":1.5,"status":"working"}}`:           {Created: &Task{Text{"t", true}, 1500 * time.Microsecond}},
		`{"task":{"taskId":"t","ttl":null}}`:                             {Created: &Task{ID: Text{"t", true}}},
		`{"task":{"taskId":5}}`:                                          {Created: &Task{}},
		`{"task":"t"}`:                                                   {},
		`{"taskId":["t"],"ttl":"60000"}`:                                 {Task: &Task{}},
		`{"taskId":"t","ttl":-1}`:                                        {Task: &Task{ID: Text{"t", true}}},
		`{"taskId":"t","ttl":1e400}`:                                     {Task: &Task{Text{"t", true}, maxTTL * time.Millisecond}},
		`{"taskId":"t","ttl":1e-400}`:                                    {Task: &Task{ID: Text{"t", true}}},
		`{"taskId":"t","ttl":1e-9}`:                                      {Task: &Task{Text{"t", true}, 1}},
		`{"inputRequests":{"a":{"method":"roots/list"}}}`:                {Asks: []string{"roots/list"}},
		`{"taskId":"t","result":{"inputRequests":{"a":{"method":"x"}}}}`: {Task: &Task{ID: Text{"t", true}}, Asks: []string{"x"}},
		`{"result":{"resultType":"task","taskId":"t"}}`:                  {},
		`{"result":[{"inputRequests":1}]}`:                               {},
		`{"structuredContent":{"task":{"taskId":"t"},"resultType":"x"}}`: {},
	} {
		m, _, err := ReadAnswer([]byte(`{"jsonrpc":"2.0","id":1,"result":` + result + `}`))
		if err != nil {
			t.Errorf("%s: %v", result, err)
			continue
		}
		got := m[0].Result
		same := func(a, b *Task) bool { return a == b || a != nil && b != nil && *a == *b }
		if got.Type != want.Type || got.NotText != want.NotText || !same(got.Created, want.Created) || !same(got.Task, want.Task) || !slices.Equal(got.Asks, want.Asks) {
			t.Errorf("%s: read as %+v %+v %+v", result, got, got.Created, got.Task)
		}
	}
	for result, reason := range map[string]string{
		`{"resultType":"complete","resultType":"task"}`:      "json_duplicate_name",
		`{"resultType":"complete","ResultType":"task"}`:      "json_case_variant",
		`{"resulttype":"task"}`:                              "json_case_variant",
		`{"re\u017fultType":"task"}`:                         "json_case_variant",
		`{"taskId":"a","taskid":"b"}`:                        "json_case_variant",
		`{"task":{"taskId":"a","TASKID":"b"}}`:               "json_case_variant",
		`{"task":{"taskId":"a","taskId":"b"}}`:               "json_duplicate_name",
		`{"taskId":"a\u0000"}`:                               "control_character",
		`{"tasks":{"taskId":"a"}}`:                           "member_type",
		`{"tasks":[{"name":"a"}]}`:                           "list_item",
		`{"tasks":[{"taskId":1}]}`:                           "member_type",
		`{"result":{"inputRequests":["roots/list"]}}`:        "member_type",
		`{"result":{"InputRequests":{"a":{"method":"x"}}}}`:  "json_case_variant",
		`{"result":{"inputRequests":{"a":{"m":"x"}}}}`:       "input_request",
		`{"result":{"inputRequests":{},"inputRequests":{}}}`: "json_duplicate_name",
	} {
		_, _, err := ReadAnswer([]byte(`{"jsonrpc":"2.0","id":1,"result":` + result + `}`))
		if e, ok := errors.AsType[*Error](err); !ok || e.Reason != reason {
			t.Errorf("%s: %v, want %s", result, err, reason)
		}
	}
}

// Of a server's notification, the requests for the client are read; of a client's
// message, nothing of the sort.
func TestReadTaskNotification(t *testing.T) {
	const body = `{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"t","status":"input_required",` +
		`"inputRequests":{"a":{"method":"elicitation/create"}},"result":{"inputRequests":{"b":{"method":"roots/list"}}}}}`
	m, _, err := ReadAnswer([]byte(body))
	if err != nil || m[0].Params.TaskID.Value != "t" || !slices.Equal(m[0].Params.Asks, []string{"elicitation/create", "roots/list"}) {
		t.Errorf("%+v %v", m, err)
	}
	if m, _, err = Read([]byte(body)); err != nil || m[0].Params.Asks != nil {
		t.Errorf("from a client: %+v %v", m, err)
	}
	if _, _, err = Read([]byte(strings.Replace(body, `{"a":{"method":"elicitation/create"}}`, `7`, 1))); err != nil {
		t.Errorf("from a client: %v", err)
	}
}

// FuzzResult holds what is read of a result against encoding/json, which folds case.
func FuzzResult(f *testing.F) {
	for _, seed := range []string{
		`{"resultType":"task","taskId":"t","ttlMs":1,"inputRequests":{"a":{"method":"m"}}}`,
		`{"task":{"taskId":"t","ttl":5},"tasks":[{"taskId":"a"}],"result":{"inputRequests":{}}}`,
		`{"re\u017fultType":"task"}`, `{"resultType":[1],"ttl":1e999}`, `[]`, `7`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, result []byte) {
		body := append(append([]byte(`{"jsonrpc":"2.0","id":1,"result":`), result...), '}')
		messages, batch, err := ReadAnswer(body)
		if err != nil || batch {
			return
		}
		var folding struct {
			Result struct {
				ResultType, TaskID, Task any
				InputRequests            map[string]struct{ Method string }
				Result                   any
				Tasks                    []struct{ TaskID string }
			}
		}
		var whole struct{ Result map[string]any }
		if json.Unmarshal(body, &whole) != nil {
			return // a result that is no object
		}
		if err := json.Unmarshal(body, &folding); err != nil {
			t.Fatalf("encoding/json refuses what was read: %v", err)
		}
		text := func(value any) string {
			s, _ := value.(string)
			return s
		}
		got, want := messages[0].Result, folding.Result
		if text(want.ResultType) != got.Type.Value {
			t.Errorf("resultType is %q, encoding/json sees %v", got.Type.Value, want.ResultType)
		}
		if _, there := whole.Result["resultType"]; there != (got.Type.Present || got.NotText) {
			t.Errorf("resultType is there: %v, read %+v %v", there, got.Type, got.NotText)
		}
		if id := text(want.TaskID); id != "" && (got.Task == nil || got.Task.ID.Value != id) {
			t.Errorf("taskId is %+v, encoding/json sees %q", got.Task, id)
		}
		if task, ok := want.Task.(map[string]any); ok != (got.Created != nil) || ok && text(task["taskId"]) != got.Created.ID.Value {
			t.Errorf("task is %+v, encoding/json sees %v", got.Created, want.Task)
		}
		methods := slices.Clone(got.Asks)
		for _, asked := range want.InputRequests {
			i := slices.Index(methods, asked.Method)
			if i < 0 {
				t.Fatalf("asks for %q, encoding/json sees %q", got.Asks, asked.Method)
			}
			methods = slices.Delete(methods, i, i+1)
		}
		if inner, ok := want.Result.(map[string]any); len(methods) > 0 && (!ok || inner["inputRequests"] == nil) {
			t.Errorf("asks for %q, encoding/json sees %v", got.Asks, want.InputRequests)
		}
		var keys []string
		for _, list := range got.Lists {
			for _, item := range list.Items {
				if list.List == Tasks {
					keys = append(keys, item.Key)
				}
			}
		}
		for _, task := range want.Tasks {
			if !slices.Contains(keys, task.TaskID) {
				t.Errorf("tasks are %q, encoding/json sees %q", keys, task.TaskID)
			}
		}
	})
}
