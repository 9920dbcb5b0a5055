//go:build unix

package handover

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// descriptors estimates how many more descriptors this process can open.
type descriptors struct {
	known int // at the last count
	since int // calls since
}

// room leaves some for other uses. Counting them costs the more the more there
// are, and a batch takes at most maxFiles: far from the limit it isn't done
// each time.
func (d *descriptors) room() int {
	if d.since++; d.known-d.since*maxFiles > 4*maxFiles {
		return d.known - d.since*maxFiles
	}
	d.known, d.since = count(), 0
	return d.known
}

func count() int {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil {
		return 0
	}
	limit := int(min(lim.Cur, 1<<24))
	expand(limit)
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

// expand makes the kernel's table of descriptors large at once: in a process
// with threads each of its steps waits until all CPUs have passed a quiet state
// (expand_fdtable in the kernel's fs/file.c).
func expand(limit int) {
	high := min(limit, 1<<16) - 1
	if fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, high); err == nil {
		unix.Close(fd)
	}
}
