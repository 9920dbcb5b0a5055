//go:build !linux || !(amd64 || arm64)

package vault

import (
	"errors"
	"fmt"
	"runtime"
)

func start() (Handle, error) {
	return Handle{}, fmt.Errorf("no rescue of connections on %s/%s: %w", runtime.GOOS, runtime.GOARCH, errors.ErrUnsupported)
}
