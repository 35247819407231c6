package redis

import (
	"context"
	"fmt"
	"sync"

	"github.com/caddyserver/caddy/v2"
	goredis "github.com/redis/go-redis/v9"
)

// libraryLog has what the library says in Caddy's log, at level debug: the errors that
// matter come back from its calls, too.
type libraryLog struct{}

// Printf writes a line.
func (libraryLog) Printf(_ context.Context, format string, args ...any) {
	caddy.Log().Named("mcp_gateway.stores.redis").Debug(fmt.Sprintf(format, args...))
}

var setLogger = sync.OnceFunc(func() { goredis.SetLogger(libraryLog{}) })
