// Command bench measures what the gateway costs: a secured tools/call against the same
// call through plain reverse_proxy in the same Caddy process, and against none at all.
//
//	go run ./integration/bench
//
// All targets get the same requests over 32 keep-alive connections, bearer header
// included, each with a JSON-RPC id of its own. The rounds are interleaved and start with
// another target each time; a ratio is taken within a round and its median reported. Many
// short rounds stand a busy machine better than few long ones. The MCP server behind them
// is a hand-written net/http one that answers 300 bytes at once, because an MCP SDK's own
// cost would hide the proxy's. Revocations and sessions are in a Redis server. The load
// generator is wrk, installed with apt-get if that
// is possible, else one written in Go.
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

// connections is the number of keep-alive connections of the load generator.
const connections = 32

type options struct {
	rounds    int
	duration  time.Duration // of one target in one round
	generator string        // wrk, go, or empty for the better one that can be had
}

func main() {
	var opts options
	flag.IntVar(&opts.rounds, "rounds", 15, "rounds per workload")
	flag.DurationVar(&opts.duration, "duration", 2*time.Second, "load on one target in one round")
	flag.StringVar(&opts.generator, "generator", "", "load generator, wrk or go (default wrk where it can be had)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, opts, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, opts options, out io.Writer) error {
	if opts.rounds < 1 || opts.duration <= 0 {
		return fmt.Errorf("want at least one round and a positive duration, not %d of %s", opts.rounds, opts.duration)
	}
	generate, name, err := chooseGenerator(ctx, opts.generator)
	if err != nil {
		return err
	}
	root, err := launch.Root()
	if err != nil {
		return err
	}
	dir := filepath.Join(root, ".build", "bench")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	up, err := startUpstream()
	if err != nil {
		return err
	}
	defer up.close()
	var group launch.Group
	defer group.Stop()
	redis, err := startRedis(ctx, &group, dir)
	if err != nil {
		return err
	}
	caddy, plain, gateway, token, err := startCaddy(ctx, &group, root, dir, up.url, redis)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s, %d connections, %d rounds of %s; upstream: hand-written Go net/http, 300-byte answers\n",
		name, connections, opts.rounds, opts.duration)

	b := bench{opts: opts, generate: generate, dir: dir, up: up, token: token, cpu: func() (time.Duration, bool) { return cpuTime(caddy.PID()) }}
	lowest := 0.0
	for i, w := range workloads {
		ratio, err := b.workload(ctx, out, w, []target{
			{"direct", up.url + w.path},
			{"plain", plain + w.path},
			{"secured", gateway + "/servers/" + w.server + "/mcp"},
		})
		if err != nil {
			return err
		}
		if i == 0 || ratio < lowest {
			lowest = ratio
		}
	}
	// The one figure is that of the workload in which the gateway does worse.
	_, err = fmt.Fprintf(out, "\nsecured/plain: %.2f\n", lowest)
	return err
}

// caddyfile has the two targets in one process. Neither logs requests.
const caddyfile = `{
	admin off
	persist_config off
	mcp_gateway {
		store redis {$REDIS}
	}
}

http://:{$PLAIN_PORT} {
	bind 127.0.0.1
	respond /ready 200
	reverse_proxy {$UPSTREAM}
}

http://:{$GATEWAY_PORT} {
	bind 127.0.0.1
	mcp_gateway {
		public_url http://127.0.0.1:{$GATEWAY_PORT}
		issuer https://bench.example {
			key_file {$KEY_FILE}
			algorithms RS256
		}
		role analyst {
			when groups data-team ops-team
			allow tools.execute sessions/query_* stateless/query_*
			allow tools.execute sessions/report stateless/report
			allow resources.read sessions/** stateless/**
			allow prompts.execute sessions/summary stateless/summary
		}
		role editor {
			when groups editors
			allow tools.execute sessions/update_* stateless/update_*
		}
		server sessions {$UPSTREAM}/sessions/mcp
		server stateless {$UPSTREAM}/stateless/mcp
	}
}
`

// startRedis starts the store, and returns its address.
func startRedis(ctx context.Context, group *launch.Group, dir string) (string, error) {
	addr, err := launch.FreeAddr()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", launch.Port(addr), "--save", "", "--dir", dir) //nolint:gosec // a free port
	server, err := group.Start("redis-server", filepath.Join(dir, "redis.log"), cmd)
	if err != nil {
		return "", fmt.Errorf("%w; install redis-server, as make bench does", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return addr, server.WaitListening(ctx, addr)
}

// startCaddy starts the plain proxy and the gateway and makes the token that every
// target is sent.
func startCaddy(ctx context.Context, group *launch.Group, root, dir, upstream, redis string) (caddy *launch.Process, plain, gateway, token string, err error) {
	fail := func(err error) (*launch.Process, string, string, string, error) { return nil, "", "", "", err }
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fail(err)
	}
	keyFile := filepath.Join(dir, "issuer.pem")
	if err := launch.WriteKey(keyFile, key); err != nil {
		return fail(err)
	}
	plainAddr, err := launch.FreeAddr()
	if err != nil {
		return fail(err)
	}
	gatewayAddr, err := launch.FreeAddr()
	if err != nil {
		return fail(err)
	}
	plain, gateway = "http://"+plainAddr, "http://"+gatewayAddr
	token, err = launch.Sign(jose.RS256, key, map[string]any{
		"iss": "https://bench.example", "sub": "5f1c0d1e-analyst", "aud": gateway, "client_id": "bench",
		"jti": rand.Text(), "iat": time.Now().Unix(), "exp": time.Now().Add(24 * time.Hour).Unix(),
		"groups": []string{"staff", "data-team", "berlin"}, "scope": "mcp:read mcp:write",
	})
	if err != nil {
		return fail(err)
	}
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(caddyfile), 0o600); err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute) // a first build is slow
	defer cancel()
	caddy, err = group.StartCaddy(ctx, root, dir, file, "UPSTREAM="+upstream, "REDIS="+redis, "KEY_FILE="+keyFile+".pub",
		"PLAIN_PORT="+launch.Port(plainAddr), "GATEWAY_PORT="+launch.Port(gatewayAddr))
	if err != nil {
		return fail(err)
	}
	for _, url := range []string{plain, gateway} {
		if err := caddy.WaitReady(ctx, url+"/ready"); err != nil {
			return fail(err)
		}
	}
	return caddy, plain, gateway, token, nil
}
