//go:build unix

package handover

import (
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// descriptors keeps account of how many more descriptors this process can open.
type descriptors struct{ left int }

// room is what is left when taken more are in use. Counting them costs the more
// the more there are: it is done at first, and near the limit.
func (d *descriptors) room(taken int) int {
	if d.left -= taken; d.left < 4*maxFiles {
		d.left = count()
	}
	return d.left
}

func count() int {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil {
		return 0
	}
	prepare()
	limit := int(min(lim.Cur, 1<<24))
	return max(0, limit-used(limit)-min(256, limit/8))
}

func used(limit int) int {
	dir := "/dev/fd"
	if runtime.GOOS == "linux" {
		dir = "/proc/self/fd"
	}
	f, err := os.Open(dir)
	if err != nil {
		return limit / 2 // who knows
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return limit / 2
	}
	return len(names)
}

// Prepare makes room for the descriptors that a receiver gets, once. The first
// hello does it; earlier, and beside other work, no connection waits for it.
func Prepare() { prepare() }

var prepare = sync.OnceFunc(func() {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil {
		expand(int(min(lim.Cur, 1<<24)))
	}
})

// expand makes the kernel's table of descriptors large at once: in a process
// with threads each of its steps waits until all CPUs have passed a quiet state
// (expand_fdtable in the kernel's fs/file.c).
func expand(limit int) {
	high := min(limit, 1<<16) - 1
	if fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, high); err == nil {
		unix.Close(fd)
	}
}
