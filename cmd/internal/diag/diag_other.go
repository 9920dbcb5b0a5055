//go:build !linux

package diag

import "errors"

// Sockets returns errors.ErrUnsupported.
func Sockets() ([]Socket, error) { return nil, errors.ErrUnsupported }

// Look returns errors.ErrUnsupported.
func Look(int) (*Process, error) { return nil, errors.ErrUnsupported }

// Owners returns none.
func Owners() map[uint64]int { return nil }

// Name returns "".
func Name(int) string { return "" }
