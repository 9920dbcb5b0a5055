//go:build linux

package handover

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
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
	if err := a.Send([]byte("crowd"), same...); err != nil {
		t.Fatal(err)
	}
	return b
}

// runUnprivileged runs a test of this package in a process that has no capability
// against the limit.
func runUnprivileged(t *testing.T, name string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+name+"$", "-test.v")
	cmd.Env = append(os.Environ(), "HANDOVER_TEST_UNPRIVILEGED=1")
	type result struct {
		out []byte
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlock it: the thread isn't as the others any more
		for _, c := range []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_RESOURCE} {
			unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0) // fails if they aren't there anyway
		}
		out, err := cmd.CombinedOutput()
		done <- result{out, err}
	}()
	r := <-done
	t.Logf("%s", r.out)
	if r.err != nil {
		t.Fatal(r.err)
	}
}
