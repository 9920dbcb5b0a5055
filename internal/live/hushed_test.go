//go:build linux

package live

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// A read during a request ends with its deadline, as on a bare socket: whether it had
// begun when the deadline was set, or begins later; and only as long as that stands.
func TestReadsDuringARequest(t *testing.T) {
	client, c := duringARequest(t)
	one := make([]byte, 1)
	expired := func(when string, n int, err error) {
		t.Helper()
		var ne net.Error
		if n != 0 || !errors.As(err, &ne) || !ne.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %d, %v", when, n, err)
		}
	}
	gets := func(when string, want byte) {
		t.Helper()
		if n, err := c.Read(one); n != 1 || err != nil || one[0] != want {
			t.Errorf("%s: %d, %v, %q", when, n, err, one)
		}
	}
	type result struct {
		n   int
		err error
	}
	inSocket := func() chan result {
		done := make(chan result, 1)
		go func() {
			n, err := c.Read(make([]byte, 1))
			done <- result{n, err}
		}()
		proctest.Poll(t, "a read in the socket", func() bool {
			c.c.mu.Lock()
			defer c.c.mu.Unlock()
			return c.c.inside == 1
		})
		return done
	}

	c.SetReadDeadline(past)
	io.WriteString(client, "a")
	for range 2 {
		n, err := c.Read(one)
		expired("begun after its deadline", n, err)
	}
	n, err := c.Read(make([]byte, 100))
	expired("of a body", n, err)
	c.SetReadDeadline(time.Time{})
	gets("without a deadline", 'a')

	done := inSocket()
	c.SetReadDeadline(past)
	r := proctest.Await(t, "its end", done)
	expired("begun before its deadline", r.n, r.err)
	io.WriteString(client, "b")
	n, err = c.Read(one)
	expired("behind it", n, err)
	c.SetReadDeadline(time.Time{})
	gets("without it again", 'b')

	c.SetReadDeadline(past)
	io.WriteString(client, "c")
	c.SetReadDeadline(time.Now().Add(time.Hour))
	gets("with an hour to go", 'c')

	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	n, err = c.Read(one)
	expired("of a millisecond", n, err)
	c.SetReadDeadline(past)
	c.SetReadDeadline(time.Time{})
	io.WriteString(client, "d")
	gets("after both", 'd')
}

// duringARequest is a connection whose handler is running, and its client.
func duringARequest(t *testing.T) (client net.Conn, c *tcpConn) {
	sock := listen(t, "tcp")
	defer sock.Close()
	client, err := net.Dial("tcp", sock.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	nc, err := sock.Accept()
	if err != nil {
		t.Fatal(err)
	}
	table := New(Config{Name: "web", Log: quiet})
	c = table.track(nc, false).(*tcpConn)
	t.Cleanup(func() { c.Close() })
	table.State(c, http.StateNew)
	table.State(c, http.StateActive)
	return client, c
}
