//go:build !unix

package transport

import "net"

// canProbe is false: everything goes through net/http's client here.
const canProbe = false

func quiet(net.Conn) bool { return false }
