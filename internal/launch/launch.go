// Package launch builds programs of this module and runs them as children, for the
// quickstart, the conformance run and the benchmark. Everything it makes lies in the
// checkout's .build folder, which git ignores.
package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopTimeout is how long a child may take to end after SIGTERM before it is killed.
const stopTimeout = 10 * time.Second

// Root returns the folder of the module that the working directory is in: the nearest
// one upwards that holds a go.mod.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod here or above: run this inside the checkout")
		}
		dir = parent
	}
}

// Build compiles a package, named by its import path or by ./folder relative to root,
// to root/.build/bin and returns the program's path. Go's build cache makes it quick
// when nothing has changed.
func Build(ctx context.Context, root, pkg string) (string, error) {
	dir := filepath.Join(root, ".build", "bin")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	// Tests of several packages build the same programs at the same time.
	locked, err := lock(filepath.Join(dir, ".lock"))
	if err != nil {
		return "", err
	}
	defer locked.Close()
	bin := filepath.Join(dir, filepath.Base(pkg))
	if runtime.GOOS == "windows" {
		bin += ".exe"
	}
	// -buildvcs=false: a checkout owned by another user must build too.
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", bin, pkg)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	return bin, nil
}

// FreeAddr returns a loopback host:port that nothing listens on at the moment.
func FreeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// Process is a running child.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when the child has ended
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Failure describes a child that ended by itself, with the end of its log.
func (p *Process) Failure() error {
	return fmt.Errorf("%s ended (%s); the end of %s:\n%s", p.name, p.cmd.ProcessState, p.log, tail(p.log, 2000))
}

// WaitReady returns when url is answered with 200, or with an error when the child ends
// or ctx does before that.
func (p *Process) WaitReady(ctx context.Context, url string) error {
	return p.poll(ctx, url, func() bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		return res.Body.Close() == nil && res.StatusCode == http.StatusOK
	})
}

// WaitListening returns when addr accepts connections, or with an error when the child
// ends or ctx does before that.
func (p *Process) WaitListening(ctx context.Context, addr string) error {
	return p.poll(ctx, addr, func() bool {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

func (p *Process) poll(ctx context.Context, what string, ready func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-p.done:
			return p.Failure()
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s at %s: %w; the end of %s:\n%s", p.name, what, context.Cause(ctx), p.log, tail(p.log, 2000))
		case <-tick.C:
		}
	}
	return nil
}

// Group holds children that are stopped together. The zero value is ready to use.
type Group struct {
	mu       sync.Mutex
	children []*Process
}

// Start runs a command whose output goes to the file logPath, which is overwritten.
func (g *Group) Start(name, logPath string, cmd *exec.Cmd) (*Process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &Process{name: name, cmd: cmd, log: logPath, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the outcome is in cmd.ProcessState
		close(p.done)
	}()
	g.mu.Lock()
	g.children = append(g.children, p)
	g.mu.Unlock()
	return p, nil
}

// Ended returns a channel that yields the first child that ends from now on.
func (g *Group) Ended() <-chan *Process {
	g.mu.Lock()
	defer g.mu.Unlock()
	first := make(chan *Process, len(g.children))
	for _, p := range g.children {
		go func() {
			<-p.done
			first <- p
		}()
	}
	return first
}

// Stop ends every child, the last started first, and returns when all have ended.
func (g *Group) Stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range slices.Backward(g.children) {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		select {
		case <-p.done:
		case <-time.After(stopTimeout):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	}
	g.children = nil
}

// tail returns the last n bytes of a file.
func tail(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(b) > n {
		b = b[len(b)-n:]
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			b = b[i+1:]
		}
	}
	return strings.TrimSpace(string(b))
}

// Port returns the port of a host:port.
func Port(addr string) string {
	_, port, _ := net.SplitHostPort(addr) // without a port: the empty string
	return port
}
