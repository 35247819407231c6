//go:build unix

// Package node installs the npm packages of this folder, and the Node that runs its
// scripts.
package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Binary is the path of the installed Node within the folder.
var Binary = filepath.Join("node_modules", ".bin", "node")

// Install installs the locked npm packages into this folder, whose path is dir, and the
// Node version among them, unless an installation newer than the lock is there.
// Processes that install at the same time wait for each other.
func Install(ctx context.Context, dir string) error {
	lock, err := os.OpenFile(filepath.Join(dir, ".install.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	wanted, err := os.Stat(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return err
	}
	// npm writes this file when everything else is in place.
	have, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json"))
	if err == nil && !have.ModTime().Before(wanted.ModTime()) {
		return nil
	}
	install := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, Binary)); err != nil {
		return fmt.Errorf("npm ci has brought no Node (it comes by an install script: are those switched off?): %w", err)
	}
	return nil
}
