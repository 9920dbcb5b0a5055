//go:build linux

package integration

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// cli runs the tablecloth command against the service.
func (b *bed) cli(args ...string) (code int, out, complaint string) {
	b.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(tablecloth(b.t), append(args, "--control", b.control)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// mustFail asks for an upgrade by the command, which has to fail and to say why,
// and checks that the old generation serves on as if nothing had been.
func (b *bed) mustFail(status int, why ...string) {
	b.t.Helper()
	serving := b.pidInFile()
	code, out, complaint := b.cli("upgrade")
	if code != status || out != "" {
		b.t.Errorf("tablecloth upgrade: exit status %d, says %q; want %d", code, out, status)
	}
	for _, w := range why {
		if !strings.Contains(complaint, w) {
			b.t.Errorf("tablecloth upgrade complains %q, want %q in it", complaint, w)
		}
	}
	b.t.Logf("%s", complaint)
	b.serves(serving)
	if n := len(b.processes()); n != 1 {
		b.t.Errorf("%d processes", n)
	}
	b.noZombies()
}

// mustHeal is after mustFail: the next good upgrade works.
func (b *bed) mustHeal() {
	b.t.Helper()
	o := b.mustUpgrade()
	b.serves(o.PID)
}

// A bad binary never takes over, and whoever asked for it learns why.
func TestBadBinaries(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		text, other, mute := b.path("text"), b.path("other"), b.path("mute")
		write(t, text, "404: release not found\n", 0o755)
		write(t, mute, "#!/bin/sh\nexit 0\n", 0o644)
		write(t, other, otherArchitecture(), 0o755)
		b.demo()
		l := startLoad(t, "tcp", b.tcp(), strict.Group{Kind: strict.Post, N: 4}, strict.Group{Kind: strict.Connect, Rate: 30})
		n := 1
		for _, bad := range []struct{ what, target, why string }{
			{"missing", b.path("nothing"), "no such file"},
			{"not executable", mute, "permission denied"},
			{"a text", text, "exec format error"},
			{"of another architecture", other, "exec format error"},
			{"a directory", b.dir, "is a directory"},
			{"one that ends", "/bin/true", "exit status 0"},
			{"one that fails", "/bin/false", "exit status 1"},
		} {
			b.link(bad.target)
			b.mustFail(1, "upgrade failed", bad.why)
			if t.Failed() {
				t.Fatalf("that was: a binary that is %s", bad.what)
			}
			b.link(demo(t))
			b.mustHeal()
			n++
			l.sees(n)
		}
		wantUnbroken(t, l.stop(), n)
		b.stop()
	})
}

// otherArchitecture is the head of an ELF file for a machine which this is not.
func otherArchitecture() string {
	h := make([]byte, 120)
	copy(h, "\x7fELF\x02\x01\x01")
	h[16], h[18], h[20] = 2, 183, 1 // executable, arm64, version
	if runtime.GOARCH == "arm64" {
		h[18] = 62 // amd64
	}
	return string(h)
}

// A PID file that can't be written at the moment of the upgrade.
func TestPIDFileNotWritableAtUpgrade(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		run := b.path("run")
		if err := os.Mkdir(run, 0o755); err != nil {
			t.Fatal(err)
		}
		b.pidfile = filepath.Join(run, "pid")
		b.demo()
		old := b.pidInFile()
		if err := os.Rename(run, b.path("away")); err != nil {
			t.Fatal(err)
		}
		code, _, complaint := b.cli("upgrade")
		if code != 1 || !strings.Contains(complaint, b.pidfile) {
			t.Errorf("exit status %d, %q; want 1 and the file's name", code, complaint)
		}
		if err := os.Rename(b.path("away"), run); err != nil {
			t.Fatal(err)
		}
		b.serves(old)
		b.mustHeal()
		b.stop()
	})
}

// A new listen address that somebody else has.
func TestNewAddressIsTaken(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.serve(settings{})
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		b.set(settings{API: []string{taken.Addr().String()}})
		b.mustFail(1, "address already in use", taken.Addr().String())
		taken.Close()
		b.mustHeal()
	})
}

// The directory in which the service was started is gone: refused, with a hint.
func TestStartDirectoryIsGone(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		home := b.path("home")
		if err := os.Mkdir(home, 0o755); err != nil {
			t.Fatal(err)
		}
		b.before = func(c *exec.Cmd) { c.Dir = home }
		b.demo()
		if err := os.Remove(home); err != nil {
			t.Fatal(err)
		}
		b.mustFail(5, home, "hint: ")
		if err := os.Mkdir(home, 0o755); err != nil {
			t.Fatal(err)
		}
		b.mustHeal()
	})
}

// Those who ask together get the same answer, and it tells what happened.
func TestEveryRequesterLearnsOfAFailure(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.demo()
		b.link("/bin/false")
		outcomes := make(chan control.Outcome, 5)
		c := b.client()
		for range cap(outcomes) {
			go func() {
				o, err := c.Upgrade(t.Context(), control.UpgradeRequest{})
				if err != nil {
					o.Reason = err.Error()
				}
				outcomes <- o
			}()
		}
		for range cap(outcomes) {
			o := <-outcomes
			if o.Result != control.Failed || o.ExitCode == nil || *o.ExitCode != 1 || o.PID != b.pidInFile() {
				t.Errorf("%+v", o)
			}
		}
		if last := b.status().LastOutcome; last == nil || last.Result != control.Failed {
			t.Errorf("the status says %+v", last)
		}
	})
}
