package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

// caddyfile is a gateway with an allow-all role, and the hop that adds the token.
const caddyfile = `{
	admin off
	persist_config off
}

http://:{$HOP_PORT} {
	bind 127.0.0.1
	request_header Authorization "Bearer {env.TOKEN}"
	reverse_proxy {$GATEWAY}
}

http://:{$GATEWAY_PORT} {
	bind 127.0.0.1
	mcp_gateway {
		public_url http://127.0.0.1:{$HOP_PORT}
		issuer https://conformance.example {
			secret {env.SECRET}
			algorithms HS256
		}
		role everything {
			allow *
		}
		SERVERS
	}
}
`

// startGateway starts the gateway in front of the named MCP servers and returns the URL of
// the hop, below which the server NAME is at /servers/NAME/mcp.
func startGateway(ctx context.Context, group *launch.Group, root, dir string, servers map[string]string) (string, error) {
	hop, err := launch.FreeAddr()
	if err != nil {
		return "", err
	}
	gateway, err := launch.FreeAddr()
	if err != nil {
		return "", err
	}
	secret := rand.Text() + rand.Text()
	token, err := launch.Sign(jose.HS256, []byte(secret), map[string]any{
		"iss": "https://conformance.example", "sub": "suite", "aud": "http://" + hop,
		"jti": rand.Text(), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	})
	if err != nil {
		return "", err
	}
	var lines strings.Builder
	for name, url := range servers {
		fmt.Fprintf(&lines, "server %s %s\n\t\t", name, url)
	}
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(strings.Replace(caddyfile, "SERVERS", lines.String(), 1)), 0o600); err != nil {
		return "", err
	}
	caddy, err := group.StartCaddy(ctx, root, dir, file, "HOP_PORT="+launch.Port(hop),
		"GATEWAY_PORT="+launch.Port(gateway), "GATEWAY="+gateway, "SECRET="+secret, "TOKEN="+token)
	if err != nil {
		return "", err
	}
	soon, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return "http://" + hop, caddy.WaitReady(soon, "http://"+hop+"/ready")
}

// wrapClient is what the suite runs in place of a client: a gateway of its own in front of
// the suite's server, and the client against that gateway.
func wrapClient(ctx context.Context, client, server string) error {
	root, err := launch.Root()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var group launch.Group
	defer group.Stop()
	hop, err := startGateway(ctx, &group, root, dir, map[string]string{"suite": server})
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, client, hop+"/servers/suite/mcp")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}
