//go:build linux

package live

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/handover"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// exchange is one request and its answer, without an allocation.
func exchange(b *testing.B, c net.Conn, req, buf []byte, want int) {
	if _, err := c.Write(req); err != nil {
		b.Fatal(err)
	}
	for n := 0; n < want; {
		k, err := c.Read(buf[n:])
		if err != nil {
			b.Fatal(err)
		}
		n += k
	}
}

// BenchmarkWrapper: one keep-alive client, net/http bare and wrapped. The
// difference is what the table costs a request; it must allocate nothing.
func BenchmarkWrapper(b *testing.B) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil // so that answers have one length
		io.WriteString(w, "hello")
	})
	for _, wrapped := range []bool{false, true} {
		name := "bare"
		if wrapped {
			name = "wrapped"
		}
		b.Run(name, func(b *testing.B) {
			sock := listen(b, "tcp")
			addr := sock.Addr().String()
			if wrapped {
				s := newSide(b, sock, hello, nil)
				s.hs.Handler = hello
			} else {
				hs := &http.Server{Handler: hello}
				go hs.Serve(sock)
				defer hs.Close()
			}
			c, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			req := []byte("GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n\r\n")
			buf := make([]byte, 4096)
			c.Write(req)
			want, err := c.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				exchange(b, c, req, buf, want)
			}
		})
	}
}

// BenchmarkHandover: idle connections, from net/http to the next generation's
// parking lot, and from lot to lot. Their clients are in another process, so that
// both generations' descriptors, which are in this one, are all that counts.
func BenchmarkHandover(b *testing.B) {
	for _, n := range []int{1000, 5000, 9000} {
		for _, from := range []string{"nethttp", "lot"} {
			b.Run(fmt.Sprintf("%s/%d", from, n), func(b *testing.B) { benchmarkHandover(b, n, from == "lot") })
		}
	}
}

func benchmarkHandover(b *testing.B, n int, parked bool) {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil && lim.Cur < uint64(2*n+500) {
		b.Skipf("needs %d descriptors, RLIMIT_NOFILE is %d", 2*n+500, lim.Cur)
	}
	var took time.Duration
	for b.Loop() {
		took += handoverOnce(b, n, parked)
	}
	b.ReportMetric(float64(n)*float64(b.N)/took.Seconds(), "conns/s")
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/handover")
}

func handoverOnce(b *testing.B, n int, parked bool) time.Duration {
	socks := share(b, listen(b, "unix"), 2)
	one, next := newSide(b, socks[0], say("1"), nil), newSide(b, socks[1], say("2"), nil)
	next.gate.Shut()
	defer clients(b, one.gate.Addr().String(), n)()
	proctest.Check(b, func() error {
		if open := one.Counts().Open; open < n {
			return fmt.Errorf("%d of %d clients", open, n)
		}
		return nil
	})
	from, to := one, next
	if parked {
		timedSwap(b, one, next, n)
		from, to = next, one
	}
	d := timedSwap(b, from, to, n)
	one.hs.Close()
	next.hs.Close()
	for _, it := range to.lot.stop() {
		it.Close()
	}
	return d
}

// clients lets a child process make n connections, until the result is called.
func clients(b *testing.B, addr string, n int) (end func()) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("LIVE_TEST_CLIENTS=%d %s", n, addr))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	return func() { stdin.Close(); cmd.Wait() }
}

func TestMain(m *testing.M) {
	var n int
	var addr string
	if k, _ := fmt.Sscan(os.Getenv("LIVE_TEST_CLIENTS"), &n, &addr); k == 2 {
		connect(n, addr)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// connect keeps n connections until stdin ends.
func connect(n int, addr string) {
	for range n {
		// The kernel's own connect(2), which waits while the backlog is full.
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: addr})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	io.Copy(io.Discard, os.Stdin)
}

func timedSwap(b *testing.B, from, to *side, n int) time.Duration {
	a, l := links(b)
	s := handover.NewSender(a, handover.SenderConfig{Dead: make(chan struct{}), Log: quiet})
	done := make(chan error, 1)
	go func() {
		_, err := handover.Receive(b.Context(), l, handover.ReceiverConfig{
			Targets: map[string]handover.Target{"web": to}, Log: quiet,
		})
		done <- err
	}()
	if err := s.Takes(context.Background(), "web"); err != nil {
		b.Fatal(err)
	}
	from.gate.Shut()
	start := time.Now()
	if err := from.Drain(b.Context(), DrainOptions{Sender: s, IdleGrace: time.Second}); err != nil {
		b.Fatal(err)
	}
	d := time.Since(start)
	if k, err := s.Close(b.Context()); k != n || err != nil {
		b.Fatal(k, err)
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	from.Table.Resume()
	return d
}
