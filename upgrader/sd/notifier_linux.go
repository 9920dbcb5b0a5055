package sd

import "golang.org/x/sys/unix"

const sendFlags = unix.MSG_NOSIGNAL

func datagramSocket() (int, error) {
	return unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
}
