//go:build !linux

package pidfile

import "errors"

// prepared needs files without a name.
type prepared struct{ pid int }

func prepare(string, int) (*prepared, error) { return nil, errors.ErrUnsupported }

func (*prepared) close() {}

func (*prepared) put(string) error { return errors.ErrUnsupported }
