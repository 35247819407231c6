package launch

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// child starts a shell script in a group that the test stops.
func child(t *testing.T, g *Group, script string) *Process {
	t.Helper()
	p, err := g.Start("script", filepath.Join(t.TempDir(), "log"), exec.Command("sh", "-c", script))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	return p
}

func TestStopEndsChildren(t *testing.T) {
	var g Group
	first, second := child(t, &g, "exec sleep 600"), child(t, &g, "exec sleep 600")
	g.Stop()
	for _, p := range []*Process{first, second} {
		select {
		case <-p.Done():
		default:
			t.Errorf("process %d still runs", p.PID())
		}
	}
}

func TestEndedTellsOfAFailure(t *testing.T) {
	var g Group
	child(t, &g, "exec sleep 600")
	child(t, &g, "echo out of oil >&2; exit 3")
	err := (<-g.Ended()).Failure()
	for _, want := range []string{"script ended (exit status 3)", "out of oil"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
}

func TestWaiting(t *testing.T) {
	var g Group
	running := child(t, &g, "exec sleep 600")
	ready := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer ready.Close()
	if err := running.WaitReady(t.Context(), ready.URL); err != nil {
		t.Error(err)
	}
	if err := running.WaitListening(t.Context(), ready.Listener.Addr().String()); err != nil {
		t.Error(err)
	}

	nobody, err := FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := running.WaitListening(short, nobody); err == nil {
		t.Error("nobody listens, yet it is ready")
	}
	ended := child(t, &g, "exit 1")
	if err := ended.WaitReady(t.Context(), "http://"+nobody); err == nil {
		t.Error("the child has ended, yet it is ready")
	}
}

func TestBuild(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := Build(t.Context(), root, "./examples/servers/thermostat")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	var g Group
	t.Cleanup(g.Stop)
	p, err := g.Start("thermostat", filepath.Join(t.TempDir(), "log"), exec.Command(bin, "-listen", addr))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitListening(t.Context(), addr); err != nil {
		t.Fatal(err)
	}
	g.Stop()
	if conn, err := net.Dial("tcp", addr); err == nil {
		_ = conn.Close()
		t.Error("it still listens after Stop")
	}
	if _, err := Build(t.Context(), root, "./no/such/package"); err == nil || !strings.Contains(err.Error(), "no/such/package") {
		t.Errorf("building what is not there: %v", err)
	}
}
