// Package tasks knows who began which task of a server (MCP 2025-11-25, tasks; MCP
// extension io.modelcontextprotocol/tasks). That is in the gateway's store, so that any
// node can be asked about any task, and in the memory of the nodes that were.
package tasks

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/mirror"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
)

// Limits bound the table of tasks.
type Limits struct {
	// Life is how long a task is remembered that the server sets no shorter time.
	Life time.Duration
	// Max is how many tasks one node may know, PerOwner how many of one owner there may
	// be on all nodes. One more forgets, of one node's, the one that was not asked for
	// in the longest time; of an owner's, the oldest of those that this node was not
	// asked for, or else the one that it was not asked for in the longest time.
	Max, PerOwner int
}

const (
	// maxTaskText is how long a task's id and its tool's name may be, in bytes.
	maxTaskText = 1024
	// The arguments of one task, of one owner's tasks and of all that a node knows, in
	// bytes. What is beyond is not kept.
	maxArguments, maxOwnersArguments, maxAllArguments = 16 << 10, 1 << 20, 64 << 20
	// bindTimeout bounds how long the store may take to enter a task.
	bindTimeout = 5 * time.Second
)

// The errors of Bind. In both cases the server is at fault.
var (
	// ErrTaskTaken is for the id of a task that is somebody else's, or was made by
	// another tool.
	ErrTaskTaken = errors.New("the task's id is taken")
	// ErrTaskID is for an id, or a tool's name, that is empty or too long.
	ErrTaskID = errors.New("the task's id is empty or too long")
)

// Tasks is the table of the tasks that servers have made. It is safe for concurrent use.
type Tasks struct {
	store state.Store
	rows  *mirror.Mirror[*entry]

	mu     sync.Mutex
	limits Limits
	// used has every task that this node knows, in front the one that was asked for
	// last; arguments is the length of all that are kept.
	used      *list.List
	arguments int

	renewed map[*entry]struct{}
	wake    chan struct{}
}

// entry is a task as this node knows it.
type entry struct {
	mirror.Item
	table *Tasks
	task  state.Task
	// asked is when the task was asked for last, in nanoseconds since 1970.
	asked atomic.Int64

	// The table's lock guards these. Expires is when the time of the task is up,
	// stored what the store has for that.
	at              state.Version
	expires, stored time.Time
	inUsed          *list.Element
}

// New returns the table of a store's tasks, which has to be Run.
func New(store state.Store, limits Limits) *Tasks {
	t := &Tasks{store: store, limits: limits, used: list.New(), renewed: make(map[*entry]struct{}), wake: make(chan struct{}, 1)}
	t.rows = mirror.New(store, state.TableTask, t.form)
	return t
}

// form makes what is kept for a record.
func (t *Tasks) form(r state.Record) (*entry, error) {
	found, err := records.Decode(r)
	if err != nil {
		return nil, err
	}
	return &entry{table: t, task: found.Data.task(), at: r.Version, expires: r.Expires, stored: r.Expires}, nil
}

// errAnother is for a task that a server made under the id of one that is over.
var errAnother = errors.New("this is another task")

// Change is for the mirror. Of a task, only when it expires ever changes.
func (e *entry) Change(r state.Record) error {
	found, err := records.Decode(r)
	if err != nil {
		return err
	}
	if now := found.Data.task(); now.Owner != e.task.Owner || now.Tool != e.task.Tool || !now.Created.Equal(e.task.Created) {
		return errAnother
	}
	e.table.mu.Lock()
	defer e.table.mu.Unlock()
	if r.Expires.After(e.stored) && r.Expires.After(e.expires) {
		e.expires = r.Expires // another node was told so
	}
	e.at, e.stored = r.Version, r.Expires
	return nil
}

// Ended is for the mirror.
func (e *entry) Ended() { e.table.drop(e) }

// SetLimits replaces the limits. A task is remembered as long as it was to be.
func (t *Tasks) SetLimits(limits Limits) {
	t.mu.Lock()
	t.limits = limits
	t.mu.Unlock()
	t.shrink()
}

