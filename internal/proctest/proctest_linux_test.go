package proctest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

func shell(script string, env ...string) *exec.Cmd {
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// TestTheLogIsWhole: nothing is missing from it that a process has written before
// it ended, however much it was, and whoever has been quicker to look.
func TestTheLogIsWhole(t *testing.T) {
	for range 20 {
		var l Log
		cmd := shell("yes 0123456789 | head -c 200000; echo; echo the last line >&2")
		l.Start(t, cmd)
		Await(t, "its end", Waited(cmd))
		if text := l.Text(); len(text) != 200001+len("the last line\n") || !strings.HasSuffix(text, "\nthe last line\n") {
			t.Fatalf("%d bytes", len(text))
		}
		l.Close()
		if n := l.Count("^0123456789$"); n != 200000/11 {
			t.Errorf("%d lines", n)
		}
	}
}

func TestLines(t *testing.T) {
	var l Log
	cmd := shell("echo one 1; echo two 2; read x; echo one 3; printf half")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.Start(t, cmd)
	if got := l.Next(t, `^one (\d)`); got != "1" {
		t.Error(got)
	}
	in.Close()
	if got := l.Next(t, `one (\d)`); got != "3" {
		t.Error(got)
	}
	l.Has(t, "half", 1)
	Await(t, "its end", Waited(cmd))
	// A second process goes on in the same log.
	l.Start(t, shell(": >&2; echo WARNING: DATA RACE"))
	l.Has(t, "RACE", 1)
	if !l.Raced() {
		t.Error("overlooked")
	}
	l.Close()
	l.Start(t, shell("echo again"))
	l.Has(t, "again", 1)
	if !strings.Contains(l.Text(), "one 1\n") {
		t.Errorf("what was before is gone: %q", l.Text())
	}
}

func TestKillTagged(t *testing.T) {
	var l Log
	tag := "PROCTEST=" + t.TempDir()
	cmd := shell("sleep 1000 & echo here", tag)
	l.Start(t, cmd)
	Await(t, "its end", Waited(cmd))
	l.Has(t, "here", 1)
	if n := len(Tagged(tag)); n != 1 {
		t.Errorf("%d processes", n)
	}
	KillTagged(tag)
	NoneLeft(t, tag)
	if pids := Tagged("PROCTEST="); pids != nil { // a part of an entry is none
		t.Error(pids)
	}
}

func TestNoneLeftWaits(t *testing.T) {
	var l Log
	tag := "PROCTEST=" + t.TempDir()
	cmd := shell("echo here; read x; exit 0", tag)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.Start(t, cmd)
	l.Has(t, "here", 1)
	waited := Waited(cmd)
	over := make(chan struct{})
	go func() { NoneLeft(t, tag); close(over) }()
	select {
	case <-over:
		t.Error("it is still there")
	case <-time.After(50 * time.Millisecond):
	}
	in.Close()
	Await(t, "none", over)
	Await(t, "the end", waited)
}

// TestWaitAdopts: a grandchild is the test's to wait for once its parent has
// ended, and not before.
func TestWaitAdopts(t *testing.T) {
	if err := Adopt(); err != nil {
		t.Fatal(err)
	}
	for _, orphan := range []bool{true, false} {
		var l Log
		cmd := shell("(exit 7) & echo pid $!; read x; wait $!; echo waited; read x")
		if orphan {
			cmd = shell("exec 3<&0; (read x <&3; exit 7) & echo pid $!")
		}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		l.Start(t, cmd)
		var pid int
		fmt.Sscan(l.Next(t, `pid (\d+)`), &pid)
		if orphan {
			cmd.Process.Wait()
			in.Close()
		} else {
			fmt.Fprintln(in)
		}
		status, ours := Wait(pid)
		if ours != orphan || ours && status.ExitStatus() != 7 {
			t.Errorf("orphan %v: %v, %v", orphan, status, ours)
		}
		in.Close()
		cmd.Wait()
		if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
			t.Errorf("it hasn't been waited for: %v", err)
		}
	}
}

func TestManager(t *testing.T) {
	var heard atomic.Int64
	m := NewManager(t, func(*sd.Received) { heard.Add(1) })
	_, addr, _ := strings.Cut(m.Environment(), "=")
	n, err := sd.NewNotifier(addr)
	if err != nil {
		t.Fatal(err)
	}
	n.Status("hello")
	n.Ready()
	n.Stopping()
	if err := n.Barrier(Context(t)); err != nil { // all have been heard
		t.Fatal(err)
	}
	got := m.Await(t, "READY=1", func(s Said) bool { return s.Has("READY") })
	if got.PID != os.Getpid() || heard.Load() != 4 {
		t.Errorf("%v, %d heard", got, heard.Load())
	}
	if all, rest := m.Said(), m.Rest(); len(all) != 3 || len(rest) != 1 || !rest[0].Has("STOPPING") {
		t.Errorf("%v, %v", all, rest)
	}
}

func TestFiles(t *testing.T) {
	dir := Dir(t)
	path := filepath.Join(dir, "file")
	Install(t, path, []byte("old"), 0o600)
	Install(t, path, []byte("new"), 0o600)
	Link(t, filepath.Join(dir, "link"), "nowhere")
	Link(t, filepath.Join(dir, "link"), path)
	if b, err := os.ReadFile(filepath.Join(dir, "link")); string(b) != "new" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestCheck(t *testing.T) {
	n := 0
	Check(t, func() error {
		if n++; n < 3 {
			return fmt.Errorf("only %d", n)
		}
		return nil
	})
	Poll(t, "four", func() bool { n++; return n > 3 })
	if n != 4 {
		t.Error(n)
	}
}
