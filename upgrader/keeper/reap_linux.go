package keeper

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proc"
)

// reap waits for the children that we didn't start: descendants of workers whose
// parents have ended come to us, as we are their subreaper, or PID 1. Those whose
// worker is dead have escaped from its end, and are killed.
func (h *host) reap() {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	for {
		select {
		case <-died:
		case <-h.sweep:
		}
		for h.reapOnce() {
		}
	}
}

// reapOnce reports whether it has waited for, or killed, somebody: their own
// children are ours then.
func (h *host) reapOnce() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := false
	children, _ := proc.Children(os.Getpid()) // zombies included
	for _, pid := range children {
		if h.leaders[pid] || h.vaults[pid] {
			continue
		}
		var status syscall.WaitStatus
		if n, _ := syscall.Wait4(pid, &status, syscall.WNOHANG, nil); n == pid {
			found = true
			continue
		}
		if h.escaped(pid) {
			syscall.Kill(pid, syscall.SIGKILL) // our child: nobody else can get that number
			for {
				if _, err := syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
					break
				}
			}
			found = true
		}
	}
	return found
}

// reapGroup returns when nobody is left of a killed group, and those who had
// escaped from it have been killed. It is done at once, not beside: who waits for
// the last end may be the keeper's own.
func (h *host) reapGroup(group int) {
	const patience = time.Second // a process in the kernel may die later
	for begun := time.Now(); ; time.Sleep(100 * time.Microsecond) {
		for h.reapOnce() {
		}
		// Children of one that dies only now aren't ours yet.
		if syscall.Kill(-group, 0) != nil || time.Since(begun) > patience {
			return
		}
	}
}

// escaped reports whether pid descends from a worker of ours that is dead.
func (h *host) escaped(pid int) bool {
	m := markerOf(pid)
	return strings.HasPrefix(m, markerKey+"="+h.id+".") && !h.marks[m]
}

// markerOf returns what tells whose worker a process descends from; "": nobody's.
func markerOf(pid int) string {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return ""
	}
	for e := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.HasPrefix(e, []byte(markerKey+"=")) {
			return string(e)
		}
	}
	return ""
}

// marked reports whether a process descends from a worker of some keeper.
func marked(pid int) bool { return markerOf(pid) != "" }

// markedBy reports whether a process descends from a worker of the keeper id.
func markedBy(pid int, id string) bool {
	return strings.HasPrefix(markerOf(pid), markerKey+"="+id+".")
}
