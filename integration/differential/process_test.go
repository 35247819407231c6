package differential

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// process is a reader that runs in a process of its own. It reads frames on its standard
// input and answers each on its standard output (integration/node/frames.mjs).
type process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr strings.Builder
	mu     sync.Mutex
}

// question is a body to read, and what a reader needs to know beside it.
type question struct {
	// Headers are those of the request that carried the body.
	Headers map[string]string `json:"headers,omitempty"`
	// Answer is whether it is an answer, to a request with that method and id, of that
	// media type.
	Answer bool   `json:"answer,omitempty"`
	Method string `json:"method,omitempty"`
	ID     int    `json:"id,omitempty"`
	Type   string `json:"type,omitempty"`

	body []byte
}

func startProcess(name, dir string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(args[0], args[1:]...)}
	p.cmd.Dir = dir
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.stdout = bufio.NewReaderSize(stdout, 1<<16)
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

// stop ends the process, which does so by itself when its standard input is closed.
func (p *process) stop() {
	p.stdin.Close()
	kill := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	_ = p.cmd.Wait()
}

// ask puts all questions and hands each answer to the function, in their order.
func (p *process) ask(questions []question, answer func(i int, text []byte) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	stuck := time.AfterFunc(2*time.Minute, func() { _ = p.cmd.Process.Kill() })
	defer stuck.Stop()

	written := make(chan error, 1)
	go func() { written <- p.write(questions) }()
	var err error
	for i := range questions {
		var text []byte
		if text, err = p.read(); err != nil {
			_ = p.cmd.Process.Kill() // it is of no more use
			_ = p.cmd.Wait()
			err = fmt.Errorf("%s ended or hung at %q: %w\n%s", p.name, questions[i].body, err, &p.stderr)
			break
		}
		if err = answer(i, text); err != nil {
			err = fmt.Errorf("%s answered %s: %w", p.name, text, err)
			break
		}
	}
	if err != nil {
		p.stdin.Close() // nothing more can be asked of it, and the writer must not wait
	}
	return errors.Join(err, <-written)
}

func (p *process) write(questions []question) error {
	w := bufio.NewWriterSize(p.stdin, 1<<16)
	for _, q := range questions {
		line, err := json.Marshal(q)
		if err != nil {
			return err
		}
		var length [4]byte
		binary.BigEndian.PutUint32(length[:], uint32(len(line)+1+len(q.body)))
		_, _ = w.Write(length[:])
		_, _ = w.Write(append(line, '\n'))
		if _, err := w.Write(q.body); err != nil {
			return err
		}
	}
	return w.Flush()
}

func (p *process) read() ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(p.stdout, length[:]); err != nil {
		return nil, err
	}
	text := make([]byte, binary.BigEndian.Uint32(length[:]))
	_, err := io.ReadFull(p.stdout, text)
	return text, err
}
