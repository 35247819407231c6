// Package redistest starts Redis servers for tests.
package redistest

import (
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

// patience is how long a server may take to start.
const patience = 30 * time.Second

// Server is a redis-server that the test ends, on a loopback port that stays the same
// when it is started again.
type Server struct {
	// Addr is its host:port, and Dir the folder of its files.
	Addr, Dir string

	t       testing.TB
	program string
	args    []string
	mu      sync.Mutex
	group   *launch.Group
	process *launch.Process
}

// Start starts a server without files, with more options as on its command line.
func Start(t testing.TB, options ...string) *Server {
	t.Helper()
	s := New(t, options...)
	s.Start()
	return s
}

// New is a server that is not started yet.
func New(t testing.TB, options ...string) *Server {
	t.Helper()
	// `make redis-server` installs it.
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal(err, "- run make redis-server")
	}
	addr, err := launch.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: addr, Dir: t.TempDir(), t: t, program: program, group: new(launch.Group)}
	s.args = append([]string{
		"--bind", "127.0.0.1", "--port", launch.Port(addr), "--dir", s.Dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	}, options...)
	t.Cleanup(s.Stop)
	return s
}

// NewSentinel is a Sentinel with the lines of its configuration, not started yet.
func NewSentinel(t testing.TB, config string) *Server {
	t.Helper()
	s := New(t)
	s.args = []string{config, "--sentinel", "--bind", "127.0.0.1", "--port", launch.Port(s.Addr), "--dir", s.Dir}
	return s
}

// Start starts it, also again.
func (s *Server) Start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	process, err := s.group.Start("redis-server", filepath.Join(s.Dir, "redis.log"), exec.Command(s.program, s.args...)) // #nosec G204 -- a test
	if err != nil {
		s.t.Fatal(err)
	}
	s.process = process
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := process.WaitListening(ctx, s.Addr); err != nil {
		s.t.Fatal(err)
	}
}

// Stop ends it in good order.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.group.Stop()
}

// PID is its process.
func (s *Server) PID() int { return s.process.PID() }

// Done is closed when it has ended.
func (s *Server) Done() <-chan struct{} { return s.process.Done() }

// Host and Port are the parts of its address.
func (s *Server) Host() string {
	host, _, _ := net.SplitHostPort(s.Addr)
	return host
}

// Port is its port.
func (s *Server) Port() int {
	port, _ := strconv.Atoi(launch.Port(s.Addr))
	return port
}
