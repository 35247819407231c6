package state

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

var (
	bob        = Owner{"https://issuer", "bob", "app"}
	taskLimits = TaskLimits{Life: time.Hour, Max: 100, PerOwner: 10}
)

func bind(t testing.TB, table *Tasks, owner Owner, id string, ttl time.Duration, now time.Time) {
	t.Helper()
	if err := table.Bind("a", id, Task{Owner: owner, Tool: "work"}, ttl, now); err != nil {
		t.Fatalf("%s: %v", id, err)
	}
}

func has(table *Tasks, owner Owner, id string, now time.Time) bool {
	_, ok := table.Find("a", id, owner, now)
	return ok
}

// Row F1: a task belongs to one issuer's subject in one client, on one server.
func TestFindOnlyOwn(t *testing.T) {
	table := NewTasks(taskLimits)
	bind(t, table, alice, "t", 0, start)
	for name, tc := range map[string]struct {
		server, id string
		owner      Owner
		want       bool
	}{
		"own":             {"a", "t", alice, true},
		"other subject":   {"a", "t", bob, false},
		"other issuer":    {"a", "t", Owner{"https://other", "alice", "app"}, false},
		"other client":    {"a", "t", Owner{"https://issuer", "alice", "evil"}, false},
		"nobody":          {"a", "t", Owner{}, false},
		"other server":    {"b", "t", alice, false},
		"other task":      {"a", "T", alice, false},
		"another's key":   {"at", "", alice, false},
		"still own after": {"a", "t", alice, true},
	} {
		if _, got := table.Find(tc.server, tc.id, tc.owner, start); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// A server that gives an id twice never moves a task from one owner to another.
func TestBindNeverTakesOver(t *testing.T) {
	table := NewTasks(taskLimits)
	if err := table.Bind("a", "t", Task{Owner: alice, Tool: "work", Arguments: []byte("{}"), Known: true, Upstream: "u"}, time.Minute, start); err != nil {
		t.Fatal(err)
	}
	for name, task := range map[string]Task{
		"another owner": {Owner: bob, Tool: "work"},
		"another tool":  {Owner: alice, Tool: "play"},
		"both":          {Owner: bob, Tool: "play"},
	} {
		if err := table.Bind("a", "t", task, time.Hour, start); !errors.Is(err, ErrTaskTaken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	again := Task{Owner: alice, Tool: "work", Arguments: []byte(`{"x":1}`), Upstream: "v"}
	if err := table.Bind("a", "t", again, 2*time.Minute, start.Add(time.Second)); err != nil {
		t.Error(err)
	}
	got, ok := table.Find("a", "t", alice, start.Add(90*time.Second))
	if !ok || string(got.Arguments) != "{}" || got.Upstream != "u" || got.Created != start {
		t.Errorf("%+v %v, want what was bound first, renewed", got, ok)
	}
	if err := table.Bind("b", "t", Task{Owner: bob, Tool: "work"}, 0, start); err != nil {
		t.Errorf("the same id on another server: %v", err)
	}
	if err := table.Bind("a", "t", Task{Owner: bob, Tool: "work"}, 0, start.Add(time.Hour)); err != nil {
		t.Errorf("when the time is up: %v", err)
	}
	if has(table, alice, "t", start.Add(time.Hour)) || !has(table, bob, "t", start.Add(time.Hour)) {
		t.Error("an id that was free was not bound to the new owner")
	}
}

func TestBindRefusesIDs(t *testing.T) {
	table := NewTasks(taskLimits)
	long := string(bytes.Repeat([]byte("x"), maxTaskText+1))
	if err := table.Bind("a", "", Task{Owner: alice, Tool: "work"}, 0, start); !errors.Is(err, ErrTaskID) {
		t.Error("an empty id was bound")
	}
	if err := table.Bind("a", long, Task{Owner: alice, Tool: "work"}, 0, start); !errors.Is(err, ErrTaskID) {
		t.Error("an endless id was bound")
	}
	if err := table.Bind("a", "t", Task{Owner: alice, Tool: long}, 0, start); !errors.Is(err, ErrTaskID) {
		t.Error("an endless name of a tool was kept")
	}
	if table.Len() != 0 {
		t.Errorf("%d tasks", table.Len())
	}
}

func TestTaskExpiry(t *testing.T) {
	for name, tc := range map[string]struct {
		ttl, after time.Duration
		want       bool
	}{
		"before its ttl":          {time.Minute, time.Minute - 1, true},
		"at its ttl":              {time.Minute, time.Minute, false},
		"no ttl":                  {0, time.Hour - 1, true},
		"no ttl, after a life":    {0, time.Hour, false},
		"a ttl beyond a lifetime": {1000 * time.Hour, time.Hour, false},
	} {
		table := NewTasks(taskLimits)
		bind(t, table, alice, "t", tc.ttl, start)
		if got := has(table, alice, "t", start.Add(tc.after)); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestRenew(t *testing.T) {
	table := NewTasks(taskLimits)
	bind(t, table, alice, "t", time.Minute, start)
	table.Renew("a", "t", bob, time.Hour, start)
	table.Renew("a", "none", alice, time.Hour, start)
	table.Renew("a", "t", alice, time.Minute, start.Add(50*time.Second))
	if !has(table, alice, "t", start.Add(100*time.Second)) || has(table, alice, "t", start.Add(110*time.Second)) {
		t.Error("want a minute from when the server told of it last")
	}
	bind(t, table, alice, "u", time.Minute, start)
	table.Renew("a", "u", alice, 0, start.Add(time.Second))
	if !has(table, alice, "u", start.Add(time.Hour-1)) || has(table, alice, "u", start.Add(time.Hour)) {
		t.Error("want no more than a life from its beginning")
	}
	table.Renew("a", "u", alice, time.Minute, start.Add(2*time.Hour))
	if has(table, alice, "u", start.Add(2*time.Hour)) {
		t.Error("a task whose time was up was renewed")
	}
}

func TestTaskLimits(t *testing.T) {
	table := NewTasks(taskLimits)
	for i := range taskLimits.PerOwner {
		bind(t, table, alice, fmt.Sprint(i), 0, start)
	}
	has(table, alice, "0", start) // so that 1 is the one nobody asked for for longest
	bind(t, table, alice, "short", time.Second, start)
	if !has(table, alice, "0", start) || has(table, alice, "1", start) || !has(table, alice, "short", start) {
		t.Error("one too many of an owner did not forget the one that nobody asked for for longest")
	}
	bind(t, table, alice, "another", 0, start.Add(time.Second))
	if !has(table, alice, "2", start) {
		t.Error("a task was forgotten although the time of another was up")
	}
	for i := range 3 * taskLimits.Max {
		bind(t, table, Owner{Subject: fmt.Sprint(i)}, fmt.Sprint("o", i), 0, start)
	}
	if table.Len() != taskLimits.Max || len(table.owned) != taskLimits.Max || len(table.over) != taskLimits.Max {
		t.Errorf("%d tasks of %d owners, want %d", table.Len(), len(table.owned), taskLimits.Max)
	}
	bind(t, table, alice, "last", 0, start.Add(2*time.Hour))
	if table.Len() != 1 {
		t.Errorf("%d tasks after the time of all but one was up", table.Len())
	}
	bind(t, table, alice, "now", 0, time.Now())
	table.SetLimits(TaskLimits{Life: time.Hour, Max: 1, PerOwner: 1})
	if !has(table, alice, "now", time.Now()) || table.Len() != 1 {
		t.Error("new limits were not applied")
	}
	table.SetLimits(TaskLimits{})
	if table.Len() != 0 || len(table.owned) != 0 || len(table.over) != 0 || table.used.Len() != 0 {
		t.Error("new limits were not applied")
	}
}

// Arguments are kept as far as there is room for them, and never of one owner so many
// that others have none.
func TestTaskArguments(t *testing.T) {
	table := NewTasks(TaskLimits{Life: time.Hour, Max: 1 << 20, PerOwner: 1 << 20})
	known := func(owner Owner, id string, size int) bool {
		t.Helper()
		task := Task{Owner: owner, Tool: "work", Arguments: bytes.Repeat([]byte(" "), size), Known: true}
		if err := table.Bind("a", id, task, 0, start); err != nil {
			t.Fatal(err)
		}
		got, ok := table.Find("a", id, owner, start)
		if !ok || got.Known != (len(got.Arguments) == size) {
			t.Fatalf("%+v %v", got.Known, ok)
		}
		return got.Known
	}
	if !known(alice, "fits", maxArguments) || known(alice, "too long", maxArguments+1) {
		t.Error("the arguments of one task are not bounded as they should be")
	}
	n := 1
	for ; known(alice, fmt.Sprint(n), maxArguments); n++ {
	}
	if n != maxOwnersArguments/maxArguments {
		t.Errorf("%d of one owner", n)
	}
	if !known(bob, "bob's", maxArguments) {
		t.Error("one owner took the room of another")
	}
	n++
	for i := 0; known(Owner{Subject: fmt.Sprint(i / 64)}, fmt.Sprint("o", i), maxArguments); i++ {
		n++
	}
	if n != maxAllArguments/maxArguments {
		t.Errorf("%d in all", n)
	}
	table.SetLimits(TaskLimits{})
	if table.arguments != 0 {
		t.Errorf("%d bytes of no tasks", table.arguments)
	}
}

func TestTasksConcurrently(t *testing.T) {
	table := NewTasks(TaskLimits{Life: time.Hour, Max: 50, PerOwner: 5})
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			owner := Owner{Subject: fmt.Sprint(i)}
			for j := range 500 {
				id := fmt.Sprint(j % 20)
				if err := table.Bind("a", id, Task{Owner: owner, Tool: "work"}, time.Minute, start); err == nil {
					table.Renew("a", id, owner, time.Minute, start)
				}
				if task, ok := table.Find("a", id, owner, start); ok && task.Owner != owner {
					t.Errorf("found a task of %+v", task.Owner)
				}
			}
		})
	}
	running.Wait()
	if table.Len() != len(table.over) || table.Len() != table.used.Len() {
		t.Errorf("%d tasks, %d by expiry, %d by use", table.Len(), len(table.over), table.used.Len())
	}
}

// A session knows what tasks its open requests ask for, and no others.
func TestTasking(t *testing.T) {
	s := add(NewSessions(limits), alice, "a", start)
	s.Tasking("1", Task{Tool: "never begun"})
	if _, ok := s.TaskOf("1"); ok {
		t.Error("a request that is not open asks for a task")
	}
	s.Begin("1")
	s.Tasking("1", Task{Tool: "work", Arguments: bytes.Repeat([]byte(" "), maxSessionsArguments), Known: true})
	s.Begin(`"1"`)
	s.Tasking(`"1"`, Task{Tool: "more", Arguments: []byte("{}"), Known: true})
	if task, ok := s.TaskOf("1.0"); !ok || task.Tool != "work" || !task.Known {
		t.Errorf("%+v %v", task.Tool, ok)
	}
	if task, ok := s.TaskOf(`"1"`); !ok || task.Tool != "more" || task.Known || task.Arguments != nil {
		t.Errorf("%+v %v, want it without arguments, for which there is no room", task, ok)
	}
	s.Done("1")
	if _, ok := s.TaskOf("1"); ok || s.arguments != 0 {
		t.Errorf("an answered request still asks for a task; %d bytes are kept", s.arguments)
	}
	s.Done("1")
	s.Done(`"1"`)
	if len(s.tasking) != 0 || s.arguments != 0 {
		t.Errorf("%v is kept, %d bytes", s.tasking, s.arguments)
	}
}
