package live

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// TestScatter reads as net.TCPConn does, into two places.
func TestScatter(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := c.(*net.TCPConn)
	var r scatter
	first := make([]byte, 4)
	read := func(room int) (string, error) {
		p := make([]byte, room)
		n, err := r.read(s, first, p)
		return string(p[:n]), err
	}
	for _, step := range []struct {
		sent         string
		room         int
		first, whole string
	}{
		{"GET / HTTP", 100, "GET ", "GET / HTTP"},
		{"ab", 100, "abT ", "ab"},
		{"xyz", 1, "xbT ", "x"},
		{"", 2, "yzT ", "yz"},
		{"12345", 4, "1234", "1234"},
		{"", 9, "5234", "5"},
	} {
		io.WriteString(peer, step.sent)
		got, err := read(step.room)
		if err != nil || got != step.whole || !bytes.Equal(first, []byte(step.first)) {
			t.Fatalf("%+v: %q, %q, %v", step, got, first, err)
		}
	}

	s.SetReadDeadline(time.Unix(1, 0))
	var op *net.OpError
	if _, err := read(9); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &op) || op.Op != "read" {
		t.Errorf("deadline: %v", err)
	}
	s.SetReadDeadline(time.Time{})
	r.try = func(fd uintptr) bool {
		come := r.once(fd)
		if !come { // only now, so that it has to wait
			io.WriteString(peer, "late")
		}
		return come
	}
	if got, err := read(9); got != "late" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	peer.(*net.TCPConn).SetLinger(0)
	peer.Close() // a reset
	if _, err := read(9); !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &op) || op.Op != "read" {
		t.Errorf("reset: %v", err)
	}
	if _, err := read(9); err != io.EOF {
		t.Errorf("end: %v", err)
	}
	s.Close()
	if _, err := read(9); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestScatterAllocatesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var r scatter
	first, p, message := make([]byte, 4), make([]byte, 100), []byte("GET / HTTP/1.1")
	if n := testing.AllocsPerRun(100, func() {
		peer.Write(message)
		if _, err := r.read(c.(*net.TCPConn), first, p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
