//go:build !linux

package launch

import (
	"os"
	"os/exec"
)

// detach has no portable meaning: elsewhere a terminal's Ctrl-C also reaches the child.
func detach(*exec.Cmd) {}

// lock only makes the file: elsewhere two programs must not build at the same moment.
func lock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
}
