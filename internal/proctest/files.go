package proctest

import (
	"os"
	"syscall"
	"testing"
)

// Self is the path of the test binary.
func Self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Dir is a directory as t.TempDir makes, with a path short enough for sockets.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bed-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Link switches a symlink, as a deployment does: at no time there is none.
func Link(t testing.TB, path, target string) {
	t.Helper()
	os.Remove(path + ".new")
	if err := os.Symlink(target, path+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Read waits for a file that is put into place whole, and returns what is in it.
func Read(t testing.TB, path string) (text string) {
	t.Helper()
	Check(t, func() error {
		data, err := os.ReadFile(path)
		text = string(data)
		return err
	})
	return text
}

// Install puts a file into place as one should: beside it, then renamed. If it is a
// program it can be started at once.
func Install(t testing.TB, path string, data []byte, mode os.FileMode) {
	t.Helper()
	if err := write(path+".new", data, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// write lets nothing be forked meanwhile: until it execs, a child that another test
// starts would have the file open for writing, and the program be busy.
func write(path string, data []byte, mode os.FileMode) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, data, mode)
}

// Copy puts a copy of a file into place, with its mode.
func Copy(t testing.TB, path, from string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	Install(t, path, data, info.Mode().Perm())
}
