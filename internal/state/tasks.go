package state

import (
	"container/heap"
	"container/list"
	"errors"
	"sync"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

// Task says whose a task of a server is and what it was made for. It is a plain value
// under a plain key, the server's name and the id, and what is done to it is done in
// one step, so that the table can be kept elsewhere, for several nodes.
type Task struct {
	Owner Owner
	// Tool is the tool whose call made it.
	Tool string
	// Arguments is the JSON text of that call's arguments, nil when it had none. They
	// are kept only for a rule that looks at them, Known tells whether they are.
	Arguments []byte
	Known     bool
	// Upstream is the address of the server's upstream that made it.
	Upstream string
	Created  time.Time
}

// TaskLimits bound the table of tasks.
type TaskLimits struct {
	// Life is how long a task is remembered that the server sets no shorter time.
	Life time.Duration
	// Max is how many there may be, PerOwner how many of one owner. One more forgets
	// the one that was not asked for in the longest time.
	Max, PerOwner int
}

const (
	// maxTaskText is how long a task's id and its tool's name may be, in bytes.
	maxTaskText = 1024
	// The arguments of one task, of one owner's tasks and of all together, in bytes.
	// What is beyond is not kept.
	maxArguments, maxOwnersArguments, maxAllArguments = 16 << 10, 1 << 20, 64 << 20
)

// The errors of Bind. In both cases the server is at fault.
var (
	// ErrTaskTaken is for the id of a task that is somebody else's, or was made by
	// another tool.
	ErrTaskTaken = errors.New("the task's id is taken")
	// ErrTaskID is for an id, or a tool's name, that is empty or too long.
	ErrTaskID = errors.New("the task's id is empty or too long")
)

// Tasks is the table of the tasks that servers have made (MCP 2025-11-25, tasks; MCP
// extension io.modelcontextprotocol/tasks). It is safe for concurrent use.
type Tasks struct {
	mu     sync.Mutex
	limits TaskLimits
	byKey  map[taskKey]*taskEntry
	// over has every task, the one whose time is up first in front; used the same,
	// in front the one that was asked for last.
	over  byExpiry
	used  *list.List
	owned map[Owner]*share
	// arguments is the length of all that are kept.
	arguments int
}

type taskKey struct{ server, id string }

type taskEntry struct {
	Task
	key     taskKey
	expires time.Time
	// at is the place in over.
	at              int
	inUsed, inOwned *list.Element
}

// share is what the table holds of one owner.
type share struct {
	used      *list.List
	arguments int
}

// NewTasks returns an empty table.
func NewTasks(limits TaskLimits) *Tasks {
	return &Tasks{
		limits: limits,
		byKey:  make(map[taskKey]*taskEntry),
		used:   list.New(),
		owned:  make(map[Owner]*share),
	}
}

// SetLimits replaces the limits. A task is remembered as long as it was to be.
func (t *Tasks) SetLimits(limits TaskLimits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limits = limits
	t.shrink(steady.Now(), Owner{})
	for owner := range t.owned {
		t.shrink(steady.Now(), owner)
	}
}

// Len is how many tasks there are, those included whose time is up and which nobody
// asked for since.
func (t *Tasks) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byKey)
}

// Bind enters a task under the id that a server gave it, for the time that the server
// may forget it after; 0 is no limit. The same once more renews it. An id that is
// somebody else's stays with its owner.
func (t *Tasks) Bind(server, id string, task Task, ttl time.Duration, now time.Time) error {
	if id == "" || len(id) > maxTaskText || len(task.Tool) > maxTaskText {
		return ErrTaskID
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key := taskKey{server, id}
	if e := t.byKey[key]; e != nil && now.Before(e.expires) {
		if e.Owner != task.Owner || e.Tool != task.Tool {
			return ErrTaskTaken
		}
		t.renew(e, ttl, now)
		return nil
	} else if e != nil {
		t.remove(e)
	}
	mine := t.owned[task.Owner]
	if mine == nil {
		mine = &share{used: list.New()}
		t.owned[task.Owner] = mine
	}
	if n := len(task.Arguments); n > maxArguments || mine.arguments+n > maxOwnersArguments || t.arguments+n > maxAllArguments {
		task.Arguments, task.Known = nil, false
	}
	task.Created = now
	e := &taskEntry{Task: task, key: key}
	t.byKey[key] = e
	e.inUsed, e.inOwned = t.used.PushFront(e), mine.used.PushFront(e)
	mine.arguments += len(e.Arguments)
	t.arguments += len(e.Arguments)
	heap.Push(&t.over, e)
	t.renew(e, ttl, now)
	t.shrink(now, task.Owner)
	return nil
}

// Find returns the owner's task of that id on a server. A task that is somebody
// else's, or whose time is up, is as unknown as one that never was.
func (t *Tasks) Find(server, id string, owner Owner, now time.Time) (Task, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.find(server, id, owner, now)
	if e == nil {
		return Task{}, false
	}
	return e.Task, true
}

// Renew notes that the server has told of the owner's task, and for how long it may
// be remembered: that can change while it runs, and some servers count from its end.
func (t *Tasks) Renew(server, id string, owner Owner, ttl time.Duration, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.find(server, id, owner, now); e != nil {
		t.renew(e, ttl, now)
	}
}

func (t *Tasks) find(server, id string, owner Owner, now time.Time) *taskEntry {
	e := t.byKey[taskKey{server, id}]
	if e == nil || e.Owner != owner {
		return nil
	}
	if !now.Before(e.expires) {
		t.remove(e)
		return nil
	}
	t.used.MoveToFront(e.inUsed)
	t.owned[owner].used.MoveToFront(e.inOwned)
	return e
}

func (t *Tasks) renew(e *taskEntry, ttl time.Duration, now time.Time) {
	e.expires = e.Created.Add(t.limits.Life)
	if at := now.Add(ttl); ttl > 0 && at.Before(e.expires) {
		e.expires = at
	}
	heap.Fix(&t.over, e.at)
}

// shrink drops the tasks whose time is up, and what is too many.
func (t *Tasks) shrink(now time.Time, owner Owner) {
	for len(t.over) > 0 && !now.Before(t.over[0].expires) {
		t.remove(t.over[0])
	}
	if mine := t.owned[owner]; mine != nil {
		for mine.used.Len() > t.limits.PerOwner {
			t.remove(mine.used.Back().Value.(*taskEntry))
		}
	}
	for len(t.byKey) > t.limits.Max {
		t.remove(t.used.Back().Value.(*taskEntry))
	}
}

func (t *Tasks) remove(e *taskEntry) {
	delete(t.byKey, e.key)
	heap.Remove(&t.over, e.at)
	t.used.Remove(e.inUsed)
	mine := t.owned[e.Owner]
	mine.used.Remove(e.inOwned)
	mine.arguments -= len(e.Arguments)
	t.arguments -= len(e.Arguments)
	if mine.used.Len() == 0 {
		delete(t.owned, e.Owner)
	}
}

// byExpiry is a heap of tasks.
type byExpiry []*taskEntry

func (h byExpiry) Len() int           { return len(h) }
func (h byExpiry) Less(i, j int) bool { return h[i].expires.Before(h[j].expires) }

func (h byExpiry) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push is for container/heap.
func (h *byExpiry) Push(x any) {
	e := x.(*taskEntry)
	e.at = len(*h)
	*h = append(*h, e)
}

// Pop is for container/heap.
func (h *byExpiry) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}

// Interface guard
var _ heap.Interface = (*byExpiry)(nil)
