//go:build unix

package upgrader

import (
	"io/fs"
	"syscall"
)

func inode(st fs.FileInfo) (dev, ino uint64) {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0
	}
	return uint64(sys.Dev), uint64(sys.Ino) //nolint:unconvert // the types differ between systems
}
