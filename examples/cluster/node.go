package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

// node is a Caddy with the gateway. Its addresses stay when it is started again.
type node struct {
	cluster           *cluster
	name, addr, admin string
	group             *launch.Group
	process           *launch.Process
}

func (c *cluster) newNode(name string) (*node, error) {
	addr, err := launch.FreeAddr()
	if err != nil {
		return nil, err
	}
	admin, err := launch.FreeAddr()
	if err != nil {
		return nil, err
	}
	return &node{cluster: c, name: name, addr: addr, admin: admin, group: new(launch.Group)}, nil
}

// start starts it, and waits until it is ready: then it knows all that was revoked.
func (n *node) start(ctx context.Context) (err error) {
	n.process, err = n.cluster.caddy(ctx, n.group, n.name, "CLUSTER_NAME="+n.name, "CLUSTER_PORT="+launch.Port(n.addr), "CLUSTER_ADMIN="+n.admin)
	if err != nil {
		return err
	}
	return n.process.WaitReady(ctx, "http://"+n.addr+"/ready")
}

// kill ends it without notice.
func (n *node) kill() error {
	process, err := os.FindProcess(n.process.PID())
	if err != nil {
		return err
	}
	if err := process.Kill(); err != nil {
		return err
	}
	<-n.process.Done()
	return nil
}

// revoke has the node revoke a token, as an operator does.
func (n *node) revoke(ctx context.Context, id string) (line string, err error) {
	bin, err := launch.Build(ctx, n.cluster.root, "./xcaddy")
	if err != nil {
		return "", err
	}
	args := []string{"mcp", "revoke", "--address", n.admin, "--id", id, "--issuer", issuer}
	if printed, err := exec.CommandContext(ctx, bin, args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("caddy %s: %w\n%s", strings.Join(args, " "), err, printed)
	}
	return "caddy " + strings.Join(args, " "), nil
}
