package differential

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/integration/node"
)

var (
	duration = flag.Duration("for", 60*time.Second, "how long requests are made; answers, and arguments, half as long")
	seed     = flag.Uint64("seed", 0, "the seed to make bodies from; 0 takes another each time")
)

// nodeDir has the scripts and packages of Node.
const nodeDir = "../node"

// world is what all tests share.
var world struct {
	gate *gate
	// processes are the readers that are not written in Go.
	js, py, ts1, ts2 *process
}

func TestMain(m *testing.M) {
	flag.Parse()
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	stop, err := start()
	defer stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the readers:", err)
		return 1
	}
	return m.Run()
}

func start() (stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, f := range stops {
			f()
		}
	}
	if world.gate, err = newGate(); err != nil {
		return stop, err
	}
	if err := node.Install(context.Background(), nodeDir); err != nil {
		return stop, err
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		return stop, errors.Join(errors.New("python3 is needed; make test installs it"), err)
	}
	for _, p := range []struct {
		of   **process
		name string
		dir  string
		args []string
	}{
		{&world.js, "Node JSON.parse", nodeDir, []string{node.Binary, "reader.mjs"}},
		{&world.ts1, "TypeScript SDK 1.x", nodeDir, []string{node.Binary, "reader-ts1.mjs"}},
		{&world.ts2, "TypeScript SDK 2.x", nodeDir, []string{node.Binary, "reader-ts2.mjs"}},
		{&world.py, "Python json.loads", ".", []string{python, "testdata/reader.py"}},
	} {
		if *p.of, err = startProcess(p.name, p.dir, p.args...); err != nil {
			return stop, err
		}
		stops = append(stops, (*p.of).stop)
	}
	return stop, nil
}