// SetAllowStale says for how long the tasks that this node knows can be followed although
// the store is cut off. 0 is not at all, after a second.
func (t *Tasks) SetAllowStale(allow time.Duration) { t.rows.SetAllowStale(allow) }

// Len is how many tasks this node knows, those included whose time is up and which
// nobody asked for since.
func (t *Tasks) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.used.Len()
}

// Bind enters a task under the id that a server gave it, for the time that the server
// may forget it after; 0 is no limit. When it returns, the store has it. The same once
// more renews it. An id that is somebody else's stays with its owner.
func (t *Tasks) Bind(ctx context.Context, server, id string, task state.Task, ttl time.Duration) error {
	if id == "" || len(id) > maxTaskText || len(task.Tool) > maxTaskText {
		return ErrTaskID
	}
	ctx, cancel := context.WithTimeout(ctx, bindTimeout)
	defer cancel()
	key := keyOf(server, id)
	for {
		err := t.create(ctx, key, task, ttl)
		if !errors.Is(err, state.ErrConflict) {
			return err
		}
		e, err := t.find(ctx, key)
		switch {
		case errors.Is(err, state.ErrNotFound) && ctx.Err() == nil:
			continue // it is over by now
		case err != nil:
			return err
		case e.task.Owner != task.Owner || e.task.Tool != task.Tool:
			return ErrTaskTaken
		}
		t.renew(e, ttl)
		return nil
	}
}

// create enters a task whose id must be free.
func (t *Tasks) create(ctx context.Context, key string, task state.Task, ttl time.Duration) error {
	now := steady.Now()
	task.Created = now.Truncate(time.Millisecond)
	limits, arguments := t.holds()
	person, client := task.Owner.Parts()
	crowded, kept, err := t.crowded(ctx, person, client, limits)
	if err != nil {
		return err
	}
	if n := len(task.Arguments); n > maxArguments || kept+n > maxOwnersArguments || arguments+n > maxAllArguments {
		task.Arguments, task.Known = nil, false
	}
	e := &entry{table: t, task: task}
	e.expires = e.until(ttl, now, limits)
	e.stored = e.expires
	_, parts, err := state.Parts(key)
	if err != nil {
		return err
	}
	create, err := records.Create(newRecord(&task), e.expires, parts...)
	if err != nil {
		return err
	}
	index, err := byOwner.Create(size{task.Created.UnixMilli(), len(task.Arguments)}, task.Created.Add(limits.Life), append([]string{person, client}, parts...)...)
	if err != nil {
		return err
	}
	index.If = state.Any // one that was left over is of no use
	changes := []state.Change{create, index}
	for _, old := range crowded {
		changes = append(changes, state.Remove(old), state.Remove(keyOfIndex(old)))
	}
	version, err := t.rows.Create(ctx, key, e, changes...)
	if err != nil {
		return err
	}
	for _, old := range crowded {
		t.rows.Dropped(keyOfIndex(old))
	}
	t.mu.Lock()
	e.at = version
	t.mu.Unlock()
	t.enter(e)
	t.shrink()
	return nil
}

func (t *Tasks) holds() (limits Limits, arguments int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.limits, t.arguments
}

// maxCrowded bounds how many tasks are forgotten for one that begins.
const maxCrowded = (state.MaxChanges - 2) / 2

// crowded are the keys of an owner's index whose tasks have to be forgotten if there is
// one more, and how long the arguments of the others are.
func (t *Tasks) crowded(ctx context.Context, person, client string, limits Limits) (keys []string, kept int, err error) {
	type known struct {
		key       string
		arguments int
		asked     int64
	}
	var found []known
	now := steady.Now()
	for index, err := range byOwner.All(ctx, t.store, person, client) {
		if err != nil {
			return nil, 0, err
		}
		k := known{index.Key, index.Data.Arguments, index.Data.Created * int64(time.Millisecond)}
		if e, here := t.rows.Known(keyOfIndex(index.Key)); here {
			if t.over(e, now) {
				k.asked = 0
			} else {
				k.asked = max(k.asked, e.asked.Load())
			}
		}
		found = append(found, k)
		kept += k.arguments
	}
	excess := min(len(found)+1-limits.PerOwner, maxCrowded, len(found))
	if excess <= 0 {
		return nil, kept, nil
	}
	slices.SortFunc(found, func(a, b known) int { return cmp.Compare(a.asked, b.asked) })
	for _, k := range found[:excess] {
		keys = append(keys, k.key)
		kept -= k.arguments
	}
	return keys, kept, nil
}

