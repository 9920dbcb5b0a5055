//go:build linux

package live

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// Time limits run on when a connection moves: whatever was used up before is
// gone.
func TestTimeLimits(t *testing.T) {
	const limit = time.Second
	idle := func(_ *Config, hs *http.Server) { hs.IdleTimeout = limit }
	head := func(_ *Config, hs *http.Server) { hs.ReadHeaderTimeout = limit }
	for _, c := range []struct {
		name   string
		change func(*Config, *http.Server)
		first  bool   // a request is answered before the move
		before string // what is sent before it
		parks  bool
	}{
		{"idle", idle, true, "", true},
		{"idle without a parking lot", idle, true, "", false},
		{"no first request", head, false, "", true},
		{"half a first head", head, false, "GET / HT", true},
		{"half a later head", head, true, "GET / HT", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			proctest.Check(t, func() error { // a machine under load may be too slow, but not each time
				one, next := two(t, "tcp", numbered, c.change)
				if !c.parks {
					next.lot.stop()
				}
				took := closedAfter(t, one, next, c.first, c.before, limit/2)
				if took > limit*9/10 && took < limit*7/5 { // had it begun anew: 3/2
					return nil
				}
				return fmt.Errorf("closed after %v, the limit is %v", took, limit)
			})
		})
	}
}

// closedAfter is when a connection is closed by the server that it has moved to.
func closedAfter(t *testing.T, one, next *side, first bool, before string, move time.Duration) time.Duration {
	conn := dial(t, one)
	if first {
		get(t, conn, "/")
	}
	start := time.Now()
	io.WriteString(conn, before)
	proctest.Quiet(time.Until(start.Add(move)))
	swap(proctest.Context(t), t, one, next)
	if _, err := io.Copy(io.Discard, conn); err != nil { // half a line is answered with 400
		t.Fatal(err)
	}
	if next.Counts().Adopted == 0 {
		return 0 // too late
	}
	return time.Since(start)
}

// An idle connection whose client talks within the limit isn't cut by the limit
// for heads, which starts with the first byte: neither out of the parking lot,
// nor where there is none.
func TestHeadLimitStartsWithTheFirstByte(t *testing.T) {
	for _, parks := range []bool{true, false} {
		t.Run(fmt.Sprintf("parks %v", parks), func(t *testing.T) {
			t.Parallel()
			one, next := two(t, "tcp", numbered, func(_ *Config, hs *http.Server) { hs.ReadHeaderTimeout = time.Second })
			if !parks {
				next.lot.stop()
			}
			c := dial(t, one)
			get(t, c, "/")
			slow := dial(t, one)
			get(t, slow, "/")
			swap(proctest.Context(t), t, one, next)
			proctest.Quiet(1500 * time.Millisecond)
			if got := body(get(t, c, "/b")); got != "2/b" {
				t.Fatal(got)
			}
			start := time.Now()
			io.WriteString(slow, "GET / HT")
			if _, err := io.Copy(io.Discard, slow); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d < 900*time.Millisecond {
				t.Fatal(d)
			}
		})
	}
}

// What was set on the socket stays set.
func TestSocketOptionsMove(t *testing.T) {
	one, next := two(t, "tcp", numbered, nil)
	c := dial(t, one)
	get(t, c, "/")
	set := [][3]int{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 0},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 77},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 33},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0},
	}
	for _, o := range set {
		if err := unix.SetsockoptInt(onlyFD(t, one), o[0], o[1], o[2]); err != nil {
			t.Fatal(err)
		}
	}
	swap(proctest.Context(t), t, one, next)
	get(t, c, "/b")
	for _, o := range set {
		if n, err := unix.GetsockoptInt(onlyFD(t, next), o[0], o[1]); n != o[2] || err != nil {
			t.Errorf("option %d: %d instead of %d, %v", o[1], n, o[2], err)
		}
	}
}

func onlyFD(t *testing.T, s *side) int {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		fd, err := fdOf(c.sock)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	t.Fatal("no connection")
	return -1
}

