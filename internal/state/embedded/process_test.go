//go:build unix

package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// childMode has the test's program be a child that writes, instead of running tests.
const childMode = "EMBEDDED_TEST_CHILD"

func TestMain(m *testing.M) {
	switch mode, path, _ := strings.Cut(os.Getenv(childMode), " "); mode {
	case "write":
		fmt.Println(writeForEver(path))
		os.Exit(1)
	case "full":
		if err := writeUntilFull(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// writeForEver writes from several goroutines, and prints what was acknowledged.
func writeForEver(path string) error {
	s := newStore(path, true)
	if err := s.Open(context.Background()); err != nil {
		return err
	}
	var mu sync.Mutex
	failed := make(chan error)
	for range 4 {
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d-%d", rand.Uint64(), i)
				_, err := s.Apply(context.Background(), state.Create("one/"+name, []byte(name)), state.Create("two/"+name, []byte(name)))
				if err == nil {
					err = s.Revoke(context.Background(), state.Revocation{Kind: state.RevokeID, Value: name})
				}
				if err != nil {
					failed <- err
					return
				}
				mu.Lock()
				fmt.Println("acknowledged", name)
				mu.Unlock()
			}
		}()
	}
	return <-failed
}

// TestKilled kills a process that writes, 200 times at any moment, on one file. All that
// was acknowledged is there afterwards, and nothing is there by half.
func TestKilled(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "state.db")
	var acknowledged []string
	for round := range 200 {
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Env = append(os.Environ(), childMode+"=write "+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The first rounds end before or while the file is made.
		after := rand.IntN(8)
		kill := time.AfterFunc(time.Duration(rand.IntN(20))*time.Millisecond, func() {
			if round < 50 {
				_ = cmd.Process.Kill()
			}
		})
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			name, ok := strings.CutPrefix(lines.Text(), "acknowledged ")
			if !ok {
				t.Fatalf("round %d: %s", round, lines.Text())
			}
			acknowledged = append(acknowledged, name)
			if n >= after {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait() // it was killed
		kill.Stop()
	}
	if len(acknowledged) < 200 {
		t.Errorf("only %d writes were acknowledged in 200 rounds", len(acknowledged))
	}
	s := opened(t, path)
	revoked := map[string]bool{}
	err = s.allRevocations(t.Context(), func(u state.Update) {
		for _, r := range u.Revocations {
			revoked[r.Value] = true
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range acknowledged {
		if !revoked[name] {
			t.Errorf("the revocation %s was acknowledged and is lost", name)
		}
		if r, err := state.Get(t.Context(), s, "one/"+name); err != nil || string(r.Value) != name {
			t.Errorf("the record %s was acknowledged and is lost: %v", name, err)
		}
	}
	halves(t, s)
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) > 60 {
		t.Errorf("%d files are left: %v", len(entries), err)
	}
	t.Logf("%d acknowledged writes, %d revocations", len(acknowledged), len(revoked))
}

// halves looks for changes of which only one half was made.
func halves(t *testing.T, s *Store) {
	t.Helper()
	for r, err := range state.All(t.Context(), s, "") {
		if err != nil {
			t.Fatal(err)
		}
		table, name, _ := strings.Cut(r.Key, "/")
		other := map[string]string{"one": "two/", "two": "one/"}[table] + name
		if twin, err := state.Get(t.Context(), s, other); err != nil || twin.Version != r.Version {
			t.Errorf("%s is there without %s: %v", r.Key, other, err)
		}
	}
}

// writeUntilFull writes to a file that may not grow beyond a size, and goes on when it
// may. The system answers as it does when the disk is full.
func writeUntilFull(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	s := newStore(path, false)
	if err := s.Open(context.Background()); err != nil {
		return err
	}
	var all syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &all); err != nil {
		return err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 512 << 10, Max: all.Max}); err != nil {
		return err
	}
	value := []byte(strings.Repeat("v", 10_000))
	write := func(i int) error {
		name := fmt.Sprint(i)
		_, err := s.Apply(context.Background(), state.Create("one/"+name, value), state.Create("two/"+name, value))
		if err == nil {
			fmt.Println("acknowledged", name)
		}
		return err
	}
	i, refused := 0, 0
	for ; refused < 5; i++ {
		err := write(i)
		switch {
		case err == nil && i < 1000:
		case err == nil:
			return errors.New("the file never got full")
		case !errors.Is(err, state.ErrUnavailable) || !strings.Contains(err.Error(), "cannot grow"):
			return fmt.Errorf("another error than that it is full: %w", err)
		default:
			fmt.Println("refused", i)
			refused++
		}
	}
	if _, err := state.Get(context.Background(), s, "one/0"); err != nil {
		return fmt.Errorf("it cannot be read while it is full: %w", err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &all); err != nil {
		return err
	}
	for range 20 {
		if err := write(i); err != nil {
			return fmt.Errorf("when there is room again: %w", err)
		}
		i++
	}
	return nil // without having closed it
}

// TestFull: when there is no room a write is refused, nothing of it is there, and the
// next one is made when there is room again.
func TestFull(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "state.db")
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), childMode+"=full "+path)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := opened(t, path)
	acknowledged, refused := 0, 0
	for line := range strings.Lines(string(out)) {
		what, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		_, err := state.Get(t.Context(), s, "one/"+name)
		switch what {
		case "acknowledged":
			acknowledged++
			if err != nil {
				t.Errorf("%s was acknowledged: %v", name, err)
			}
		case "refused":
			refused++
			if !errors.Is(err, state.ErrNotFound) {
				t.Errorf("%s was refused: %v", name, err)
			}
		}
	}
	if acknowledged < 25 || refused != 5 {
		t.Errorf("%d acknowledged, %d refused", acknowledged, refused)
	}
	halves(t, s)
	if err := s.view(t.Context(), func(tx *bolt.Tx) error { return verify(tx) }); err != nil {
		t.Error(err)
	}
}
