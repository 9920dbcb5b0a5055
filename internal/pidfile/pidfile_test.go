//go:build unix

package pidfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func acquire(t *testing.T, path string) *File {
	t.Helper()
	f, err := Acquire(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func contentOf(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

func TestLife(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.pid")
	f := acquire(t, path)
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Acquire alone made a file: %v", err)
	}
	defer syscall.Umask(syscall.Umask(0o077))
	must(t, f.Write(os.Getpid()))
	if got, want := contentOf(t, path), fmt.Sprintf("%d\n", os.Getpid()); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if fi, _ := os.Stat(path); fi.Mode() != 0o644 {
		t.Errorf("mode %v", fi.Mode())
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if len(left) > 0 || err != nil {
		t.Errorf("left beside it: %v, %v", left, err)
	}
	must(t, f.Remove())
	must(t, f.Remove())
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
	must(t, f.Close())
	must(t, f.Close())
	if err := f.Write(1); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	if f.LockFile() != nil {
		t.Error("a lock file after Close")
	}
	acquire(t, path)
}

func TestSecondInstance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.pid")
	f := acquire(t, path)
	must(t, f.Write(os.Getpid()))
	for _, other := range []string{"within", "process"} {
		t.Run(other, func(t *testing.T) {
			want := fmt.Sprintf("another instance (pid %d)", os.Getpid())
			if other == "process" {
				if p := start(t, "acquire", path, nil); !strings.Contains(p.says, want) {
					t.Errorf("%q, want %q", p.says, want)
				}
				return
			}
			_, err := Acquire(path)
			var held *HeldError
			if !errors.As(err, &held) || !errors.Is(err, ErrHeld) || held.PID != os.Getpid() ||
				held.Hint() != want+" runs; stop it or use another --pidfile" {
				t.Errorf("%v", err)
			}
		})
	}
	must(t, f.Close())
	p := start(t, "acquire", path, nil) // the same, without the lock in its way
	defer p.end(t)
	if p.says != "ok\n" {
		t.Errorf("after Close: %q", p.says)
	}
}

// The PID of a process that has ended says nothing about who holds the lock.
func TestHeldWithStalePID(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.pid")
	dead := start(t, "acquire", filepath.Join(t.TempDir(), "other"), nil)
	dead.end(t)
	must(t, os.WriteFile(path, fmt.Appendln(nil, dead.Process.Pid), 0o644))
	acquire(t, path)
	_, err := Acquire(path)
	var held *HeldError
	if !errors.As(err, &held) || held.PID != 0 || strings.Contains(held.Hint(), "pid 0") {
		t.Errorf("%v", err)
	}
}

// PID reuse: a file that names a living process, but nobody holds the lock.
func TestStaleFileIsReplaced(t *testing.T) {
	for name, old := range map[string]string{"living": fmt.Sprintln(os.Getppid()), "garbage": "no pid\n", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "app.pid")
			must(t, os.WriteFile(path, []byte(old), 0o600))
			f := acquire(t, path)
			must(t, f.Write(42))
			if pid, err := Read(path); pid != 42 || err != nil {
				t.Error(pid, err)
			}
		})
	}
}

func TestGenerationsShareTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.pid")
	f := acquire(t, path)
	next := start(t, "adopt", path, f.LockFile(), "PIDFILE_TEST_REMOVE=1")
	if next.says != "ok\n" {
		t.Fatal(next.says)
	}
	must(t, f.Write(next.Process.Pid))
	must(t, f.Close())
	if _, err := Acquire(path); !errors.Is(err, ErrHeld) {
		t.Errorf("the next generation holds it: %v", err)
	}
	next.end(t) // removes the file, which its predecessor wrote
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
	acquire(t, path)
}

// Negative control of the one above, and of close-on-exec: a child that is not
// given the lock doesn't keep it.
func TestChildrenDontKeepTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.pid")
	f := acquire(t, path)
	child := start(t, "acquire", filepath.Join(t.TempDir(), "own"), nil)
	defer child.end(t)
	must(t, f.Close())
	acquire(t, path)
}

func TestLockEndsWithItsProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.pid")
	p := start(t, "acquire", path, nil)
	if _, err := Acquire(path); !errors.Is(err, ErrHeld) {
		t.Errorf("while it lives: %v", err)
	}
	must(t, p.Process.Kill())
	p.Wait()
	acquire(t, path)
}

func TestAdoptWithoutTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.pid")
	acquire(t, path)
	foreign, err := os.Open(path + ".lock")
	must(t, err)
	if _, err := Adopt(path, foreign); !errors.Is(err, ErrHeld) {
		t.Errorf("another open file of the lock: %v", err)
	}
	if err := foreign.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a failed Adopt left it open: %v", err)
	}
}

func TestRemoveOnlyOurs(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, path string){
		"other pid":    func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("1\n"), 0o644)) },
		"garbage":      func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("x"), 0o644)) },
		"lock removed": func(t *testing.T, path string) { must(t, os.Remove(path+".lock")) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "app.pid")
			f := acquire(t, path)
			must(t, f.Write(42))
			change(t, path)
			if err := f.Remove(); err == nil || !strings.Contains(err.Error(), "left in place") {
				t.Errorf("%v", err)
			}
			if _, err := os.Lstat(path); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRestore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.pid")
	f := acquire(t, path)
	for _, want := range []bool{true, false} {
		if wrote, err := f.Restore(42); wrote != want || err != nil {
			t.Errorf("%v, %v, want %v", wrote, err, want)
		}
	}
	must(t, os.WriteFile(path, []byte("7\n"), 0o644))
	if wrote, err := f.Restore(42); !wrote || err != nil {
		t.Errorf("%v, %v", wrote, err)
	}
	if pid, err := Read(path); pid != 42 || err != nil {
		t.Error(pid, err)
	}
}

func TestRemovedLockIsMadeAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.pid")
	f := acquire(t, path)
	must(t, os.Remove(path+".lock"))
	must(t, f.Write(42))
	if _, err := Acquire(path); !errors.Is(err, ErrHeld) {
		t.Errorf("not held after Write: %v", err)
	}
	must(t, os.Remove(path+".lock"))
	other := acquire(t, path)
	if err := f.Write(43); !errors.Is(err, ErrHeld) {
		t.Errorf("another instance was faster: %v", err)
	}
	if pid, _ := Read(path); pid != 42 {
		t.Errorf("wrote %d without the lock", pid)
	}
	must(t, other.Write(44))
}

func TestSymlinkIsReplaced(t *testing.T) {
	dir := t.TempDir()
	path, target := filepath.Join(dir, "app.pid"), filepath.Join(dir, "precious")
	must(t, os.WriteFile(target, []byte("precious"), 0o600))
	must(t, os.Symlink(target, path))
	f := acquire(t, path)
	must(t, f.Write(42))
	if fi, err := os.Lstat(path); err != nil || !fi.Mode().IsRegular() || contentOf(t, target) != "precious" {
		t.Errorf("%v, %v, %q", fi.Mode(), err, contentOf(t, target))
	}
}

func TestClearErrors(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "dir"), 0o700))
	must(t, os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "linked.lock")))
	must(t, syscall.Mkfifo(filepath.Join(dir, "fifo.lock"), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "dirlock.lock"), 0o700))
	for path, says := range map[string]string{
		"":                 "empty path",
		dir + "/missing/a": "create the directory " + dir + "/missing",
		dir + "/file/a":    "not a directory",
		dir + "/dir":       "is a directory: name a file in it",
		dir + "/new/":      "is a directory: name a file in it",
		dir + "/linked":    "is a symlink: remove it",
		dir + "/fifo":      "is no regular file: remove it",
		dir + "/dirlock":   "is a directory",
		"/proc/app.pid":    "pidfile /proc/app.pid: ",
	} {
		if _, err := Acquire(path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", path, err, says)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); !os.IsNotExist(err) {
		t.Error("made a file through a symlink")
	}
}

func TestExplain(t *testing.T) {
	for err, says := range map[error]string{
		syscall.EACCES: fmt.Sprintf("uid %d must be able to write into /run", os.Getuid()),
		syscall.EROFS:  "a file system that can be written to",
		syscall.ENOSPC: "no space left",
	} {
		if got := explain("/run/a.pid", err); !strings.Contains(got.Error(), says) || !errors.Is(got, err) {
			t.Errorf("%v, want %q", got, says)
		}
	}
}

// A directory that can't be written to any more, or isn't there any more, when
// the PID changes: the old content stays as it was.
func TestFailingWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	must(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "app.pid")
	f := acquire(t, path)
	for _, pid := range []int{0, -1} {
		if err := f.Write(pid); err == nil {
			t.Errorf("wrote %d", pid)
		}
	}
	must(t, f.Write(42))
	must(t, os.Remove(path))
	must(t, os.Mkdir(path, 0o700))
	if err := f.Write(43); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("a directory in its place: %v", err)
	}
	must(t, os.RemoveAll(dir))
	if err := f.Write(43); err == nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory gone: %v", err)
	}
}

func TestRelativePathStaysWhereItWas(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	f := acquire(t, "app.pid")
	t.Chdir(t.TempDir())
	must(t, f.Write(42))
	if pid, err := Read(filepath.Join(dir, "app.pid")); pid != 42 || err != nil {
		t.Error(pid, err)
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	must(t, syscall.Mkfifo(fifo, 0o600))
	for path, says := range map[string]string{fifo: "no regular file", dir: "is a directory"} {
		if pid, err := Read(path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %d, %v", path, pid, err)
		}
	}
}

func TestParse(t *testing.T) {
	for in, want := range map[string]int{"1": 1, "42\n": 42, " 7 \r\n": 7, "2147483647\n": 1<<31 - 1} {
		if pid, err := parse([]byte(in)); pid != want || err != nil {
			t.Errorf("%q: %d, %v", in, pid, err)
		}
	}
	for _, in := range []string{"", "\n", "0", "-1", "+1", "1 2", "0x1", "1e3", "2147483648", "1\x00", strings.Repeat(" ", 99) + "1"} {
		if pid, err := parse([]byte(in)); !errors.Is(err, ErrGarbage) {
			t.Errorf("%q: %d, %v", in, pid, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"1\n", "", "0", "-1", " 2 ", "99999999999999999999", "1\x002", "+3", "1_0"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		pid, err := parse(data)
		if err != nil {
			return
		}
		if again, err := parse(fmt.Appendln(nil, pid)); pid <= 0 || again != pid || err != nil {
			t.Errorf("%q: %d, then %d, %v", data, pid, again, err)
		}
	})
}