// Find returns the owner's task of that id on a server. A task that is somebody else's,
// or whose time is up, is as unknown as one that never was, which is an ErrNotFound. The
// store is asked only for a task that this node does not know; any other error is an
// ErrUnavailable, by which nothing is known about the task.
func (t *Tasks) Find(ctx context.Context, server, id string, owner state.Owner) (state.Task, error) {
	if id == "" || len(id) > maxTaskText {
		return state.Task{}, state.ErrNotFound
	}
	e, err := t.find(ctx, keyOf(server, id))
	if err != nil {
		return state.Task{}, err
	}
	if e.task.Owner != owner {
		return state.Task{}, state.ErrNotFound
	}
	now := steady.Now()
	e.asked.Store(now.UnixNano())
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.inUsed != nil {
		t.used.MoveToFront(e.inUsed)
	}
	return e.task, nil
}

// find finds a task, whosever it is.
func (t *Tasks) find(ctx context.Context, key string) (*entry, error) {
	e, err := t.rows.Get(ctx, key)
	if err == nil && t.over(e, steady.Now()) {
		if e, err = t.rows.Read(ctx, key); err == nil && t.over(e, steady.Now()) {
			// The server has set a shorter time since.
			if err = t.rows.Remove(ctx, key, indexOf(e.task.Owner, key)); err == nil {
				err = state.ErrNotFound
			}
		}
	}
	switch {
	case err == nil && t.enter(e):
		t.shrink()
		return e, nil
	case err == nil, errors.Is(err, state.ErrNotFound):
		return nil, state.ErrNotFound
	}
	return nil, state.Unavailable(err)
}

// FindAll reads the tasks of some ids that this node does not know, all at once, so that
// Find need not ask for each. It returns those that exist.
func (t *Tasks) FindAll(ctx context.Context, server string, ids []string) (map[string]bool, error) {
	there := make(map[string]bool, len(ids))
	for chunk := range slices.Chunk(ids, state.MaxChanges) {
		keys := make([]string, len(chunk))
		for i, id := range chunk {
			keys[i] = keyOf(server, id)
		}
		found, err := t.rows.GetAll(ctx, keys)
		if err != nil {
			return nil, state.Unavailable(err)
		}
		for i, e := range found {
			there[chunk[i]] = e != nil && t.enter(e)
		}
		t.shrink()
	}
	return there, nil
}

// over reports whether the time of a task is up.
func (t *Tasks) over(e *entry, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !now.Before(e.expires)
}

// enter notes that this node knows a task, unless it has ended.
func (t *Tasks) enter(e *entry) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Gone() {
		return false
	}
	if e.inUsed == nil {
		e.inUsed = t.used.PushFront(e)
		t.arguments += len(e.task.Arguments)
	}
	return true
}

// drop forgets a task.
func (t *Tasks) drop(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.inUsed != nil {
		t.used.Remove(e.inUsed)
		e.inUsed = nil
		t.arguments -= len(e.task.Arguments)
	}
}

// shrink forgets what is too much for this node.
func (t *Tasks) shrink() {
	var most []*entry
	t.mu.Lock()
	for at := t.used.Back(); at != nil && t.used.Len()-len(most) > t.limits.Max; at = at.Prev() {
		most = append(most, at.Value.(*entry))
	}
	t.mu.Unlock()
	for _, e := range most {
		t.rows.End(e.Key(), indexOf(e.task.Owner, e.Key()))
	}
}

// Interface guard
var _ mirror.Mirrored = (*entry)(nil)
