//go:build unix

package cluster

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddymcp/caddy-mcp-gateway"
)

// maxFile has the test's program be a Caddy whose files may only have so many bytes,
// instead of running tests. The system answers as it does when the disk is full.
const maxFile = "CLUSTER_TEST_MAX_FILE"

func TestMain(m *testing.M) {
	if text := os.Getenv(maxFile); text != "" {
		if err := limitFiles(text); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		caddycmd.Main()
		return
	}
	os.Exit(m.Run())
}

func limitFiles(text string) error {
	size, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = size
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}
