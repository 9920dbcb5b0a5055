package rawio

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// pair returns both ends of a connection.
func pair(t testing.TB, network string) (Socket, Socket) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial(network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return peer.(Socket), c.(Socket)
}

// force has the watch on, or off, whatever happens, until the test ends.
func force(t testing.TB, on bool) {
	was := trafficWatch
	t.Cleanup(func() { trafficWatch = was })
	trafficWatch = newWatch()
	trafficWatch.on.Store(on) // without a timer
	if !on {
		trafficWatch.calls.Store(-1 << 60)
		trafficWatch.begun.Store(1 << 62)
	}
}

// everyWay runs a test on all kinds of sockets, with and without the watch.
func everyWay(t *testing.T, test func(t *testing.T, network string)) {
	for name, on := range map[string]bool{"untold": true, "told": false} {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(name+"/"+network, func(t *testing.T) {
				force(t, on)
				test(t, network)
			})
		}
	}
}

// sameError fails where ours isn't what net says.
func sameError(t *testing.T, what string, ours, nets error) {
	t.Helper()
	if ours == nil || nets == nil {
		t.Errorf("%s: %v, of net's own %v", what, ours, nets)
		return
	}
	var a, b *net.OpError
	if errors.As(ours, &a) != errors.As(nets, &b) || ours.Error() != nets.Error() {
		t.Errorf("%s: %#v, of net's own %#v", what, ours, nets)
	}
	if a != nil && (a.Op != b.Op || a.Timeout() != b.Timeout()) {
		t.Errorf("%s: %q %v, of net's own %q %v", what, a.Op, a.Timeout(), b.Op, b.Timeout())
	}
}

func TestReadsAsNetDoes(t *testing.T) {
	everyWay(t, func(t *testing.T, network string) {
		peer, s := pair(t, network)
		var c Conn
		p := make([]byte, 9)
		read := func() (string, error) {
			n, err := c.Read(s, p)
			return string(p[:n]), err
		}
		io.WriteString(peer, "a request, and more")
		for _, want := range []string{"a request", ", and mor", "e"} {
			if got, err := read(); got != want || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
		}
		if n, err := c.Read(s, nil); n != 0 || err != nil {
			t.Errorf("into nothing: %d, %v", n, err)
		}

		type result struct {
			got string
			err error
		}
		waits := func() chan result {
			done := make(chan result, 1)
			go func() {
				got, err := read()
				done <- result{got, err}
			}()
			return done
		}
		late := waits()
		io.WriteString(peer, "late")
		if r := proctest.Await(t, "what comes late", late); r.got != "late" || r.err != nil {
			t.Errorf("%+v", r)
		}
		expires := waits()
		s.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		err := proctest.Await(t, "the deadline", expires).err
		_, want := s.Read(p)
		sameError(t, "its deadline passes", err, want)
		_, err = read()
		sameError(t, "its deadline has passed", err, want)
		s.SetReadDeadline(time.Time{})

		if network == "tcp" {
			peer.(*net.TCPConn).SetLinger(0) // a reset
			peer.Close()
			if _, err := read(); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("reset: %v", err)
			}
		}
		peer.Close()
		if _, err := read(); err != io.EOF {
			t.Errorf("end: %v", err)
		}
		s.Close()
		_, err = read()
		_, want = s.Read(p)
		sameError(t, "closed", err, want)
	})
}

func TestReadScattered(t *testing.T) {
	everyWay(t, func(t *testing.T, network string) {
		peer, s := pair(t, network)
		var c Conn
		first := make([]byte, 4)
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
			p := make([]byte, step.room)
			n, err := c.ReadScattered(s, first, p)
			if got := string(p[:n]); err != nil || got != step.whole || !bytes.Equal(first, []byte(step.first)) {
				t.Fatalf("%+v: %q, %q, %v", step, got, first, err)
			}
		}
		p := make([]byte, 9)
		s.SetReadDeadline(time.Unix(1, 0))
		_, err := c.ReadScattered(s, first, p)
		_, want := s.Read(p)
		sameError(t, "its deadline has passed", err, want)
		s.SetReadDeadline(time.Time{})
		peer.Close()
		if _, err := c.ReadScattered(s, first, p); err != io.EOF {
			t.Errorf("end: %v", err)
		}
		s.Close()
		_, err = c.ReadScattered(s, first, p)
		_, want = s.Read(p)
		sameError(t, "closed", err, want)
	})
}

