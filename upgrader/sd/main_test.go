//go:build linux

package sd

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the processes that the tests start.
func TestMain(m *testing.M) {
	roles := map[string]func() error{"listen": listenRole, "notify": notifyRole, "lost": lostRole}
	if role := os.Getenv("SD_TEST_ROLE"); role != "" {
		if err := roles[role](); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// report is what a process that was given sockets saw.
type report struct {
	Error     string
	Names     []string
	FDs       []int
	CloseExec []bool
	Nonblock  []bool
	Left      []string // variables that its children would see
}

func listenRole() error {
	var r report
	sockets, err := Take().Sockets()
	if err != nil {
		r.Error = err.Error()
	}
	for _, s := range sockets {
		r.Names = append(r.Names, s.Name)
		r.FDs = append(r.FDs, s.FD)
	}
	for fd := FirstFD; fd < FirstFD+2; fd++ {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		r.CloseExec = append(r.CloseExec, err == nil && flags&unix.FD_CLOEXEC != 0)
		status, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		r.Nonblock = append(r.Nonblock, status&unix.O_NONBLOCK != 0)
	}
	for _, key := range variables {
		if _, ok := os.LookupEnv(key); ok {
			r.Left = append(r.Left, key)
		}
	}
	if again, err := Listen(); len(again) > 0 || err != nil {
		return fmt.Errorf("a second look found %v, %v", again, err)
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func notifyRole() error {
	n, err := Take().Notifier()
	if err != nil {
		return err
	}
	if err := n.Send(Message{}.Ready().MainPID(os.Getpid())); err != nil {
		return err
	}
	return n.Barrier(context.Background())
}

// lostRole sends itself more descriptors than it has room for.
func lostRole() error {
	r, err := NewReceiver("")
	if err != nil {
		return err
	}
	n, err := NewNotifier(r.Address())
	if err != nil {
		return err
	}
	before, err := openFDs()
	if err != nil {
		return err
	}
	m := Message{}.With("FDSTORE", "1")
	for range 20 {
		m = m.WithFile(1)
	}
	if err := n.Send(m); err != nil {
		return err
	}
	limit := unix.Rlimit{Cur: uint64(before) + 5, Max: uint64(before) + 5}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	got, err := r.Recv()
	if err != nil {
		return err
	}
	after, err := openFDs()
	if err != nil {
		return err
	}
	if !got.Lost || len(got.Files) > 0 || !got.Has("FDSTORE") || after != before {
		return fmt.Errorf("got %+v, %d descriptors open, %d before", got, after, before)
	}
	return nil
}

// openFDs counts below a number that no test reaches, without opening anything.
func openFDs() (int, error) {
	n := 0
	for fd := range 1000 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			n++
		}
	}
	return n, nil
}

// self returns a command that runs this test binary in a role.
func self(t *testing.T, role string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), "SD_TEST_ROLE="+role, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

var variables = []string{
	"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
	"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID",
}
