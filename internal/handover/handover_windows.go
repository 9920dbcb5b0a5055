package handover

import (
	"context"
	"errors"
)

func closeFD(int) error { return errors.ErrUnsupported }

// Sender is never made on Windows, where descriptors don't travel.
type Sender struct{}

// Takes says that nothing can be moved.
func (*Sender) Takes(context.Context, string) error { return errors.ErrUnsupported }

// Reserve says that there is no room.
func (*Sender) Reserve() bool { return false }

// Release is never called on Windows.
func (*Sender) Release() {}

// Put is never called on Windows.
func (*Sender) Put(*Item, func(*Item, error)) {}

// Failed is never closed.
func (*Sender) Failed() <-chan struct{} { return nil }

// Err is always nil.
func (*Sender) Err() error { return nil }

// Prepare has nothing to do on Windows.
func Prepare() {}
