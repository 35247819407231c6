package launch

import (
	"os/exec"
	"syscall"
)

// detach keeps a terminal's Ctrl-C from the child, which Stop is to end in order, and
// has the kernel end it should this program be killed before it can.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
