//go:build linux

package handover

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// A user without privileges may have only so many descriptors on their way
// (ETOOMANYREFS). The sender waits for room, in vain for a while only: then its
// connections are their owner's again.
func TestTooManyInFlight(t *testing.T) {
	if os.Getenv("HANDOVER_TEST_UNPRIVILEGED") == "" {
		runUnprivileged(t, "TestTooManyInFlight")
		return
	}
	t.Run("for a while", func(t *testing.T) {
		others := crowd(t)
		r := start(t, "receives")
		if err := r.sender.Takes(r.ctx(), "web"); err != nil {
			t.Fatal(err)
		}
		r.put(10)
		proctest.Poll(t, "an attempt", func() bool {
			r.sender.mu.Lock()
			defer r.sender.mu.Unlock()
			return r.sender.most < maxFiles
		})
		others.Close()
		if moved, back := r.outcome(); moved != 10 || back != 0 {
			t.Fatal(moved, back)
		}
	})
	t.Run("for good", func(t *testing.T) {
		crowd(t)
		r := start(t, "receives")
		if err := r.sender.Takes(r.ctx(), "web"); err != nil {
			t.Fatal(err)
		}
		r.put(10)
		if moved, back := r.outcome(); moved != 0 || back != 10 {
			t.Fatal(moved, back)
		}
		if err := r.sender.Err(); !errors.Is(err, unix.ETOOMANYREFS) {
			t.Fatal(err)
		}
	})
}

// crowd lets more descriptors be on their way than this process may have, until
// what it returns is closed.
func crowd(t *testing.T) io.Closer {
	t.Helper()
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	few := lim
	few.Cur = 200
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &lim) })
	a, b := linkPair(t)
	t.Cleanup(func() { a.Close(); b.Close() })
	same := make([]int, 253)
	for i := range same {
		same[i] = int(os.Stdin.Fd())
	}
	// Other processes of this user may have some on their way just now.
	proctest.Check(t, func() error { return a.Send([]byte("crowd"), same...) })
	return b
}

// runUnprivileged runs a test of this package in a process that has no capability
// against the limit and, if possible, a user of its own, as the kernel counts for
// each user.
func runUnprivileged(t *testing.T, name string) {
	t.Helper()
	out, err := unprivileged(name).CombinedOutput()
	if os.Getuid() == 0 && errors.Is(err, unix.EPERM) { // root in name only
		cmd := unprivileged(name)
		cmd.SysProcAttr = nil
		out, err = cmd.CombinedOutput()
	}
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

func unprivileged(name string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+name+"$", "-test.v")
	cmd.Env = append(os.Environ(), "HANDOVER_TEST_UNPRIVILEGED=1")
	if os.Getuid() == 0 {
		const first, some = 20000, 40000 // below the last of a container's users
		id := uint32(first + os.Getpid()%some)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	}
	return cmd
}
