//go:build linux

package sd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// manager returns a Receiver and a Notifier that speaks to it.
func manager(t *testing.T, address string) (*Receiver, *Notifier) {
	t.Helper()
	r, err := NewReceiver(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	r.SetDeadline(time.Now().Add(30 * time.Second))
	n, err := NewNotifier(r.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return r, n
}

func recv(t *testing.T, r *Receiver) *Received {
	t.Helper()
	m, err := r.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func lines(m *Received) string {
	var s []string
	for _, f := range m.Fields {
		s = append(s, f.Key+"="+f.Value)
	}
	return strings.Join(s, " ")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNotify(t *testing.T) {
	for name, address := range map[string]string{"abstract": "", "path": filepath.Join(t.TempDir(), "notify")} {
		t.Run(name, func(t *testing.T) {
			r, n := manager(t, address)
			must(t, n.Ready())
			must(t, n.Status("a\nb"))
			must(t, n.MainPID(7))
			must(t, n.Errno(syscall.EACCES))
			must(t, n.Watchdog())
			must(t, n.ExtendTimeout(time.Second))
			must(t, n.FDStoreRemove("web"))
			must(t, n.Stopping())
			for _, want := range []string{
				"READY=1", "STATUS=a b", "MAINPID=7", "ERRNO=13", "WATCHDOG=1",
				"EXTEND_TIMEOUT_USEC=1000000", "FDSTOREREMOVE=1 FDNAME=web", "STOPPING=1",
			} {
				m := recv(t, r)
				if lines(m) != want || m.PID != os.Getpid() || m.UID != os.Getuid() || m.GID != os.Getgid() || m.Files != nil {
					t.Errorf("got %+v, want %s from %d", m, want, os.Getpid())
				}
				m.Done()
			}
		})
	}
}

// Type=notify-reload takes a reload for begun only if the time lies between its
// signal and now, by the monotonic clock.
func TestReloadingHasTheTime(t *testing.T) {
	r, n := manager(t, "")
	before := monotonicUSec()
	must(t, n.Reloading())
	m := recv(t, r)
	text, _ := m.Get("MONOTONIC_USEC")
	usec, err := strconv.ParseInt(text, 10, 64)
	if err != nil || !m.Has("RELOADING") || usec < before || usec > monotonicUSec() || before == 0 {
		t.Errorf("%s, between %d and %d", lines(m), before, monotonicUSec())
	}
}

func TestNilNotifier(t *testing.T) {
	n, err := Environment{}.Notifier()
	if n != nil || err != nil {
		t.Fatal(n, err)
	}
	for _, err := range []error{
		n.Ready(), n.Reloading(), n.Stopping(), n.Status("x"), n.MainPID(1), n.Errno(1), n.Watchdog(), n.ExtendTimeout(1),
		n.FDStore(":", -1), n.FDStoreRemove(":"), n.Barrier(t.Context()), n.Send(Message{}), n.Close(),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if n.Address() != "" {
		t.Error(n.Address())
	}
}

func TestNotifyAddresses(t *testing.T) {
	for address, says := range map[string]string{
		"vsock:2:1234":                 "vsock is not supported",
		"vsock-stream:2:1":             "vsock is not supported",
		"relative/path":                "absolute path",
		"@":                            "absolute path",
		"tcp:127.0.0.1:1":              "absolute path",
		"/" + strings.Repeat("x", 200): "longer than",
		"@" + strings.Repeat("x", 200): "longer than",
	} {
		if n, err := NewNotifier(address); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, %v, want %q", address, n, err, says)
		}
	}
	n, err := NewNotifier(filepath.Join(t.TempDir(), "nobody"))
	must(t, err)
	if err := n.Ready(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nobody there: %v", err)
	}
	must(t, n.Close())
	must(t, n.Close())
	if err := n.Ready(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestSendIsBounded(t *testing.T) {
	r, err := NewReceiver("")
	must(t, err)
	defer r.Close()
	s, err := newSender(r.Address(), 20*time.Millisecond)
	must(t, err)
	defer s.close()
	for range 1 << 20 { // the queue's length is a sysctl
		if err = s.send([]byte("WATCHDOG=1"), nil); err != nil {
			break
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a manager that doesn't read: %v", err)
	}
}

func TestFDStore(t *testing.T) {
	r, n := manager(t, "")
	pr, pw, err := os.Pipe()
	must(t, err)
	defer pr.Close()
	must(t, n.FDStore(NameOf("tcp,:80"), int(pw.Fd())))
	pw.Close()
	m := recv(t, r)
	if lines(m) != "FDSTORE=1 FDNAME=tcp,%3A80 FDPOLL=0" || len(m.Files) != 1 {
		t.Fatalf("%+v", m)
	}
	flags, err := unix.FcntlInt(uintptr(m.Files[0]), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("not close-on-exec: %v", err)
	}
	held := os.NewFile(uintptr(m.TakeFiles()[0]), "held")
	m.Done() // must not close what was taken
	if _, err := held.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	held.Close()
	if _, err := pr.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	eof(t, pr)
}

// eof fails unless all write ends of the pipe are closed.
func eof(t *testing.T, r *os.File) {
	t.Helper()
	r.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := r.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a descriptor is still open: %d, %v", n, err)
	}
}

func TestBarrier(t *testing.T) {
	r, n := manager(t, "")
	must(t, n.Ready())
	var processed atomic.Bool
	result := make(chan error, 1)
	go func() {
		err := n.Barrier(context.Background())
		if err == nil && !processed.Load() {
			err = errors.New("passed before the messages were processed")
		}
		result <- err
	}()
	if m := recv(t, r); !m.Has("READY") {
		t.Fatalf("%+v", m)
	}
	m := recv(t, r)
	if !m.IsBarrier() {
		t.Fatalf("%+v", m)
	}
	select {
	case err := <-result:
		t.Fatalf("passed before Done: %v", err)
	case <-time.After(20 * time.Millisecond): // can't make the test fail
	}
	processed.Store(true)
	m.Done()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestBarrierIsBounded(t *testing.T) {
	r, n := manager(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- n.Barrier(ctx) }()
	m := recv(t, r)
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	m.Done()
	if err := n.Barrier(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is done: %v", err)
	}
}

func TestBarrierEndsWithTheManager(t *testing.T) {
	r, n := manager(t, "")
	result := make(chan error, 1)
	go func() { result <- n.Barrier(context.Background()) }()
	recv(t, r).Done()
	must(t, <-result)
	go func() { result <- n.Barrier(context.Background()) }()
	waitQueued(t, r)
	r.Close() // with the message in its queue
	must(t, <-result)
}

// waitQueued waits until something can be received.
func waitQueued(t *testing.T, r *Receiver) {
	t.Helper()
	raw, err := r.conn.SyscallConn()
	must(t, err)
	must(t, raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n == 1
	}))
}

func TestNotifyFromAChild(t *testing.T) {
	r, _ := manager(t, "")
	cmd := self(t, "notify")
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+r.Address())
	must(t, cmd.Start())
	m := recv(t, r)
	if want := fmt.Sprintf("READY=1 MAINPID=%d", cmd.Process.Pid); lines(m) != want || m.PID != cmd.Process.Pid {
		t.Errorf("%+v, want %s", m, want)
	}
	m.Done()
	recv(t, r).Done() // the child waits for it
	must(t, cmd.Wait())
}

func TestNotifyFromManyGoroutines(t *testing.T) {
	r, n := manager(t, "")
	const each = 50
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range each {
				if err := n.MainPID(i + 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	count := map[string]int{}
	for range 8 * each {
		m := recv(t, r)
		count[lines(m)]++
		m.Done()
	}
	wg.Wait()
	for i := range 8 {
		if got := count[fmt.Sprintf("MAINPID=%d", i+1)]; got != each {
			t.Errorf("%d messages of goroutine %d", got, i)
		}
	}
}

func TestInteropSystemdNotify(t *testing.T) {
	tool, err := exec.LookPath("systemd-notify")
	testenv.Need(t, "systemd-notify", err == nil)
	r, _ := manager(t, filepath.Join(t.TempDir(), "notify"))
	cmd := exec.CommandContext(t.Context(), tool, "--ready", "--status=all is well", "X_OWN=1")
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+r.Address())
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	m := recv(t, r)
	if s, _ := m.Get("STATUS"); !m.Has("READY") || s != "all is well" || !m.Has("X_OWN") {
		t.Errorf("%+v", m)
	}
	m.Done()
	if m = recv(t, r); !m.IsBarrier() {
		t.Errorf("%+v, want a barrier", m)
	}
	m.Done()
	must(t, cmd.Wait())
}
