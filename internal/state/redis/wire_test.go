package redis

import (
	"io"
	"net"
	"sync"
	"testing"
)

// wire stands between a client and a server, and can be cut.
type wire struct {
	Addr string

	t      *testing.T
	to     string
	ln     net.Listener
	mu     sync.Mutex
	cut    bool
	conns  map[net.Conn]struct{}
	answer func(n int) bool // whether the nth answer of all may pass
	n      int
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Addr: ln.Addr().String(), t: t, to: to, ln: ln, conns: map[net.Conn]struct{}{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { w.carry(conn) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		w.Cut()
		running.Wait()
	})
	return w
}

func (w *wire) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer server.Close()
	w.mu.Lock()
	if w.cut {
		w.mu.Unlock()
		return
	}
	w.conns[client], w.conns[server] = struct{}{}, struct{}{}
	w.mu.Unlock()
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil || !w.passes() {
			break
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			break
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, client)
	delete(w.conns, server)
}

func (w *wire) passes() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	return w.answer == nil || w.answer(w.n)
}

// Cut breaks all connections and lets no new ones through.
func (w *wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for conn := range w.conns {
		conn.Close()
	}
}

// Mend undoes Cut.
func (w *wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
}

// Lose has some answers be lost, and their connections with them.
func (w *wire) Lose(pass func(n int) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n, w.answer = 0, pass
}
