//go:build linux

package keeper

import (
	"fmt"
	"io"
	"net"
	"os"
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

func init() { roles["ack"] = ack }

// ack tells einhorn that its parent is ready.
func ack([]string) {
	c, err := net.Dial("unix", os.Getenv("EINHORN_SOCK_PATH"))
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(c, "{\"command\": \"worker:ack\", \"pid\": %d}\n", os.Getppid())
}

// ackedByHelper is a program that has another process ack for it when it may, and
// says when that has ended.
func ackedByHelper(t *testing.T) (s Service, may, done string) {
	dir := t.TempDir()
	may, done = filepath.Join(dir, "may"), filepath.Join(dir, "done")
	script := fmt.Sprintf(`until [ -e %s ]; do sleep 0.01; done; "$0" ack; echo >%s; exec sleep 1000`, may, done)
	return Service{Command: []string{"/bin/sh", "-c", script, self(t)}, Ready: "notify", MaxDeaths: -1}, may, done
}

// TestAnAckOfAHelperThatHasEnded counts: its parent has waited for it before the
// keeper looks who it was.
func TestAnAckOfAHelperThatHasEnded(t *testing.T) {
	t.Parallel()
	s, may, done := ackedByHelper(t)
	b := keep(t, s)
	b.await(control.EventStart, 0)
	b.cmd.Process.Signal(syscall.SIGSTOP)
	proctest.Install(t, may, nil, 0o644)
	proctest.Read(t, done)
	b.cmd.Process.Signal(syscall.SIGCONT)
	b.await(control.EventReady, 0)
	if g := b.status().Generations[0]; g.ReadyBy != "einhorn" {
		t.Errorf("%+v", g)
	}
}

// TestAnAckOfAStranger doesn't: another user can't speak for a worker.
func TestAnAckOfAStranger(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "root, to become another user", os.Getuid() == 0)
	s, may, _ := ackedByHelper(t)
	b := keep(t, s)
	pid := b.await(control.EventStart, 0).PID
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, path, _ := strings.Cut(string(env), "\x00EINHORN_SOCK_PATH=")
	path, _, _ = strings.Cut(path, "\x00")
	if err := ackAs(path, pid, 65534); err != nil {
		t.Fatal(err)
	}
	if g := b.status().Generations[0]; g.State != control.Starting {
		t.Errorf("a stranger made it %s", g.State)
	}
	proctest.Install(t, may, nil, 0o644)
	b.await(control.EventReady, 0)
}

// ackAs acks for a process as another user, and returns when the keeper has nothing
// more to do with it.
func ackAs(path string, pid, uid int) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its user
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			done <- errno
			return
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		fmt.Fprintf(c, "{\"command\": \"worker:ack\", \"pid\": %d}\n", pid)
		_, err = io.ReadAll(c)
		done <- err
	}()
	return <-done
}
