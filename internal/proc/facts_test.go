//go:build linux

package proc

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestChildren(t *testing.T) {
	one, two := start(t, "wait", self(t)), start(t, "wait", self(t))
	children, err := Children(os.Getpid())
	must(t, err)
	if !slices.Contains(children, one.Process.Pid) || !slices.Contains(children, two.Process.Pid) || !slices.IsSorted(children) {
		t.Errorf("%v, want %d and %d in it", children, one.Process.Pid, two.Process.Pid)
	}
	if none, err := Children(one.Process.Pid); len(none) != 0 || err != nil {
		t.Errorf("%v, %v", none, err)
	}
	one.end()
	if children, _ := Children(os.Getpid()); slices.Contains(children, one.Process.Pid) {
		t.Errorf("%v has %d, which is gone", children, one.Process.Pid)
	}
}

func TestHasSocket(t *testing.T) {
	c := start(t, "listen", self(t))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	must(t, err)
	defer f.Close()
	fi, err := f.Stat()
	must(t, err)
	inode := fi.Sys().(*syscall.Stat_t).Ino
	for pid, want := range map[int]bool{os.Getpid(): true, c.Process.Pid: false} {
		if has, err := HasSocket(pid, inode); has != want || err != nil {
			t.Errorf("pid %d: %v, %v, want %v", pid, has, err, want)
		}
	}
	if has, err := HasSocket(c.Process.Pid, socketOf(t, c.Process.Pid)); !has || err != nil {
		t.Errorf("its own: %v, %v", has, err)
	}
	c.end()
	if _, err := HasSocket(c.Process.Pid, inode); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a process that is gone: %v", err)
	}
}

// socketOf returns the inode of a socket that the process has open.
func socketOf(t *testing.T, pid int) uint64 {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "fd", "*"))
	must(t, err)
	for _, p := range paths {
		if fi, err := os.Stat(p); err == nil && fi.Mode()&os.ModeSocket != 0 {
			return fi.Sys().(*syscall.Stat_t).Ino
		}
	}
	t.Fatal("no socket")
	return 0
}

func TestUsage(t *testing.T) {
	before := time.Now()
	busy, idle := start(t, "busy", self(t)), start(t, "wait", self(t))
	resident, err := Resident(busy.Process.Pid)
	must(t, err)
	share, err := Memory(busy.Process.Pid)
	must(t, err)
	if resident < 32<<20 || resident > 1<<30 || share >= resident || share < 32<<20 {
		t.Errorf("busy: %d, share %d", resident, share)
	}
	cpu, err := CPU(busy.Process.Pid)
	must(t, err)
	if cpu < 40*time.Millisecond || cpu > time.Since(before)*64 {
		t.Errorf("busy: %v", cpu)
	}
	lazy, err := Resident(idle.Process.Pid)
	must(t, err)
	if lazy == 0 || lazy >= resident {
		t.Errorf("idle: %d, busy: %d", lazy, resident)
	}
	started, err := StartTime(busy.Process.Pid)
	must(t, err)
	if slack := 50 * time.Millisecond; started.Before(before.Add(-slack)) || started.After(time.Now().Add(slack)) {
		t.Errorf("started %v, between %v and %v", started, before, time.Now())
	}
	busy.end()
	for _, err := range []error{
		second(Resident(busy.Process.Pid)), second(Memory(busy.Process.Pid)), second(CPU(busy.Process.Pid)), second(StartTime(busy.Process.Pid)),
		second(Executable(busy.Process.Pid)), second(Changed(busy.Process.Pid, "")),
	} {
		if !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("a process that is gone: %v", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestChanged(t *testing.T) {
	exe := tempExe(t, "app")
	link := filepath.Join(t.TempDir(), "current")
	must(t, os.Symlink(exe, link))
	c := start(t, "wait", link)
	check := func(when, path string, want bool) {
		t.Helper()
		if got, err := Changed(c.Process.Pid, path); got != want || err != nil {
			t.Errorf("%s: %v, %v, want %v", when, got, err, want)
		}
	}
	is, err := Executable(c.Process.Pid)
	if err != nil || is != exe {
		t.Fatalf("%s, %v, want %s", is, err, exe)
	}
	check("untouched", "", false)
	check("untouched, by its link", link, false)

	must(t, os.Remove(link))
	must(t, os.Symlink(self(t), link))
	check("link leads elsewhere", link, true)
	check("link leads elsewhere, by the file", "", false)

	copyOf(t, exe, exe)
	check("replaced", "", true)
	check("replaced, by its name", exe, true)
	must(t, os.Remove(exe))
	check("removed", exe, true)
	if is, err := Executable(c.Process.Pid); is != exe || err != nil {
		t.Errorf("removed: %s, %v", is, err)
	}
}

func TestParseStat(t *testing.T) {
	const rest = " S 7 1 1 0 -1 4194560 1 2 3 4 150 50 5 6 20 0 1 0 1234 1 1"
	for _, name := range []string{"app", "a b", "evil) R 1 (", "new\nline", ""} {
		s, err := parseStat([]byte("42 (" + name + ")" + rest))
		want := stat{comm: name, state: 'S', ppid: 7, cpu: 2 * time.Second, start: 12340 * time.Millisecond}
		if s != want || err != nil {
			t.Errorf("%q: %+v, %v, want %+v", name, s, err, want)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	for _, s := range []string{"", "1 (a) S 1", ")(", "1 (a) S x 1 1 0 -1 4194560 1 2 3 4 150 50 5 6 20 0 1 0 1234", "()" + strings.Repeat(" 1", 40)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { parseStat(data) })
}
