//go:build linux

package sd

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// raw sends a datagram that no Message makes.
func raw(t *testing.T, to *Receiver, data string, files ...int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	var oob []byte
	if len(files) > 0 {
		oob = unix.UnixRights(files...)
	}
	must(t, unix.Sendmsg(fd, []byte(data), oob, &unix.SockaddrUnix{Name: to.Address()}, 0))
}

func TestReceiverDropsGarbage(t *testing.T) {
	r, n := manager(t, "")
	pr, pw, err := os.Pipe()
	must(t, err)
	defer pr.Close()
	fd := int(pw.Fd())
	raw(t, r, "READY=1\x00MAINPID=1", fd)
	raw(t, r, strings.Repeat("x", MaxMessage+1), fd, fd)
	raw(t, r, strings.Repeat("READY=1\n", 10000), fd)
	must(t, n.Ready())
	m := recv(t, r)
	if lines(m) != "READY=1" || r.Dropped() != 3 {
		t.Errorf("%+v, %d dropped", m, r.Dropped())
	}
	pw.Close()
	eof(t, pr)
}

func TestReceiverTakesOddMessages(t *testing.T) {
	r, _ := manager(t, "")
	for data, want := range map[string]string{"": "", "nonsense": "", "\n\n": "", "READY=1\x00": "READY=1", "A=\xff": "A=\xff"} {
		raw(t, r, data)
		m := recv(t, r)
		if lines(m) != want || m.PID != os.Getpid() {
			t.Errorf("%q: %+v", data, m)
		}
		m.Done()
	}
}

func TestReceiverTakesManyFiles(t *testing.T) {
	r, n := manager(t, "")
	pr, pw, err := os.Pipe()
	must(t, err)
	defer pr.Close()
	m := Message{}.With("FDSTORE", "1")
	for range MaxFiles {
		m = m.WithFile(int(pw.Fd()))
	}
	must(t, n.Send(m))
	pw.Close()
	got := recv(t, r)
	if len(got.Files) != MaxFiles || got.Lost {
		t.Errorf("%d files, lost %v", len(got.Files), got.Lost)
	}
	got.Done()
	eof(t, pr)
}

func TestReceiverWithoutRoom(t *testing.T) { must(t, self(t, "lost").Run()) }

func TestReceiverPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	r, err := NewReceiver(path)
	must(t, err)
	if _, err := NewReceiver(path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second one: %v", err)
	}
	must(t, r.Close())
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
	if _, err := r.Recv(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}

	r, err = NewReceiver(path)
	must(t, err)
	must(t, os.Remove(path))
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, r.Close())
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("removed what was another's: %v", err)
	}
}

func TestCloseEndsRecv(t *testing.T) {
	r, _ := manager(t, "")
	result := make(chan error, 1)
	go func() { _, err := r.Recv(); result <- err }()
	must(t, r.Close())
	if err := <-result; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
