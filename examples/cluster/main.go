// Command cluster shows two nodes of the MCP gateway that share a Redis, behind a load
// balancer, on one machine with Go and redis-server:
//
//	go run ./examples/cluster
//
// It makes an authority, a key, a password and two tokens; starts Redis with TLS and a user
// who may do no more than is needed, an example MCP server, two nodes and the balancer; and
// shows that a token that is revoked on one node is refused by both, also by one that was
// down meanwhile. It stays up until Ctrl-C. What it makes lies in .build/cluster.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

// options are what the command line says.
type options struct {
	listen string // host:port of the balancer
	dir    string // where keys, data and logs are kept
	once   bool   // stop after the transcript
}

func main() {
	var opts options
	flag.StringVar(&opts.listen, "listen", "127.0.0.1:8820", "address of the balancer, 127.0.0.1:port")
	flag.StringVar(&opts.dir, "dir", "", "folder for keys, data and logs (default .build/cluster in the checkout)")
	flag.BoolVar(&opts.once, "once", false, "stop after the transcript")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, opts, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// cluster is what runs.
type cluster struct {
	root, dir, url string
	env            []string // of every node
	redis          string
	nodes          []*node
	group          launch.Group
}

// run does everything; when it returns, all it started has ended. Being told to stop
// through ctx is no error.
func run(ctx context.Context, opts options, out io.Writer) error {
	root, err := launch.Root()
	if err != nil {
		return err
	}
	if host, _, err := net.SplitHostPort(opts.listen); err != nil || host != "127.0.0.1" {
		return fmt.Errorf("-listen %s: want 127.0.0.1:port", opts.listen)
	}
	if opts.dir == "" {
		opts.dir = filepath.Join(root, ".build", "cluster")
	}
	c := &cluster{root: root, dir: opts.dir, url: "http://" + opts.listen}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	ids, err := identities(c.dir, c.url)
	if err != nil {
		return err
	}
	defer c.stop()
	fmt.Fprintln(out, "Building Caddy with the MCP gateway and an example MCP server (minutes the first time, then seconds) ...")
	soon, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	err = c.start(soon, opts.listen)
	if err == nil {
		err = c.transcript(soon, out, ids)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if opts.once {
		return nil
	}
	fmt.Fprintf(out, "\nThe cluster is up at %s. Ctrl-C stops it.\n", c.url)
	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "Stopping.")
		return nil
	case child := <-c.group.Ended():
		if ctx.Err() != nil {
			return nil
		}
		return child.Failure()
	}
}

// start starts everything, in the order in which one needs the other.
func (c *cluster) start(ctx context.Context, listen string) error {
	if err := c.startRedis(ctx); err != nil {
		return err
	}
	thermostat, err := c.startServer(ctx)
	if err != nil {
		return err
	}
	c.env = append(c.env, "CLUSTER_REDIS="+c.redis, "CLUSTER_DIR="+c.dir, "CLUSTER_URL="+c.url, "CLUSTER_THERMOSTAT="+thermostat)
	var addresses []string
	for _, name := range []string{"one", "two"} {
		n, err := c.newNode(name)
		if err != nil {
			return err
		}
		if err := n.start(ctx); err != nil {
			return err
		}
		c.nodes = append(c.nodes, n)
		addresses = append(addresses, n.addr)
	}
	balancer, err := c.caddy(ctx, &c.group, "balancer", "CLUSTER_PORT="+launch.Port(listen), "CLUSTER_NODES="+strings.Join(addresses, " "))
	if err != nil {
		return err
	}
	return balancer.WaitReady(ctx, c.url+"/ready")
}

// stop ends everything, the balancer first.
func (c *cluster) stop() {
	c.group.Stop()
	for _, n := range c.nodes {
		n.group.Stop()
	}
}

// startRedis starts an empty Redis.
func (c *cluster) startRedis(ctx context.Context) error {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return fmt.Errorf("%w: install it, with make redis-server where there is apt-get", err)
	}
	if c.redis, err = launch.FreeAddr(); err != nil {
		return err
	}
	dir := filepath.Join(c.dir, "redis")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	password, err := redisFiles(dir, c.redis)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.dir, "ca.pem"), ca, 0o600); err != nil {
		return err
	}
	c.env = append(c.env, "CLUSTER_REDIS_PASSWORD="+password)
	cmd := exec.Command(program, "redis.conf")
	cmd.Dir = dir
	server, err := c.group.Start("redis-server", filepath.Join(c.dir, "redis.log"), cmd)
	if err != nil {
		return err
	}
	return server.WaitListening(ctx, c.redis)
}

// startServer starts the MCP server and returns its URL.
func (c *cluster) startServer(ctx context.Context) (string, error) {
	bin, err := launch.Build(ctx, c.root, "./examples/servers/thermostat")
	if err != nil {
		return "", err
	}
	addr, err := launch.FreeAddr()
	if err != nil {
		return "", err
	}
	server, err := c.group.Start("thermostat", filepath.Join(c.dir, "thermostat.log"), exec.Command(bin, "-listen", addr))
	if err != nil {
		return "", err
	}
	return "http://" + addr + "/mcp", server.WaitListening(ctx, addr)
}

// caddy starts a Caddy with the Caddyfile of that name.
func (c *cluster) caddy(ctx context.Context, group *launch.Group, name string, env ...string) (*launch.Process, error) {
	dir, file := filepath.Join(c.dir, name), name
	if name != "balancer" {
		file = "node"
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return group.StartCaddy(ctx, c.root, dir, filepath.Join(c.root, "examples", "cluster", file+".caddyfile"), slices.Concat(c.env, env)...)
}
