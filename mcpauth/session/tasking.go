package session

import (
	"github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// maxSessionsArguments is how many bytes of arguments one session remembers.
const maxSessionsArguments = 64 << 10

// Tasking notes what task an open request of the client asks for. The answer that
// names it may come on another exchange, when a stream was broken and is resumed.
func (s *Session) Tasking(id jsonrpc.ID, task state.Task) {
	key := id.Key()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.open[key]; !open {
		return
	}
	if s.arguments+len(task.Arguments) > maxSessionsArguments {
		task.Arguments, task.Known = nil, false
	}
	if s.tasking == nil {
		s.tasking = make(map[string]state.Task)
	}
	s.tasking[key] = task
	s.arguments += len(task.Arguments)
}

// TaskOf returns the task that a request asks for which has not been answered yet.
func (s *Session) TaskOf(id jsonrpc.ID) (state.Task, bool) {
	key := id.Key()
	s.mu.Lock()
	defer s.mu.Unlock()
	task, ok := s.tasking[key]
	return task, ok
}

func (s *Session) forgetTask(key string) {
	if task, ok := s.tasking[key]; ok {
		s.arguments -= len(task.Arguments)
		delete(s.tasking, key)
	}
}
