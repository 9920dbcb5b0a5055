//go:build unix

package live

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// A hijacked connection is its handler's: a drain neither waits for it nor
// touches it.
func TestHijackedStays(t *testing.T) {
	h := func(i int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			if _, ok := c.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn); !ok {
				fmt.Fprintln(c, "no TCP connection underneath")
			}
			fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
			io.Copy(c, rw)
			c.Close()
		})
	}
	one, next := two(t, "tcp", h, nil)
	c := dial(t, one)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\nhello")
	r := bufio.NewReader(c)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	echo := func(text string) {
		b := make([]byte, len(text))
		if _, err := io.ReadFull(r, b); err != nil || string(b) != text {
			t.Fatal(string(b), err)
		}
	}
	echo("hello")
	if n := one.Counts(); n.Pinned != 1 {
		t.Fatal(n)
	}
	if n := swap(proctest.Context(t), t, one, next); n != 0 {
		t.Fatalf("%d moved", n)
	}
	io.WriteString(c, "again")
	echo("again")
}

// HTTP/2 without TLS looks idle to the wrapper and must not be torn out.
func TestUnencryptedHTTP2Stays(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{})
	h := func(i int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			<-release
			fmt.Fprintf(w, "%d %s", i, r.Proto)
		})
	}
	one, next := two(t, "tcp", h, func(_ *Config, hs *http.Server) {
		hs.Protocols = new(http.Protocols)
		hs.Protocols.SetHTTP1(true)
		hs.Protocols.SetUnencryptedHTTP2(true)
	})
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: p}
	defer tr.CloseIdleConnections()
	got := make(chan string, 1)
	go func() {
		req, _ := http.NewRequestWithContext(context.Background(), "GET", "http://"+one.gate.Addr().String()+"/", nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			got <- err.Error()
			return
		}
		b, _ := io.ReadAll(resp.Body)
		got <- string(b)
	}()
	<-entered
	if n := swap(proctest.Context(t), t, one, next); n != 0 {
		t.Fatalf("%d moved", n)
	}
	close(release)
	if s := <-got; s != "1 HTTP/2.0" {
		t.Fatal(s)
	}
}

// A parked connection is closed at once when the service stops.
func TestParkedCloseAtAStop(t *testing.T) {
	proctest.Check(t, func() error {
		one, next := two(t, "tcp", numbered, nil)
		c := dial(t, one)
		get(t, c, "/")
		swap(proctest.Context(t), t, one, next)
		next.gate.Shut()
		start := time.Now()
		if err := next.Drain(proctest.Context(t), DrainOptions{Stopping: true}); err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Fatal(n, err)
		}
		if took > 5*time.Second { // the machine may stall once
			return fmt.Errorf("closed after %v", took)
		}
		return nil
	})
}

// The client of a parked connection goes away.
func TestParkedClientLeaves(t *testing.T) {
	one, next := two(t, "tcp", numbered, nil)
	c := dial(t, one)
	get(t, c, "/")
	swap(proctest.Context(t), t, one, next)
	if n := next.Counts(); n.Open != 1 || n.Adopted != 1 {
		t.Fatal(n)
	}
	c.Close()
	proctest.Poll(t, "closed", func() bool { return next.Counts().Open == 0 })
}
