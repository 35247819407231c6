package launch

import (
	"os"
	"os/exec"
	"syscall"
)

// detach keeps a terminal's Ctrl-C from the child, which Stop is to end in order, and
// has the kernel end it should this program be killed before it can.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// lock takes the file at path, which it makes, for this process alone; it waits for one
// that has it. Closing the file gives it back.
func lock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}
