//go:build !linux && !darwin

package proc

import (
	"errors"
	"syscall"
	"time"
)

// Handle is never made here.
type Handle struct{}

// Open returns errors.ErrUnsupported.
func Open(int) (*Handle, error) { return nil, errors.ErrUnsupported }

// PID is 0.
func (*Handle) PID() int { return 0 }

// Done is nil.
func (*Handle) Done() <-chan struct{} { return nil }

// Ended is false.
func (*Handle) Ended() bool { return false }

// Kill returns errors.ErrUnsupported.
func (*Handle) Kill(syscall.Signal) error { return errors.ErrUnsupported }

// Close does nothing.
func (*Handle) Close() error { return nil }

// Children returns errors.ErrUnsupported.
func Children(int) ([]int, error) { return nil, errors.ErrUnsupported }

// Zombie is false.
func Zombie(int) bool { return false }

// StartTime returns errors.ErrUnsupported.
func StartTime(int) (time.Time, error) { return time.Time{}, errors.ErrUnsupported }

// Executable returns errors.ErrUnsupported.
func Executable(int) (string, error) { return "", errors.ErrUnsupported }

func describe(int) (name string, args []string) { return "", nil }
