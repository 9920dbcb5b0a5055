//go:build linux

package keeper

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// TestHardToEnd: programs that don't want to end are gone after the kill timeout,
// and nothing of them is left, which b.end sees to.
func TestHardToEnd(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"ignores", "stopped", "closes-stderr", "floods"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := keep(t, Service{Command: role(t, "deaf", what), KillTimeout: 100 * time.Millisecond, StopTimeout: 100 * time.Millisecond})
			first := b.await(control.EventReady, 0)
			if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
				t.Fatalf("%+v", o)
			}
			if e := b.await(control.EventKill, first.Seq); e.PID != first.PID {
				t.Errorf("killed %d, not %d", e.PID, first.PID)
			}
			b.await(control.EventGone, first.Seq)
			start := time.Now()
			b.end()
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("the stop took %v", took)
			}
		})
	}
}

func TestDescendantsThatHoldThePort(t *testing.T) {
	t.Parallel()
	b := keep(t, local(t, "children"))
	b.serving()
	proctest.Poll(t, "the beginning of its children", func() bool { return len(b.processes()) >= 5 })
	pid := b.worker()
	proctest.Kill(pid, syscall.SIGKILL)
	awaitAnswer(t, b.addr, fmt.Sprint(pid))
	b.end()
	if !closed(b.addr) {
		t.Error("somebody still listens")
	}
}

// TestTheExitStatus is the program's.
func TestTheExitStatus(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		what   string
		s      Service
		code   int
		signal syscall.Signal
	}{
		{"no restart", Service{Command: role(t, "exit", "9"), Restart: RestartNever}, 9, 0},
		{"on failure", Service{Command: role(t, "exit", "0"), Restart: RestartOnFailure}, 0, 0},
		{"give up", Service{Command: role(t, "exit", "8"), MaxDeaths: 1, GiveUp: GiveUpExit}, 8, 0},
		{"not there", Service{Command: []string{"/no/such/program"}}, 127, 0},
		{"not executable", Service{Command: []string{"/etc/passwd"}}, 126, 0},
		{"killed", Service{Command: []string{"/bin/sh", "-c", "kill -KILL $$"}, Restart: RestartNever}, -1, syscall.SIGKILL},
		{"aborted", Service{Command: []string{"/bin/sh", "-c", "kill -ABRT $$"}, Restart: RestartNever, Limits: []string{"core=0"}}, 134, 0},
	} {
		t.Run(x.what, func(t *testing.T) {
			b := keep(t, x.s)
			<-b.waited
			ws := b.cmd.ProcessState.Sys().(syscall.WaitStatus)
			if b.cmd.ProcessState.ExitCode() != x.code || x.signal != 0 && ws.Signal() != x.signal {
				t.Errorf("%v", b.cmd.ProcessState)
			}
		})
	}
}

// TestPID1 runs a keeper as PID 1: orphans are reaped, SIGTERM ends all.
func TestPID1(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "root, to make a PID namespace", os.Getuid() == 0)
	unshare, err := exec.LookPath("unshare")
	testenv.Need(t, "unshare", err == nil)
	testenv.Need(t, "PID namespaces", exec.Command(unshare, "--pid", "--fork", "--mount-proc", "true").Run() == nil)
	n := soak(200, 1000)
	file := filepath.Join(t.TempDir(), "count")
	script := fmt.Sprintf(`i=0; while [ $i -lt %d ]; do (true &); i=$((i+1)); done
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	left=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c ' Z '); [ "$left" = 0 ] && break; sleep 0.1; done
echo "$left" > %s.tmp; mv %[2]s.tmp %[2]s; exec sleep 1000`, n, file)
	cmd := exec.Command(unshare, "--pid", "--fork", "--kill-child", "--mount-proc", self(t), "as-keeper",
		fmt.Sprintf(`{"Control":"none","Services":[{"Command":["/bin/sh","-c",%q],"Ready":"delay=0s"}]}`, script))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if left := strings.TrimSpace(proctest.Read(t, file)); left != "0" {
		t.Errorf("%s of %d orphans are zombies", left, n)
	}
	pid1 := 0
	for _, pid := range family(cmd.Process.Pid) {
		if pid != cmd.Process.Pid && pid1 == 0 {
			pid1 = pid
		}
	}
	proctest.Kill(pid1, syscall.SIGTERM)
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 143 { // sleep ended by the SIGTERM that was passed on
		t.Errorf("%v", err)
	}
}

// TestTheKeeperIsKilled: its worker logs while it drains, and lives through it;
// the next keeper binds as soon as it may, and passes on what was in the pipe.
func TestTheKeeperIsKilled(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{
		"127.0.0.77:0", // not where this machine's clients get their ports
		"unix:" + filepath.Join(t.TempDir(), "sock"),
	} {
		name, _, _ := strings.Cut(listen, ":")
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			end, may := filepath.Join(dir, "end"), filepath.Join(dir, "may")
			b := keep(t, Service{Command: role(t, "chatter", end, may), Listen: []string{listen}})
			b.await(control.EventReady, 0)
			b.conf.Services[0].Listen[0] = strings.TrimPrefix(b.status().Listen[0], "tcp:")
			b.conf.Services[0].Command = role(t, "serve")
			b.cmd.Process.Kill()
			<-b.waited
			started := make(chan struct{})
			go func() {
				defer close(started)
				b.start()
			}()
			b.logged("waiting for its end", 1)
			if err := os.WriteFile(may, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			<-started
			b.await(control.EventReady, 0)
			if data, err := os.ReadFile(end); err != nil || string(data) != "end" {
				t.Errorf("the worker didn't come to its end: %q, %v", data, err)
			}
			b.logged("the last line", 1)
		})
	}
}
