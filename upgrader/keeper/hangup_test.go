//go:build linux

package keeper

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// pty opens a pseudo terminal (pty(7)).
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	testenv.Need(t, "pseudo terminals", err == nil)
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	testenv.Need(t, "pseudo terminals", err == nil)
	return master, slave
}

// TestTheTerminalHangsUp: SIGHUP is an upgrade while there is the terminal that
// the keeper was started from, and a stop when that is what has gone.
func TestTheTerminalHangsUp(t *testing.T) {
	t.Parallel()
	master, slave := pty(t)
	b := keep(t, local(t), func(b *bed) {
		b.before = func(cmd *exec.Cmd) {
			cmd.Stdin = slave
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		}
	})
	slave.Close()
	b.serving()
	last := b.lastSeq()
	b.cmd.Process.Signal(syscall.SIGHUP)
	b.await(control.EventUpgraded, last)
	master.Close()
	proctest.Await(t, "the keeper's end", b.waited)
	if strings.Count(b.log(), "level=info msg=stop") != 1 {
		t.Error("it was not stopped")
	}
}

// TestNohup: a SIGHUP that was ignored when the keeper was started stays so.
func TestNohup(t *testing.T) {
	t.Parallel()
	b := keep(t, local(t), func(b *bed) {
		b.before = func(cmd *exec.Cmd) {
			cmd.Args = append([]string{"/bin/sh", "-c", `trap "" HUP; exec "$0" "$@"`}, cmd.Args...)
			cmd.Path = "/bin/sh"
		}
	})
	b.serving()
	b.cmd.Process.Signal(syscall.SIGHUP)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready || o.Generation != 2 {
		t.Errorf("%+v", o) // generation 3 if the signal had been one
	}
}

// TestSIGHUPToAWorker: it asks its keeper.
func TestSIGHUPToAWorker(t *testing.T) {
	t.Parallel()
	b := keep(t, webs(t, 2))
	b.serving()
	was := serves(b.settles("test", 2))
	last := b.lastSeq()
	proctest.Kill(was[1], syscall.SIGHUP)
	if e := b.await(control.EventUpgraded, last); e.Outcome.Result != control.Ready || e.Outcome.Trigger != "SIGHUP" {
		t.Errorf("%+v", e.Outcome)
	}
	now := serves(b.settles("test", 2))
	if now[0] == was[0] || now[1] == was[1] {
		t.Errorf("they were %v, and are %v", was, now)
	}
}

// withoutRights becomes a keeper that may not bind low ports, whoever starts it.
func withoutRights(args []string) {
	runtime.LockOSThread()
	unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_NET_BIND_SERVICE, 0, 0, 0)
	path, _ := os.Executable()
	panic(syscall.Exec(path, append([]string{path, "as-keeper"}, args...), os.Environ()))
}

// TestALowPortWithoutRights: what is missing is said.
func TestALowPortWithoutRights(t *testing.T) {
	t.Parallel()
	first, _ := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	testenv.Need(t, "ports that not everybody may bind", string(bytes.TrimSpace(first)) == "1024")
	s := local(t)
	s.Listen = []string{"127.0.0.1:81"}
	b := keep(t, s, func(b *bed) {
		b.conf.PIDFile = filepath.Join(b.dir, "pid")
		b.before = func(cmd *exec.Cmd) { cmd.Args[1] = "without-rights" }
	})
	proctest.Await(t, "the keeper's end", b.waited)
	if code := b.cmd.ProcessState.ExitCode(); code != 125 || !strings.Contains(b.log(), "ports below 1024") {
		t.Errorf("exit status %d: %s", code, b.log())
	}
	if _, err := os.Stat(b.conf.PIDFile); err == nil {
		t.Error("it has left its PID file")
	}
}
