package vault

import (
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

func pair(t testing.TB) (peer, ours *net.TCPConn) {
	t.Helper()
	l, err := listen()
	must(t, err)
	defer l.Close()
	p, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	o, err := l.AcceptTCP()
	must(t, err)
	t.Cleanup(func() { p.Close(); o.Close() })
	p.SetDeadline(time.Now().Add(time.Minute))
	o.SetDeadline(time.Now().Add(time.Minute))
	return p.(*net.TCPConn), o
}

// ledger is an independent record of what went through a connection.
type ledger struct {
	t          *testing.T
	peer, ours *net.TCPConn
	fd         int
	consumed   uint64
	written    uint64
	arrived    uint64 // or on its way: sent by the peer
	received   uint64 // by the peer
	peerClosed bool
}

// TestAccounting compares the kernel's counts with the ledger after every step
// of a random conversation, whatever is in flight.
func TestAccounting(t *testing.T) {
	for range testenv.Count(60, 2000) {
		peer, ours := pair(t)
		l := ledger{t: t, peer: peer, ours: ours, fd: descriptor(ours)}
		for range 40 {
			l.step()
			l.check()
		}
		peer.Close()
		ours.Close()
	}
}

func (l *ledger) step() {
	b := make([]byte, 1+rand.IntN(20<<10))
	switch rand.IntN(10) {
	case 0, 1, 2:
		if !l.peerClosed && l.arrived-l.consumed < 60<<10 {
			n, err := l.peer.Write(b)
			must(l.t, err)
			l.arrived += uint64(n)
		}
	case 3, 4, 5:
		if l.consumed < l.arrived || l.peerClosed {
			n, err := l.ours.Read(b)
			if err != io.EOF {
				must(l.t, err)
			}
			l.consumed += uint64(n)
		}
	case 6, 7:
		if l.written-l.received < 60<<10 {
			n, err := l.ours.Write(b)
			must(l.t, err)
			l.written += uint64(n)
		}
	case 8:
		if l.received < l.written {
			n, err := l.peer.Read(b)
			must(l.t, err)
			l.received += uint64(n)
		}
	case 9:
		if rand.IntN(4) == 0 {
			must(l.t, l.peer.CloseWrite())
			l.peerClosed = true
		}
	}
}

func (l *ledger) check() {
	l.t.Helper()
	got, err := Inspect(l.fd)
	must(l.t, err)
	if got.Consumed != l.consumed || got.Written != l.written {
		l.t.Fatalf("got %+v, want %+v", got, *l)
	}
	// What the peer has sent may not have arrived, for want of room.
	if unread := l.arrived - l.consumed; got.Unread > unread || got.PeerClosed && (got.Unread != unread || !l.peerClosed) {
		l.t.Fatalf("got %+v, want %+v", got, *l)
	}
	if got.Unsent > l.written || got.Dead || got.ShutDown {
		l.t.Fatalf("got %+v, want %+v", got, *l)
	}
}

func TestCountsWhileBytesPourIn(t *testing.T) {
	peer, ours := pair(t)
	go io.Copy(peer, zeros{})
	fd := descriptor(ours)
	_, err := io.ReadFull(ours, make([]byte, 12345))
	must(t, err)
	for range 500 {
		c, err := Inspect(fd)
		must(t, err)
		if c.Consumed != 12345 || c.Written != 0 {
			t.Fatalf("%+v", c)
		}
	}
}

// The kernel reads a connection's state before it takes the lock under which it
// reads the rest: a FIN may come in between.
func TestCountsWhileTheFinComes(t *testing.T) {
	for range 1000 {
		peer, ours := pair(t)
		fd := descriptor(ours)
		_, err := peer.Write([]byte("0123456789"))
		must(t, err)
		_, err = io.ReadFull(ours, make([]byte, 10))
		must(t, err)
		go peer.CloseWrite()
		for closed := false; !closed; {
			c, err := Inspect(fd)
			must(t, err)
			if c.Consumed != 10 || c.Unread != 0 {
				t.Fatalf("%+v", c)
			}
			closed = c.PeerClosed
		}
		peer.Close()
		ours.Close()
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestOurOwnFinAndResets(t *testing.T) {
	peer, ours := pair(t)
	fd := descriptor(ours)
	must(t, ours.CloseWrite())
	if c, err := Inspect(fd); err != nil || !c.ShutDown {
		t.Errorf("%+v, %v", c, err)
	}
	peer.SetLinger(0)
	peer.Close()
	ours.Read(make([]byte, 1))
	if c, err := Inspect(fd); err != nil || !c.Dead {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestNotTCP(t *testing.T) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(true)
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	var d net.Dialer
	d.SetMultipathTCP(true)
	c, err := d.Dial("tcp", l.Addr().String())
	must(t, err)
	defer c.Close()
	o, err := l.Accept()
	must(t, err)
	defer o.Close()
	if multi, _ := o.(*net.TCPConn).MultipathTCP(); !multi {
		t.Skip("this kernel has no MPTCP")
	}
	if c, err := Inspect(descriptor(o.(*net.TCPConn))); err != errNotTCP {
		t.Errorf("%+v, %v", c, err)
	}
}

func BenchmarkInspect(b *testing.B) {
	_, ours := pair(b)
	fd := descriptor(ours)
	for b.Loop() {
		if _, err := Inspect(fd); err != nil {
			b.Fatal(err)
		}
	}
}
