//go:build !linux

package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
)

// Vault is the keeper's side of a worker's vault.
type Vault struct{}

// Adopt takes over the files, closes them, and returns an error that wraps
// errors.ErrUnsupported.
func Adopt(_ int, sock, memory *os.File) (*Vault, error) {
	sock.Close()
	memory.Close()
	return nil, fmt.Errorf("vault: on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// Reap does nothing.
func Reap(int) {}

// Disputed is never made.
type Disputed struct{}

// PID returns 0.
func (*Vault) PID() int { return 0 }

// Dead returns nil.
func (*Vault) Dead() <-chan struct{} { return nil }

// End does nothing.
func (*Vault) End() {}

// Rescue rescues nothing.
func (*Vault) Rescue(context.Context, Options) *Rescued { return nil }
