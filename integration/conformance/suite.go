package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

// lastOutput is the file with what the suite printed in its latest run.
const lastOutput = "last-output.txt"

// suite runs the installed conformance suite.
type suite struct {
	dir     string // where it is installed, and its results
	verbose bool
	client  string            // path of the reference client
	direct  map[string]string // URLs of the reference servers
	hop     string            // URL of the gateway in front of them
}

// install puts the suite and its Node into its folder with npm, from the committed lock
// file, unless that lock file is installed already.
func (s *suite) install(ctx context.Context, root string) error {
	lock, err := os.ReadFile(filepath.Join(root, "integration", "conformance", "package-lock.json"))
	if err != nil {
		return err
	}
	installed := filepath.Join(s.dir, "installed.json")
	if have, err := os.ReadFile(installed); err == nil && bytes.Equal(have, lock) {
		return nil
	}
	manifest, err := os.ReadFile(filepath.Join(root, "integration", "conformance", "package.json"))
	if err != nil {
		return err
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(s.dir, "package.json"), manifest, 0o600),
		os.WriteFile(filepath.Join(s.dir, "package-lock.json"), lock, 0o600),
	); err != nil {
		return err
	}
	fmt.Println("Installing the conformance suite ...")
	cmd := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci (Node.js with npm is needed): %w\n%s", err, out)
	}
	return os.WriteFile(installed, lock, 0o600)
}

// start builds the reference client and starts the reference servers and the gateway.
func (s *suite) start(ctx context.Context, group *launch.Group, root string) error {
	const reference = "github.com/modelcontextprotocol/go-sdk/conformance/"
	var err error
	if s.client, err = launch.Build(ctx, root, reference+"everything-client"); err != nil {
		return err
	}
	server, err := launch.Build(ctx, root, reference+"everything-server")
	if err != nil {
		return err
	}
	s.direct = map[string]string{}
	for name, mode := range map[string]string{"stateful": "-stateless=false", "stateless": "-stateless=true"} {
		addr, err := launch.FreeAddr()
		if err != nil {
			return err
		}
		p, err := group.Start(name, filepath.Join(s.dir, name+".log"), exec.Command(server, "-http="+addr, mode))
		if err != nil {
			return err
		}
		soon, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := p.WaitListening(soon, addr); err != nil {
			return err
		}
		s.direct[name] = "http://" + addr + "/"
	}
	if s.direct["tasks"], err = serveTasks(ctx); err != nil {
		return err
	}
	s.hop, err = startGateway(ctx, group, root, s.dir, s.direct)
	return err
}

// check is one assertion of the suite, named so that two runs can be compared.
type check struct {
	name    string // scenario / check id # occurrence
	status  string
	message string
}

// run runs one set, directly or through the gateway, and returns its checks in the suite's
// order.
func (s *suite) run(ctx context.Context, results string, set set, through bool) ([]check, error) {
	if err := os.RemoveAll(results); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(results, 0o700); err != nil {
		return nil, err
	}
	subject, err := s.subject(set, through)
	if err != nil {
		return nil, err
	}
	args := append(append(subject, "-o", results), set.args...)
	if set.each == nil {
		if err := s.exec(ctx, set.suite, args); err != nil {
			return nil, err
		}
	}
	for _, scenario := range set.each {
		if err := s.exec(ctx, set.suite, append(args, "--scenario", scenario)); err != nil {
			return nil, err
		}
	}
	return readChecks(results)
}

// subject says what the suite is to test.
func (s *suite) subject(set set, through bool) ([]string, error) {
	switch {
	case set.server != "" && through:
		return []string{"server", "--url", s.hop + "/servers/" + set.server + "/mcp"}, nil
	case set.server != "":
		return []string{"server", "--url", s.direct[set.server]}, nil
	case through:
		self, err := os.Executable()
		return []string{"client", "--command", self + " -wrap " + s.client}, err
	default:
		return []string{"client", "--command", s.client}, nil
	}
}

// exec runs the suite once.
func (s *suite) exec(ctx context.Context, name string, args []string) error {
	// The pinned Node where npm has one for this platform, else the machine's, which must
	// then be 22 or newer.
	node := filepath.Join(s.dir, "node_modules", ".bin", "node")
	if _, err := os.Stat(node); err != nil {
		node = "node"
	}
	script := filepath.Join(s.dir, "node_modules", filepath.FromSlash(name), "dist", "index.js")
	out, err := exec.CommandContext(ctx, node, append([]string{script}, args...)...).CombinedOutput()
	if s.verbose {
		fmt.Printf("%s\n", out)
	}
	// Exit status 1 means that scenarios failed, which is for the comparison to judge.
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return fmt.Errorf("running the suite with %q: %w\n%s", args, err, out)
	}
	return os.WriteFile(filepath.Join(s.dir, lastOutput), out, 0o600)
}

// scenario takes the time off the name of a result folder.
var scenario = regexp.MustCompile(`^(.+)-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d+Z$`)

func readChecks(results string) ([]check, error) {
	files, err := fs.Glob(os.DirFS(results), "*/checks.json")
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var checks []check
	for _, file := range files {
		b, err := os.ReadFile(filepath.Join(results, filepath.FromSlash(file)))
		if err != nil {
			return nil, err
		}
		var list []struct {
			ID           string `json:"id"`
			Status       string `json:"status"`
			ErrorMessage string `json:"errorMessage"`
		}
		if err := json.Unmarshal(b, &list); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		name := scenario.ReplaceAllString(strings.TrimSuffix(file, "/checks.json"), "$1")
		occurrences := map[string]int{}
		for _, c := range list {
			if c.Status == "INFO" {
				continue
			}
			occurrences[c.ID]++
			checks = append(checks, check{fmt.Sprintf("%s / %s #%d", name, c.ID, occurrences[c.ID]), c.Status, c.ErrorMessage})
		}
	}
	return checks, nil
}

// compare describes every check whose status differs between the two runs or that only
// one of them made, and counts the checks of both.
func compare(direct, gateway []check) (differ []string, total int) {
	through := map[string]check{}
	for _, c := range gateway {
		through[c.name] = c
	}
	for _, d := range direct {
		g, ok := through[d.name]
		delete(through, d.name)
		switch {
		case !ok:
			differ = append(differ, fmt.Sprintf("%s: %s directly, not checked through the gateway", d.name, d.status))
		case g.status != d.status:
			differ = append(differ, fmt.Sprintf("%s: %s directly, %s through the gateway: %s", d.name, d.status, g.status, g.message+d.message))
		}
	}
	for _, g := range gateway {
		if _, only := through[g.name]; only {
			differ = append(differ, fmt.Sprintf("%s: not checked directly, %s through the gateway: %s", g.name, g.status, g.message))
		}
	}
	return differ, len(direct) + len(through)
}
