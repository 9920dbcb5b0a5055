//go:build unix

package upgrader

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const hangup = syscall.SIGHUP

func signalName(s os.Signal) string {
	if n, ok := s.(syscall.Signal); ok {
		if name := unix.SignalName(n); name != "" {
			return name
		}
	}
	return s.String()
}
