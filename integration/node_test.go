package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/integration/node"
)

// nodeDir has the scripts and packages.
const nodeDir = "node"

// nodeProcess is a script of the node folder. It ends when its standard input is
// closed.
type nodeProcess struct {
	script string
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr *tail
	ended  chan struct{}
	err    error
}

// startNode runs a script with one more environment variable, and hands every
// line it prints to the function, one at a time.
func startNode(ctx context.Context, script, variable string, value any, line func([]byte)) (*nodeProcess, error) {
	config, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	p := &nodeProcess{script: script, stderr: new(tail), ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, node.Binary, script)
	p.cmd.Dir = nodeDir
	p.cmd.Env = append(os.Environ(), variable+"="+string(config), "NODE_EXTRA_CA_CERTS="+authorityFile())
	p.cmd.Stderr = p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", script, err)
	}
	go func() {
		defer close(p.ended)
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			line(lines.Bytes())
		}
		p.err = errors.Join(lines.Err(), p.cmd.Wait())
	}()
	return p, nil
}

// wait waits for the end of the script.
func (p *nodeProcess) wait() error {
	<-p.ended
	if p.err != nil {
		return fmt.Errorf("%s: %w\n%s", p.script, p.err, p.stderr)
	}
	return nil
}

// stop tells the script to end, and makes it end when it does not.
func (p *nodeProcess) stop() {
	p.stdin.Close()
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// startNodeServer runs a script that serves, until the last test has ended, and
// returns its URL.
func startNodeServer(script, variable string, value any, event func([]byte)) (string, error) {
	ready := make(chan string, 1)
	p, err := startNode(context.Background(), script, variable, value, func(line []byte) {
		var started struct{ URL string }
		if json.Unmarshal(line, &started) == nil && started.URL != "" {
			ready <- started.URL
			return
		}
		event(line)
	})
	if err != nil {
		return "", err
	}
	atEnd(p.stop)
	select {
	case url := <-ready:
		return url, nil
	case <-p.ended:
		return "", fmt.Errorf("%s ended before it listened: %w", script, p.wait())
	case <-time.After(30 * time.Second):
		return "", fmt.Errorf("%s did not listen within 30 s\n%s", script, p.stderr)
	}
}

// tail keeps the end of what a process prints, for the report of a failure.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if drop := len(t.text) - 64<<10; drop > 0 {
		t.text = t.text[drop:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
