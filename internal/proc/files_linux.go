package proc

import (
	"fmt"
	"os"
	"strings"
)

// HasSocket reports whether a process has a socket open, which is named by its
// inode (fstat(2)). It needs the right to look into the process: the same user,
// or root.
func HasSocket(pid int, inode uint64) (bool, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	d, err := os.Open(dir)
	if err != nil {
		return false, gone(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return false, gone(err)
	}
	want := fmt.Sprintf("socket:[%d]", inode)
	for _, name := range names {
		if target, err := os.Readlink(dir + "/" + name); err == nil && target == want {
			return true, nil
		}
	}
	return false, nil
}

// Executable returns the path of the file that a process runs, without
// symlinks. If the file has been removed or replaced it is where it was.
func Executable(pid int) (string, error) {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return "", gone(err)
	}
	return strings.TrimSuffix(path, " (deleted)"), nil
}

// Changed reports whether path names another file now than the one that the
// process runs, or none: it was replaced, or a symlink leads elsewhere. path is
// what the process was started as; "": Executable(pid).
func Changed(pid int, path string) (bool, error) {
	if path == "" {
		var err error
		if path, err = Executable(pid); err != nil {
			return false, err
		}
	}
	// Following this link leads to the file itself, whatever its name is now.
	running, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return false, gone(err)
	}
	there, err := os.Stat(path)
	if os.IsNotExist(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return !os.SameFile(running, there), nil
}
