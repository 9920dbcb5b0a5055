package control

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

func openDirectory(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

func peer(fd int, groups bool) (credentials, error) {
	u, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return credentials{}, err
	}
	c := credentials{uid: int(u.Uid), groups: []int{int(u.Gid)}}
	if groups {
		c.groups = append(c.groups, peerGroups(fd)...)
	}
	return c, nil
}

// peerGroups returns the peer's supplementary groups (SO_PEERGROUPS, Linux 4.13);
// an older kernel tells none.
func peerGroups(fd int) []int {
	gids := make([]uint32, 64)
	for {
		size := uint32(len(gids) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&gids[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == unix.ERANGE && int(size) > len(gids)*4:
			gids = make([]uint32, size/4)
			continue
		case errno != 0:
			return nil
		}
		groups := make([]int, 0, size/4)
		for _, g := range gids[:size/4] {
			groups = append(groups, int(g))
		}
		return groups
	}
}
