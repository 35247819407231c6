//go:build !darwin && !dragonfly && !freebsd && !linux && !netbsd && !openbsd

package embedded

import "os"

// unlock does nothing where the lock goes with the file.
func unlock(*os.File) {}
