//go:build !linux

package launch

import "os/exec"

// detach has no portable meaning: elsewhere a terminal's Ctrl-C also reaches the child.
func detach(*exec.Cmd) {}
