//go:build unix

package cluster

import (
	"net"
	"sync"
	"testing"
	"time"
)

// proxy stands between a node and Redis.
type proxy struct {
	Addr string

	to      string
	running sync.WaitGroup
	mu      sync.Mutex
	cut     bool
	delay   time.Duration
	conns   map[*net.TCPConn]struct{}
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Addr: ln.Addr().String(), to: to, conns: map[*net.TCPConn]struct{}{}}
	p.running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.carry(conn.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		p.Cut()
		p.running.Wait()
	})
	return p
}

func (p *proxy) carry(client *net.TCPConn) {
	defer client.Close()
	dialed, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	server := dialed.(*net.TCPConn)
	defer server.Close()
	if !p.enter(client, server) {
		return
	}
	defer p.leave(client, server)
	var both sync.WaitGroup
	both.Go(func() { p.pass(client, server) })
	both.Go(func() { p.pass(server, client) })
	both.Wait()
}

func (p *proxy) enter(conns ...*net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		return false
	}
	for _, conn := range conns {
		p.conns[conn] = struct{}{}
	}
	return true
}

func (p *proxy) leave(conns ...*net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		delete(p.conns, conn)
	}
}

// parcel is what came from one side, and when it is due at the other.
type parcel struct {
	data []byte
	due  time.Time
}

// pass carries one direction. What is delayed does not hold up what comes after it any
// longer than that.
func (p *proxy) pass(to, from *net.TCPConn) {
	parcels := make(chan parcel, 1024)
	p.running.Go(func() {
		defer to.Close()
		for parcel := range parcels {
			time.Sleep(time.Until(parcel.due)) // which is what this proxy is for
			if _, err := to.Write(parcel.data); err != nil {
				from.Close()
			}
		}
	})
	defer close(parcels)
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		p.mu.Lock()
		due := time.Now().Add(p.delay)
		p.mu.Unlock()
		parcels <- parcel{append([]byte(nil), buffer[:n]...), due}
	}
}

// Reset breaks all connections, as a firewall does that has forgotten them.
func (p *proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.SetLinger(0) // so that closing it is a reset
		conn.Close()
	}
}

// Cut breaks all connections and lets no new ones through.
func (p *proxy) Cut() {
	p.mu.Lock()
	p.cut = true
	p.mu.Unlock()
	p.Reset()
}

// Mend undoes Cut and Delay.
func (p *proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.delay = false, 0
}

// Delay holds up everything in both directions.
func (p *proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}
