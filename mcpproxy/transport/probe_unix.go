//go:build unix

package transport

import (
	"net"
	"syscall"
)

// canProbe is whether quiet can look at a connection.
const canProbe = true

// quiet reports whether an idle connection is still open and the server has sent nothing
// on it. It looks without waiting, in one call to the system.
func quiet(c net.Conn) bool {
	raw, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := raw.SyscallConn()
	if err != nil {
		return false
	}
	var one [1]byte
	open := false
	err = rc.Read(func(fd uintptr) bool {
		_, err := syscall.Read(int(fd), one[:])
		open = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return err == nil && open
}
