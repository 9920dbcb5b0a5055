package pidfile

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What was prepared is invisible until it is written, and then like any other.
func TestPreparedWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "app.pid")
	defer syscall.Umask(syscall.Umask(0o077))
	f := acquire(t, path)
	must(t, f.Write(1))
	f.Prepare(42)
	if contentOf(t, path) != "1\n" || !onlyFiles(t, dir) {
		t.Error("a prepared write is to be seen")
	}
	if f.next == nil {
		t.Skipf("%s is on a file system without O_TMPFILE", dir)
	}
	must(t, f.Write(42))
	if fi, _ := os.Stat(path); contentOf(t, path) != "42\n" || fi.Mode() != 0o644 || !onlyFiles(t, dir) {
		t.Errorf("%q, mode %v", contentOf(t, path), fi.Mode())
	}
	if f.next != nil {
		t.Error("it is prepared still")
	}
	f.Prepare(43)
	must(t, f.Write(44)) // another one
	if contentOf(t, path) != "44\n" || f.next != nil {
		t.Errorf("%q", contentOf(t, path))
	}
	f.Prepare(45)
	f.Prepare(0)
	if f.next != nil {
		t.Error("not dropped")
	}
}

// What the preparation can't do is left to Write.
func TestUnpreparedWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.pid")
	f := acquire(t, path)
	f.Prepare(42)
	if f.next == nil {
		t.Skip("the file system is without O_TMPFILE")
	}
	f.next.close() // as if it couldn't be linked
	must(t, f.Write(42))
	if contentOf(t, path) != "42\n" {
		t.Errorf("%q", contentOf(t, path))
	}
}

func onlyFiles(t *testing.T, dir string) bool {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	return len(list) == 2 // the file and its lock
}
