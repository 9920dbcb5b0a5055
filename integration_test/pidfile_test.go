//go:build linux

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// refusedToStart runs a demo which must not come up, and returns what it says.
func (b *bed) refusedToStart(pidfile string) string {
	b.t.Helper()
	out, err := b.command(demo(b.t), "--web", "127.0.0.1:0", "--api", "", "--pidfile", pidfile).CombinedOutput()
	if err == nil {
		b.t.Errorf("a demo with the PID file %s has come up", pidfile)
	}
	return string(out)
}

func TestSecondInstanceIsRefused(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.demo()
		for range 2 { // also beside a later generation
			said := b.refusedToStart(b.pidfile)
			pid := b.pidInFile()
			if !strings.Contains(said, fmt.Sprintf("pid %d", pid)) || !strings.Contains(said, "another PID file") {
				t.Errorf("it says %q: no pid, or no hint", said)
			}
			b.serves(pid)
			b.mustUpgrade()
		}
		b.stop()
		if out := b.refusedToStart("/proc/nothing/pid"); !strings.Contains(out, "create the directory") {
			t.Errorf("in a directory that is missing it says %q", out)
		}
	})
}

// What a service left that was killed is no obstacle, whosever the PID in it is.
func TestStalePIDFile(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		for _, stale := range []string{fmt.Sprintln(os.Getpid()), "1\n", "2147483647\n", "", "no number\n"} {
			write(t, b.pidfile, stale, 0o644)
			b := newBed(t, b.mode)
			write(t, b.pidfile, stale, 0o644)
			b.demo()
			b.serves(b.cmd.Process.Pid)
			b.stop()
		}
	})
}

func TestPIDFileThatCannotBeWritten(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		if said := b.refusedToStart("/sys/kernel/tablecloth.pid"); !strings.Contains(said, "/sys/kernel") {
			t.Errorf("it says %q", said)
		}
		if said := b.refusedToStart(b.dir); !strings.Contains(said, "directory") {
			t.Errorf("it says %q", said)
		}
	})
}

// A symlink where the PID file should be is replaced, not followed.
func TestSymlinkInPlaceOfThePIDFile(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		victim := b.path("victim")
		write(t, victim, "precious\n", 0o644)
		if err := os.Symlink(victim, b.pidfile); err != nil {
			t.Fatal(err)
		}
		b.demo()
		b.mustHeal()
		b.stop()
		if text, err := os.ReadFile(victim); string(text) != "precious\n" {
			t.Errorf("the file behind it has %q now (%v)", text, err)
		}
	})
}

// A PID file that names another process by then is not removed.
func TestPIDFileOfAnother(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.demo()
		pid := b.pidInFile()
		write(t, b.pidfile, "1\n", 0o644)
		syscall.Kill(pid, syscall.SIGTERM)
		b.ended(pid)
		if text, _ := os.ReadFile(b.pidfile); string(text) != "1\n" {
			t.Errorf("the file has %q now", text)
		}
	})
}

// As PID 1 an upgrade would end everything: refused, with the way out.
func TestPID1(t *testing.T) {
	t.Parallel()
	unshare := []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}
	testenv.Need(t, "PID namespaces", exec.Command(unshare[0], append(unshare[1:], "true")...).Run() == nil)
	b := newBed(t, alone)
	path, err := exec.LookPath(unshare[0])
	if err != nil {
		t.Fatal(err)
	}
	b.link(path)
	b.launch(append(append(unshare[1:], demo(t)), b.demoArgs()...)...)
	b.logged("serves on")
	// The namespace's first process dies with unshare; its PID out here isn't known.
	b.poll("the control socket", func() bool {
		c, err := control.Dial(b.control)
		if err != nil {
			return false
		}
		st, err := c.Status(t.Context())
		return err == nil && st.Services[0].State == control.Serving
	})
	if pid := b.pidInFile(); pid != 1 {
		t.Fatalf("the PID file names %d", pid)
	}
	code, _, complaint := b.cli("upgrade")
	if code != 5 || !strings.Contains(complaint, "PID 1") || !strings.Contains(complaint, "tablecloth run") {
		t.Errorf("exit status %d, %q; want 5, the reason and the hint", code, complaint)
	}
	if a := b.get(b.tcp(), "/"); a.pid != 1 || a.generation != 1 {
		t.Errorf("%+v", a)
	}
}