// A connection of Multipath TCP stays, and is drained.
func TestMultipathStays(t *testing.T) {
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(true)
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sock := l.(*net.TCPListener)
	if protocol(sock) != unix.IPPROTO_MPTCP {
		t.Skip("this kernel has no Multipath TCP")
	}
	socks := share(t, sock, 2)
	one := newSide(t, socks[0], numbered(1), nil)
	next := newSide(t, socks[1], numbered(2), nil)
	next.gate.Shut()
	d := net.Dialer{}
	d.SetMultipathTCP(true)
	c, err := d.Dial("tcp", one.gate.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	plain := dial(t, one) // a plain client of the same listener moves
	get(t, c, "/")
	get(t, plain, "/")
	swapped := make(chan int, 1)
	go func() { n, _ := tryse(proctest.Context(t), t, one, next); swapped <- n }()
	proctest.Poll(t, "draining", func() bool { return one.drain.Load() != nil })
	if got := get(t, c, "/b"); body(got) != "1/b" || !got.Close {
		t.Fatal(got)
	}
	if n := <-swapped; n != 1 {
		t.Fatalf("%d moved", n)
	}
	if got := body(get(t, plain, "/b")); got != "2/b" {
		t.Fatal(got)
	}
}

// TLS stays; idle connections are closed in an orderly way when their grace is
// over, those with a request under way after it.
func TestTLSDrains(t *testing.T) {
	ts := httptest.NewUnstartedServer(nil)
	ts.StartTLS()
	defer ts.Close()
	sock := listen(t, "tcp")
	release := make(chan struct{})
	s := newSide(t, sock, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-release
		}
		io.WriteString(w, r.URL.Path)
	}), func(_ *Config, hs *http.Server) {
		hs.TLSConfig = &tls.Config{Certificates: ts.TLS.Certificates}
	})
	config := &tls.Config{InsecureSkipVerify: true}
	idle, slow := tls.Client(dial(t, s), config), tls.Client(dial(t, s), config)
	get(t, idle, "/a")
	io.WriteString(slow, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	proctest.Poll(t, "active", func() bool {
		all := Holdouts{Most: 2}
		s.Holdouts(&all)
		for _, h := range all.Oldest {
			if h.State == "tls" {
				return true
			}
		}
		return false
	})
	proctest.Poll(t, "slow", func() bool { return s.Counts().Open == 2 && allRead(s) })
	s.gate.Shut()
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(proctest.Context(t), DrainOptions{IdleGrace: 100 * time.Millisecond}) }()
	if n, err := idle.Read(make([]byte, 1)); n != 0 || err != io.EOF { // close_notify, not a torn end
		t.Fatal(n, err)
	}
	close(release)
	if got := response(t, bufio.NewReader(slow)); body(got) != "/slow" {
		t.Fatal(got)
	}
	if n, err := slow.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatal(n, err)
	}
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
}

// Files are sent by the kernel, not by us.
func TestSendfileStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	var w http.ResponseWriter
	s := newSide(t, listen(t, "tcp"), http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w = rw
		http.ServeFile(rw, r, path)
	}), nil)
	c := dial(t, s)
	resp := get(t, c, "/")
	if len(body(resp)) != 1<<20 {
		t.Fatal("incomplete")
	}
	if _, ok := w.(io.ReaderFrom); !ok {
		t.Fatal("no io.ReaderFrom")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if n := c.written.Load(); n < 1<<20 {
			t.Fatalf("%d bytes counted", n)
		}
	}
}

// The limit for idle connections holds in the parking lot too while others there
// keep talking.
func TestIdleLimitBesideTalk(t *testing.T) {
	const many = 150
	one, next := two(t, "tcp", numbered, func(_ *Config, hs *http.Server) { hs.IdleTimeout = 500 * time.Millisecond })
	silent := dial(t, one)
	get(t, silent, "/")
	var others []net.Conn
	for range many { // no request was answered on them: there is no limit
		others = append(others, dial(t, one))
	}
	proctest.Poll(t, "accepted", func() bool { return one.Counts().Open > many })
	swap(proctest.Context(t), t, one, next)
	proctest.Poll(t, "parked", func() bool { return next.lot.len() >= many })
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		io.Copy(io.Discard, silent)
	}()
	for _, c := range others {
		select {
		case <-closed:
			return
		default:
			get(t, c, "/")
			proctest.Pace(20 * time.Millisecond)
		}
	}
	t.Error("still open")
}
