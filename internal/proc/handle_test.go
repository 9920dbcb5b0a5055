//go:build linux

package proc

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"
)

func ended(t *testing.T, h *Handle) {
	t.Helper()
	select {
	case <-h.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("its end was not seen")
	}
	if !h.Ended() {
		t.Error("Done, but not Ended")
	}
}

func TestHandleSeesTheEnd(t *testing.T) {
	c := start(t, "wait", self(t))
	h, err := Open(c.Process.Pid)
	must(t, err)
	defer h.Close()
	select {
	case <-h.Done():
		t.Fatal("done while it lives")
	default:
	}
	if h.Ended() || h.PID() != c.Process.Pid {
		t.Fatal("ended while it lives")
	}
	must(t, h.Kill(0))
	must(t, h.Kill(syscall.SIGKILL))
	ended(t, h) // as a zombie: nobody has waited for it
	if !Zombie(c.Process.Pid) {
		t.Error("not a zombie")
	}
	c.Wait()
	if err := h.Kill(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to a process that is gone: %v", err)
	}
	if Zombie(c.Process.Pid) {
		t.Error("still a zombie")
	}
	if _, err := Open(c.Process.Pid); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("open a process that is gone: %v", err)
	}
}

func TestHandleOfAnEndedProcess(t *testing.T) {
	c := start(t, "wait", self(t))
	h, err := Open(c.Process.Pid)
	must(t, err)
	defer h.Close()
	c.end()
	ended(t, h) // Done is asked for the first time
	ended(t, h)
}

func TestClosedHandle(t *testing.T) {
	c := start(t, "wait", self(t))
	h, err := Open(c.Process.Pid)
	must(t, err)
	done := h.Done()
	must(t, h.Close())
	if err := h.Kill(0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Kill after Close: %v", err)
	}
	c.end()
	select {
	case <-done:
		t.Error("Done after Close")
	default:
	}
}

// Many handles must not cost a thread each.
func TestHandlesCostNoThreads(t *testing.T) {
	c := start(t, "wait", self(t))
	before := threads(t)
	const n = 200
	var all []*Handle
	for range n {
		h, err := Open(c.Process.Pid)
		must(t, err)
		defer h.Close()
		h.Done()
		all = append(all, h)
	}
	if now := threads(t); now-before > n/4 {
		t.Errorf("%d threads, %d before", now, before)
	}
	c.end()
	for _, h := range all {
		ended(t, h)
	}
}

func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	must(t, err)
	return len(tasks)
}
