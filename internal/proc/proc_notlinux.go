//go:build !linux

package proc

import (
	"errors"
	"time"
)

// Resident returns errors.ErrUnsupported.
func Resident(int) (int64, error) { return 0, errors.ErrUnsupported }

// Memory returns errors.ErrUnsupported.
func Memory(int) (int64, error) { return 0, errors.ErrUnsupported }

// CPU returns errors.ErrUnsupported.
func CPU(int) (time.Duration, error) { return 0, errors.ErrUnsupported }

// HasSocket returns errors.ErrUnsupported.
func HasSocket(int, uint64) (bool, error) { return false, errors.ErrUnsupported }

// Changed returns errors.ErrUnsupported.
func Changed(int, string) (bool, error) { return false, errors.ErrUnsupported }
