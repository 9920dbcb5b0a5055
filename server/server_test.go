package server

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
	"github.com/tablecloth-go/tablecloth/upgrader"
)

func hello(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }

// client is one connection, with neither retry nor reconnect.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, a net.Addr) *client {
	t.Helper()
	c, err := net.Dial(a.Network(), a.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return newClient(t, c)
}

func newClient(t *testing.T, c net.Conn) *client {
	c.SetDeadline(time.Now().Add(proctest.Patience(t)))
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) send(method, path, body string) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) answer() (*http.Response, string) {
	c.t.Helper()
	res, body, err := c.tryAnswer()
	if err != nil {
		c.t.Fatal(err)
	}
	return res, body
}

func (c *client) tryAnswer() (*http.Response, string, error) {
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res, string(b), err
}

func (c *client) get(path string) (*http.Response, string) {
	c.t.Helper()
	c.send("GET", path, "")
	return c.answer()
}

// wantEOF fails if anything but the end of the connection comes.
func (c *client) wantEOF() {
	c.t.Helper()
	if b, err := c.r.ReadByte(); err != io.EOF {
		c.t.Fatalf("byte %q, error %v: want EOF", b, err)
	}
}

func web(h http.HandlerFunc) *Service {
	return HTTP("web", &http.Server{Handler: h}, "127.0.0.1:0")
}

func TestServesUntilStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := startOn(t, ctx, newFake(), Options{}, web(hello))
	c := dial(t, r.Addr("web"))
	for range 3 {
		if res, body := c.get("/"); res.StatusCode != 200 || body != "hello" || res.Close {
			t.Fatalf("%v %q close=%v", res.Status, body, res.Close)
		}
	}
	began := time.Now()
	cancel()
	c.wantEOF()
	if err := r.wait(t); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 100*time.Millisecond {
		t.Logf("a stop with nothing in flight took %v", d)
	}
	if r.gen.closed != 1 {
		t.Errorf("Close called %d times", r.gen.closed)
	}
}

func TestPlainUpgrader(t *testing.T) {
	s, err := New(Options{Upgrader: upgrader.Plain(), Log: upgrader.Discard}, web(hello))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	proctest.Await(t, "ready", s.Ready())
	res, err := http.Get("http://" + s.Addr("web").String())
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := s.Run(ctx); err == nil {
		t.Error("a second Run must fail")
	}
}

func TestConns(t *testing.T) {
	echo := func(ctx context.Context, c net.Conn) { io.Copy(c, c) }
	r := start(t, Options{}, Conns("echo", echo, "127.0.0.1:0", "unix:@"+t.Name()))
	c := dial(t, r.Addr("echo"))
	io.WriteString(c, "ping\n")
	if s, err := c.r.ReadString('\n'); s != "ping\n" {
		t.Fatal(s, err)
	}
	c.CloseWriteNow()
	c.wantEOF()
}

func (c *client) CloseWriteNow() { c.Conn.(*net.TCPConn).CloseWrite() }
