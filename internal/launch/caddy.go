package launch

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
)

// StartCaddy builds Caddy with this plugin and starts it with a Caddyfile, the additional
// environment (NAME=value) and all its files under dir, where its log is caddy.log.
func (g *Group) StartCaddy(ctx context.Context, root, dir, caddyfile string, env ...string) (*Process, error) {
	bin, err := Build(ctx, root, "./xcaddy")
	if err != nil {
		return nil, err
	}
	// No CommandContext: it kills, and the order in which children end is Stop's matter.
	cmd := exec.Command(bin, "run", "--adapter", "caddyfile", "--config", caddyfile)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.Env = append(cmd.Env, env...)
	return g.Start("caddy", filepath.Join(dir, "caddy.log"), cmd)
}