func TestWritesAsNetDoes(t *testing.T) {
	everyWay(t, func(t *testing.T, network string) {
		peer, s := pair(t, network)
		var c Conn
		big := bytes.Repeat([]byte("what doesn't fit at once. "), 1<<20)
		sum := make(chan [32]byte, 1)
		go func() {
			h := sha256.New()
			io.CopyN(h, peer, int64(len(big)))
			sum <- [32]byte(h.Sum(nil))
		}()
		if n, err := c.Write(s, big); n != len(big) || err != nil {
			t.Errorf("%d of %d, %v", n, len(big), err)
		}
		if proctest.Await(t, "all of it", sum) != sha256.Sum256(big) {
			t.Error("something else has arrived")
		}
		if n, err := c.Write(s, nil); n != 0 || err != nil {
			t.Errorf("nothing: %d, %v", n, err)
		}

		s.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		n, err := c.Write(s, big)
		_, want := s.Write(big)
		sameError(t, "its deadline passes", err, want)
		if got, err := io.ReadAll(io.LimitReader(peer, int64(n))); len(got) != n || err != nil || n == 0 || n == len(big) {
			t.Errorf("%d were written, %d are there, %v", n, len(got), err)
		}
		s.SetWriteDeadline(time.Time{})

		peer.Close()
		proctest.Poll(t, "the peer's end to be seen", func() bool {
			_, err = c.Write(s, []byte("x"))
			return err != nil
		})
		var op *net.OpError
		if !errors.As(err, &op) || op.Op != "write" || !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("nobody reads: %v", err)
		}
		_, err = c.Write(s, []byte("x")) // once more: now it is a broken pipe for sure
		_, want = s.Write([]byte("x"))
		sameError(t, "nobody reads", err, want)
		s.Close()
		_, err = c.Write(s, []byte("x"))
		_, want = s.Write([]byte("x"))
		sameError(t, "closed", err, want)
	})
}

// TestSeveralAtOnce: nothing is mixed up, nothing lost.
func TestSeveralAtOnce(t *testing.T) {
	everyWay(t, func(t *testing.T, network string) {
		peer, s := pair(t, network)
		var c, of Conn
		const writers, messages = 4, 200
		message := func(w int) []byte { return bytes.Repeat([]byte{byte('a' + w)}, 1000) }
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				for range messages {
					if _, err := c.Write(s, message(w)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		var mu sync.Mutex
		counts := map[byte]int{}
		for range 3 {
			all.Go(func() {
				p := make([]byte, 700)
				for {
					n, err := of.Read(peer, p)
					mu.Lock()
					for _, b := range p[:n] {
						counts[b]++
					}
					total := 0
					for _, k := range counts {
						total += k
					}
					mu.Unlock()
					if total == writers*messages*1000 {
						peer.SetReadDeadline(time.Unix(1, 0)) // the others wait
						return
					}
					if err != nil {
						return
					}
				}
			})
		}
		all.Wait()
		for w := range writers {
			if got := counts[byte('a'+w)]; got != messages*1000 {
				t.Errorf("of writer %d: %d", w, got)
			}
		}
	})
}

// TestBlockingSocket: who shares a socket can make it wait; we don't.
func TestBlockingSocket(t *testing.T) {
	force(t, true)
	peer, s := pair(t, "tcp")
	raw, err := s.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetNonblock(int(fd), false) })
	if err != nil {
		t.Fatal(err)
	}
	if !possible {
		return // net's calls block
	}
	var c Conn
	s.SetDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := c.Read(s, make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	if _, err := c.ReadScattered(s, make([]byte, 4), make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	s.SetDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := c.Write(s, make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	peer.Close()
}

func TestNothingIsAllocated(t *testing.T) {
	force(t, true)
	peer, s := pair(t, "tcp")
	var c Conn
	first, p, message := make([]byte, 4), make([]byte, 100), []byte("GET / HTTP/1.1")
	if n := testing.AllocsPerRun(100, func() {
		for _, read := range []func() (int, error){
			func() (int, error) { return c.Read(s, p) },
			func() (int, error) { return c.ReadScattered(s, first, p) },
		} {
			peer.Write(message)
			if _, err := read(); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(s, message); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(peer, p[:len(message)]); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
