// Command conformance runs the official MCP conformance suite twice, directly and through
// the gateway with a role that may do everything, and compares the outcomes check by
// check:
//
//	go run ./integration/conformance
//
// The suite's client talks to the Go SDK's reference servers, and about tasks to one of
// our own; then the SDK's reference client talks to the suite's servers. The pinned suite
// and the Node it needs are installed with npm into .build/conformance. For each set of
// scenarios it prints "SET: D of N differ"; it fails unless every D is 0 and every N is
// not. The suite cannot send a token, so a hop in the same Caddy adds it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

// set is a number of scenarios that are run directly and through the gateway.
type set struct {
	name   string
	server string   // reference server: stateful, stateless or tasks; empty: the suite tests the client
	suite  string   // folder of the npm package that holds the suite
	args   []string // what to select
	each   []string // scenarios to run one by one; empty: all that args select, at once
}

const (
	current = "@modelcontextprotocol/conformance" // knows every version
	stable  = "conformance-stable"                // 0.1.16, the last release line
)

var sets = []set{
	{"2025-11-25", "stateful", current, []string{"--requirements", "2025-11-25"}, nil},
	{"2026-07-28", "stateless", current, []string{"--requirements", "2026-07-28"}, nil},
	{"2025-11-25, all scenarios", "stateful", current, []string{"--suite", "all", "--spec-version", "2025-11-25"}, nil},
	{"2026-07-28, all scenarios", "stateless", current, []string{"--suite", "all", "--spec-version", "2026-07-28"}, nil},
	{"2025-06-18, all scenarios", "stateful", current, []string{"--suite", "all", "--spec-version", "2025-06-18"}, nil},
	{"2025-03-26, all scenarios", "stateful", current, []string{"--suite", "all", "--spec-version", "2025-03-26"}, nil},
	{"suite 0.1.16, all scenarios", "stateful", stable, []string{"--suite", "all"}, nil},
	// No SDK serves the tasks extension yet, so this set has a server of its own.
	{"2026-07-28, tasks", "tasks", current, []string{"--spec-version", "2026-07-28", "--force"}, []string{
		"tasks-lifecycle", "tasks-capability-negotiation", "tasks-wire-fields", "tasks-request-state-removal",
		"tasks-mrtr-input", "tasks-request-headers", "tasks-dispatch-and-envelope", "tasks-required-task-error",
		"tasks-mrtr-composition",
	}},
	// The client scenarios under auth/ have the suite's own authorization server check
	// the suite's own resource server; behind a gateway there is nothing of ours in them.
	{"2025-11-25, client", "", current, []string{"--spec-version", "2025-11-25"}, []string{
		"initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry",
	}},
	{"2026-07-28, client", "", current, []string{"--spec-version", "2026-07-28"}, []string{
		"tools_call", "request-metadata", "sep-2322-client-request-state", "http-standard-headers",
		"http-custom-headers", "http-invalid-tool-headers", "json-schema-ref-no-deref",
	}},
}

func main() {
	verbose := flag.Bool("v", false, "print the suite's own output too")
	wrap := flag.String("wrap", "", "internal: run this client against a gateway in front of the server given as argument")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if *wrap != "" {
		err = wrapClient(ctx, *wrap, flag.Arg(0))
	} else {
		err = run(ctx, *verbose)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, verbose bool) error {
	root, err := launch.Root()
	if err != nil {
		return err
	}
	dir := filepath.Join(root, ".build", "conformance")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s := suite{dir: dir, verbose: verbose}
	if err := s.install(ctx, root); err != nil {
		return err
	}
	var group launch.Group
	defer group.Stop()
	if err := s.start(ctx, &group, root); err != nil {
		return err
	}

	var failed []error
	for i, set := range sets {
		results := filepath.Join(dir, fmt.Sprintf("results-%d", i))
		direct, err := s.run(ctx, filepath.Join(results, "direct"), set, false)
		if err != nil {
			return err
		}
		through, err := s.run(ctx, filepath.Join(results, "gateway"), set, true)
		if err != nil {
			return err
		}
		differ, total := compare(direct, through)
		for _, d := range differ {
			fmt.Println("  " + d)
		}
		fmt.Printf("%s: %d of %d differ\n", set.name, len(differ), total)
		switch {
		case len(differ) > 0:
			failed = append(failed, fmt.Errorf("%s: %d of %d differ", set.name, len(differ), total))
		case total == 0:
			failed = append(failed, fmt.Errorf("%s: the suite made no checks; see %s", set.name, filepath.Join(dir, lastOutput)))
		}
	}
	return errors.Join(failed...)
}
