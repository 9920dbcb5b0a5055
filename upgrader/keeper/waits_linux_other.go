//go:build linux && !amd64

package keeper

import "golang.org/x/sys/unix"

// waitKind knows what every newer architecture has; glibc makes poll and select
// of these there.
func waitKind(number int) int {
	switch number {
	case unix.SYS_ACCEPT4, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2:
		return waitsOnOne
	case unix.SYS_PPOLL:
		return waitsInPoll
	case unix.SYS_PSELECT6:
		return waitsInSelect
	}
	return 0
}
