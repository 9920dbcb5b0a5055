//go:build unix

// Package fdtable makes the kernel's table of a process's descriptors large before
// many come at once.
package fdtable

import (
	"sync"

	"golang.org/x/sys/unix"
)

var once sync.Once

// Grow makes room for n descriptors, or for as many as RLIMIT_NOFILE allows, once
// in the life of a process. It blocks for some 10 ms if the process has threads:
// then each of the table's steps waits until all CPUs have passed a quiet state
// (expand_fdtable in the kernel's fs/file.c). That is 100 ms for 10,000 descriptors
// that come one by one, in the middle of a handover or a rescue.
func Grow(n int) { once.Do(func() { grow(n) }) }

func grow(n int) {
	var lim unix.Rlimit
	if n < 1 || unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil {
		return
	}
	fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, int(min(lim.Cur, uint64(n)))-1)
	if err == nil {
		unix.Close(fd)
	}
}
