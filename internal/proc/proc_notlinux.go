//go:build !linux

package proc

import (
	"errors"
	"time"
)

// Memory is what a process has in memory, in bytes.
type Memory struct{ RSS, PSS int64 }

// MemoryOf returns errors.ErrUnsupported.
func MemoryOf(int) (Memory, error) { return Memory{}, errors.ErrUnsupported }

// CPU returns errors.ErrUnsupported.
func CPU(int) (time.Duration, error) { return 0, errors.ErrUnsupported }

// HasSocket returns errors.ErrUnsupported.
func HasSocket(int, uint64) (bool, error) { return false, errors.ErrUnsupported }

// Changed returns errors.ErrUnsupported.
func Changed(int, string) (bool, error) { return false, errors.ErrUnsupported }
