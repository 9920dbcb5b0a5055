package sd

import (
	"errors"
	"time"
)

// Receiver is never made on Windows.
type Receiver struct{}

// NewReceiver returns errors.ErrUnsupported.
func NewReceiver(string) (*Receiver, error) { return nil, errors.ErrUnsupported }

// Address is "".
func (*Receiver) Address() string { return "" }

// Recv returns errors.ErrUnsupported.
func (*Receiver) Recv() (*Received, error) { return nil, errors.ErrUnsupported }

// Dropped is 0.
func (*Receiver) Dropped() uint64 { return 0 }

// SetDeadline returns errors.ErrUnsupported.
func (*Receiver) SetDeadline(time.Time) error { return errors.ErrUnsupported }

// Close does nothing.
func (*Receiver) Close() error { return nil }

func closeAll([]int) {}
