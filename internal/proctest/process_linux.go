package proctest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proc"
)

// Adopt makes processes whose parent has ended children of the test, which has to
// wait for them then.
func Adopt() error {
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
}

// Kill sends a signal to one process. One that has no PID yet is none: 0 would mean
// the group of this process itself.
func Kill(pid int, sig syscall.Signal) error {
	if pid <= 0 {
		return os.ErrProcessDone
	}
	return syscall.Kill(pid, sig)
}

// NoDescriptorLeft lets this process open nothing more, until the end of the test or
// until it is restored.
func NoDescriptorLeft(t testing.TB) (restore func()) {
	t.Helper()
	free, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(free)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	restore = func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &old) }
	t.Cleanup(restore)
	return restore
}

// Waited waits for a command beside the test. The channel is closed once
// cmd.ProcessState tells how it ended.
func Waited(cmd *exec.Cmd) <-chan struct{} {
	c := make(chan struct{})
	go func() { cmd.Wait(); close(c) }()
	return c
}

// End tells a command to end, and fails the test if it doesn't, or if a process
// with its tag is left then.
func End(t testing.TB, cmd *exec.Cmd, waited <-chan struct{}, tag string) {
	t.Helper()
	cmd.Process.Signal(syscall.SIGTERM)
	late := time.NewTimer(Patience(t))
	defer late.Stop()
	select {
	case <-waited:
	case <-late.C:
		t.Errorf("%s doesn't end", cmd.Path)
		cmd.Process.Kill()
		<-waited
	}
	NoneLeft(t, tag)
}

// Wait waits for the end of a process that is, or was, a descendant. If it is the
// test's to be waited for (see Adopt) that is done, and ours says so; otherwise
// its parent has done so. What package os waits for is not for it.
func Wait(pid int) (status syscall.WaitStatus, ours bool) {
	h, err := proc.Open(pid)
	if err != nil {
		return 0, false
	}
	defer h.Close()
	<-h.Done()
	for {
		status, ours, exists := reap(h)
		if ours || !exists {
			return status, ours
		}
		time.Sleep(pace) // its parent waits for it, or ends: nobody tells which
	}
}

// reap waits for a process that has ended if it is the test's to be waited for.
// Otherwise it may still exist, as another's zombie.
func reap(h *proc.Handle) (status syscall.WaitStatus, ours, exists bool) {
	raw, err := h.SyscallConn()
	if err != nil {
		return 0, false, false
	}
	// Not by its PID alone, which is another's once its parent has waited.
	raw.Control(func(fd uintptr) {
		ours = unix.Waitid(unix.P_PIDFD, int(fd), nil, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil) == nil
		exists = unix.PidfdSendSignal(int(fd), 0, nil, 0) == nil
	})
	if ours { // and its PID its own until we have waited
		_, err := syscall.Wait4(h.PID(), &status, 0, nil)
		ours, exists = err == nil, false
	}
	return status, ours, exists
}

// Tagged returns the processes that have an entry, NAME=value, in the environment
// that they were started with. Those that have ended are not among them, waited
// for or not.
func Tagged(entry string) (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && tagged(pid, entry) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func tagged(pid int, entry string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	var env []byte
	for range 1000 {
		// In this order: what was read while execve(2) replaced the process's memory
		// is empty, though it is complete a moment later.
		began := inExec(dir)
		env, _ = os.ReadFile(filepath.Join(dir, "environ"))
		if len(env) > 0 || !began && !inExec(dir) {
			break
		}
		Pace(time.Millisecond)
	}
	if len(env) == 0 {
		env, _ = os.ReadFile(filepath.Join(dir, "environ"))
	}
	return bytes.Contains(append([]byte{0}, env...), []byte("\x00"+entry+"\x00"))
}

// inExec reports whether a process is in the middle of execve(2), where it has
// neither arguments nor an environment. Threads of the kernel and zombies, which
// haven't either, have no executable.
func inExec(dir string) bool {
	args, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil || len(args) > 0 {
		return false
	}
	_, err = os.Readlink(filepath.Join(dir, "exe"))
	return err == nil
}

// NoneLeft waits for the end of all tagged processes. Those that don't end by
// themselves fail the test, and are killed.
func NoneLeft(t testing.TB, entry string) {
	t.Helper()
	late := time.NewTimer(Patience(t))
	defer late.Stop()
	for pids := Tagged(entry); len(pids) > 0; pids = Tagged(entry) {
		if !ended(pids[0], entry, late.C) {
			t.Errorf("processes are left: %v", pids)
			KillTagged(entry)
			return
		}
	}
}

// ended waits for one process's end.
func ended(pid int, entry string, late <-chan time.Time) bool {
	h := open(pid, entry)
	if h == nil {
		return true
	}
	defer h.Close()
	select {
	case <-h.Done():
		return true
	case <-late:
		return false
	}
}

// open returns a handle; nil: there is no such process any more.
func open(pid int, entry string) *proc.Handle {
	h, err := proc.Open(pid)
	if err != nil {
		return nil
	}
	if !tagged(pid, entry) { // another has its PID
		h.Close()
		return nil
	}
	return h
}

// KillTagged kills all tagged processes, also those that appear meanwhile,
// returns when they have ended, and waits for those that are the test's to be
// waited for: none of them may be a command that package os waits for.
func KillTagged(entry string) {
	for pids := Tagged(entry); len(pids) > 0; pids = Tagged(entry) {
		var all []*proc.Handle
		for _, pid := range pids {
			if h := open(pid, entry); h != nil {
				h.Kill(syscall.SIGKILL)
				all = append(all, h)
			}
		}
		for _, h := range all {
			<-h.Done()
		}
		for _, h := range all { // now all are orphans
			reap(h)
			h.Close()
		}
	}
}
