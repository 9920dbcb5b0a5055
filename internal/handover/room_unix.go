//go:build unix

package handover

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/fdtable"
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
	Prepare()
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
func Prepare() { fdtable.Grow(1 << 16) }
