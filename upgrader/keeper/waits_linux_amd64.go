package keeper

import "golang.org/x/sys/unix"

func waitKind(number int) int {
	switch number {
	case unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2:
		return waitsOnOne
	case unix.SYS_POLL, unix.SYS_PPOLL:
		return waitsInPoll
	case unix.SYS_SELECT, unix.SYS_PSELECT6:
		return waitsInSelect
	}
	return 0
}
