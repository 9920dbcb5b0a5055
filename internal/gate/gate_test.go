package gate

import (
	"errors"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

func listen(t *testing.T) *Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := New(ln.(Socket))
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

type accepted struct {
	c   net.Conn
	err error
}

func accept(l *Listener) <-chan accepted {
	ch := make(chan accepted, 1)
	go func() {
		c, err := l.Accept()
		ch <- accepted{c, err}
	}()
	return ch
}

func TestShutGateKeepsTheBacklog(t *testing.T) {
	l := listen(t)
	got := accept(l)
	c := dial(t, l) // waits in the backlog
	select {
	case <-got:
		t.Fatal("accepted through a gate that is shut at first")
	default:
	}
	l.Open()
	a := <-got
	if a.err != nil || a.c.RemoteAddr().String() != c.LocalAddr().String() {
		t.Fatal(a)
	}
	a.c.Close()

	l.Shut()
	got = accept(l)
	dial(t, l)
	select {
	case <-got:
		t.Fatal("accepted through a shut gate")
	default:
	}
	l.Open()
	if a := <-got; a.err != nil {
		t.Fatal(a.err)
	}
}

// After Shut every connection that left the kernel has been seen by the tracker,
// and none is accepted any more.
func TestNothingIsAcceptedUnseenAcrossShut(t *testing.T) {
	l := listen(t)
	var seen, returned atomic.Int64
	l.Track(func(c net.Conn) net.Conn { seen.Add(1); return c })
	var acceptor, clients sync.WaitGroup
	acceptor.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			returned.Add(1)
			c.Close()
		}
	})
	for range 4 {
		clients.Go(func() {
			for range 100 {
				if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
					c.Close()
				}
			}
		})
	}
	for range 200 {
		l.Open()
		runtime.Gosched()
		l.Shut()
		n := seen.Load()
		runtime.Gosched()
		if m := seen.Load(); m != n {
			t.Fatalf("%d connections accepted after Shut", m-n)
		}
	}
	l.Open()
	clients.Wait()
	l.Close()
	acceptor.Wait()
	if seen.Load() != returned.Load() {
		t.Fatalf("tracker saw %d, Accept returned %d", seen.Load(), returned.Load())
	}
}

func TestCloseEndsAccept(t *testing.T) {
	for _, open := range []bool{false, true} {
		l := listen(t)
		closed := 0
		l.OnClose(func() { closed++ })
		if open {
			l.Open()
		}
		got := accept(l)
		l.Close()
		l.Close()
		if a := <-got; !errors.Is(a.err, net.ErrClosed) {
			t.Fatalf("open=%v: %v", open, a.err)
		}
		if closed != 1 {
			t.Fatalf("OnClose ran %d times", closed)
		}
	}
}

func TestRefuseUntilOpened(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux's shutdown(2) of listening sockets")
	}
	l := listen(t)
	l.Open()
	l.Shut()
	l.Refuse()
	if _, err := net.Dial("tcp", l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("dial: %v, want refused", err)
	}
	if err := l.Open(); err != nil {
		t.Fatal(err)
	}
	got := accept(l)
	dial(t, l)
	if a := <-got; a.err != nil {
		t.Fatal(a.err)
	}
}

func TestUDPGate(t *testing.T) {
	raw, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	u := NewUDP(raw, nil)
	got := make(chan string)
	go func() {
		defer close(got)
		b := make([]byte, 9)
		for {
			n, _, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			got <- string(b[:n])
		}
	}()
	c, err := net.Dial("udp", u.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("one"))
	select {
	case s := <-got:
		t.Fatalf("read %q through a gate that is shut at first", s)
	default:
	}
	u.Open()
	if s := <-got; s != "one" {
		t.Fatal(s)
	}
	u.Shut()
	c.Write([]byte("two")) // stays in the kernel, for whoever opens
	select {
	case s := <-got:
		t.Fatalf("read %q through a shut gate", s)
	default:
	}
	u.Open()
	if s := <-got; s != "two" {
		t.Fatal(s)
	}
	u.Close()
	if s, ok := <-got; ok {
		t.Fatal(s)
	}
}
