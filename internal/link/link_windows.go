// Package link has nothing to carry on Windows, where descriptors don't travel.
package link

import "errors"

// Conn is never made on Windows.
type Conn struct{}

// Close does nothing.
func (*Conn) Close() error { return errors.ErrUnsupported }
