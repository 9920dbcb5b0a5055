//go:build unix

package link

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pairs returns both kinds of connection: what the platform uses, and the
// framed stream of those without SOCK_SEQPACKET.
func pairs(t *testing.T) map[string][2]*Conn {
	t.Helper()
	a, f, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(f.Fd()))
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	unix.SetNonblock(fd, true)
	b, err := New(fd)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	s0, err0 := New(fds[0])
	s1, err1 := New(fds[1])
	if err := errors.Join(err0, err1); err != nil {
		t.Fatal(err)
	}
	all := map[string][2]*Conn{"native": {a, b}, "stream": {s0, s1}}
	t.Cleanup(func() {
		for _, p := range all {
			p[0].Close()
			p[1].Close()
		}
	})
	return all
}

func TestMessagesKeepTheirBoundariesAndFiles(t *testing.T) {
	for name, p := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			big := []byte(strings.Repeat("x", MaxData))
			go func() {
				p[0].Send([]byte("a"))
				p[0].Send([]byte("b"), int(w.Fd()))
				w.Close()
				p[0].Send(big)
				p[0].Close()
			}()
			for _, want := range [][]byte{[]byte("a"), []byte("b"), big} {
				m, err := p[1].Recv()
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(m.Data, want) {
					t.Fatalf("got %d bytes, want %d", len(m.Data), len(want))
				}
				if string(want) == "b" {
					f := os.NewFile(uintptr(m.Files[0]), "w")
					f.WriteString("through")
					f.Close()
				}
				if runtime.GOOS == "linux" && m.PID != os.Getpid() {
					t.Errorf("sender is %d, want %d", m.PID, os.Getpid())
				}
			}
			if _, err := p[1].Recv(); err != io.EOF {
				t.Fatalf("after the end: %v, want EOF", err)
			}
			if b, _ := io.ReadAll(r); string(b) != "through" {
				t.Fatalf("through the descriptor: %q", b)
			}
		})
	}
}

func TestSendRefusesWhatCannotTravel(t *testing.T) {
	for name, p := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			if p[0].Send(nil) == nil || p[0].Send(make([]byte, MaxData+1)) == nil {
				t.Error("a message of a wrong size was sent")
			}
			if p[0].Send([]byte("x"), make([]int, MaxFiles+1)...) == nil {
				t.Error("a message with too many descriptors was sent")
			}
		})
	}
}

// No room for descriptors is an error, and what arrived is closed: nobody may
// believe that it has got them all.
func TestTooFewDescriptorsIsAnError(t *testing.T) {
	p := pairs(t)["native"]
	files := make([]int, 40)
	for i := range files {
		files[i] = 0
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := p[0].Send([]byte("x"), files...); err != nil {
		t.Fatal(err)
	}
	before := openFiles(t)
	low := old
	low.Cur = uint64(before + 10)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	_, err := p[1].Recv()
	unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	if !errors.Is(err, ErrTruncated) {
		t.Fatalf("Recv: %v, want ErrTruncated", err)
	}
	if after := openFiles(t); after != before {
		t.Fatalf("%d descriptors open, %d before", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc/self/fd")
	}
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func TestNewRefusesOtherDescriptors(t *testing.T) {
	r, w, _ := os.Pipe()
	defer w.Close()
	fd, _ := unix.Dup(int(r.Fd()))
	r.Close()
	if _, err := New(fd); err == nil {
		t.Error("a pipe was taken for a link")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, _ := ln.(*net.TCPListener).File()
	fd, _ = unix.Dup(int(f.Fd()))
	f.Close()
	if _, err := New(fd); err == nil {
		t.Error("a TCP listener was taken for a link")
	}
}

// Garbage on a stream is an error, never a hang or a panic.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 'x'})
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Skip(err)
		}
		c, err := New(fds[0])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		unix.SetNonblock(fds[1], true)
		unix.Write(fds[1], b)
		unix.Close(fds[1])
		for {
			m, err := c.Recv()
			if err != nil {
				return
			}
			if len(m.Data) == 0 {
				t.Fatal("empty message")
			}
		}
	})
}
