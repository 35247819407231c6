//go:build unix

package cluster

import (
	"fmt"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state/redis/redistest"
)

// password is that of the user gateway in Redis.
const password = "the password of the gateway"

// permissions are what the documentation says that the user needs.
var permissions = []string{
	"resetkeys", "~mcp_gateway:*", "~{mcp_gateway}:*", "~token:revoked:*", "resetchannels",
	"-@all", "+@read", "+@write", "+@connection", "-@dangerous", "+eval", "+evalsha", "+time", "+info",
}

// newRedis starts one that keeps its data on the disk, with the user gateway.
func newRedis(t *testing.T, options ...string) *redistest.Server {
	t.Helper()
	options = append(options, "--appendonly", "yes", "--appendfsync", "always",
		"--user", "default", "on", "nopass", "~*", "&*", "+@all", "--user", "gateway", "on", ">"+password)
	return redistest.Start(t, append(options, permissions...)...)
}

// store is the option of a node for a Redis there.
func store(addr string) string {
	return fmt.Sprintf("store redis %s {\n\t\t\tusername gateway\n\t\t\tpassword {env.CLUSTER_PASSWORD}\n\t\t\ttimeout 1s\n\t\t}", addr)
}

// operator is a client that may do everything.
func operator(t *testing.T, addr string) *goredis.Client {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: addr})
	t.Cleanup(func() { c.Close() })
	return c
}
