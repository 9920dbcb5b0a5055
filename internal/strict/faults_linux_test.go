package strict_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/strict"
	"golang.org/x/sys/unix"
)

// A peer is the first connection to a server that misbehaves.
type peer struct {
	*net.TCPConn
	br *bufio.Reader
}

// request reads one, body included.
func (p *peer) request() *http.Request {
	r, err := http.ReadRequest(p.br)
	if err != nil {
		return nil
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	return r
}

// answer writes the right one to r, changed by edit.
func (p *peer) answer(r *http.Request, edit func(string) string) {
	body, _ := io.ReadAll(r.Body)
	a := fmt.Sprintf("HTTP/1.1 200 OK\r\n%s: %s\r\n%s: 1\r\nContent-Length: %d\r\n\r\n%s",
		strict.HeaderID, r.Header.Get(strict.HeaderID), strict.HeaderGeneration, len(body), body)
	if edit != nil {
		a = edit(a)
	}
	io.WriteString(p, a)
}

func (p *peer) reset() {
	p.SetLinger(0)
	p.Close()
}

// cork keeps what is written back until the connection ends: the client gets
// both at once.
func (p *peer) cork() {
	raw, _ := p.SyscallConn()
	raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1) })
}

func half(a string) string { return a[:len(a)-500] }

func replace(old, new string) func(string) string {
	return func(a string) string { return strings.Replace(a, old, new, 1) }
}

// misbehaving gives the first connection to script, and the others to a
// faultless server. second is called at the second connection.
func misbehaving(t *testing.T, script func(*peer), second func()) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rest := &queue{ln: ln, c: make(chan net.Conn), done: make(chan struct{})}
	hs := &http.Server{Handler: strict.Handler(1)}
	go hs.Serve(rest)
	t.Cleanup(func() { hs.Close() })
	go func() {
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if n == 0 {
				t.Cleanup(func() { c.Close() })
				go script(&peer{c.(*net.TCPConn), bufio.NewReader(c)})
				continue
			}
			if n == 1 {
				second()
			}
			select {
			case rest.c <- c:
			case <-rest.done:
				c.Close()
			}
		}
	}()
	return ln.Addr().String()
}

// queue is a listener which others accept for.
type queue struct {
	ln   net.Listener
	c    chan net.Conn
	done chan struct{}
	once sync.Once
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.c:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return q.ln.Close()
}

func (q *queue) Addr() net.Addr { return q.ln.Addr() }

// Each way to fail a client is seen for what it is.
func TestEachFault(t *testing.T) {
	for name, c := range map[string]struct {
		kind   strict.Kind // "": Post
		script func(*peer)
		fault  strict.Fault // "": no request fails
		end    strict.End   // of the first connection
		code   int
	}{
		"end instead of an answer":   {script: func(p *peer) { p.request(); p.Close() }, fault: strict.NoAnswer, end: strict.Lost},
		"reset instead of an answer": {script: func(p *peer) { p.request(); p.reset() }, fault: strict.Reset, end: strict.Lost},
		"end with the body unread":   {script: func(p *peer) { p.Read(make([]byte, 1)); p.Close() }, kind: strict.Unread, fault: strict.Reset, end: strict.Lost},
		"end within the answer":      {script: func(p *peer) { p.answer(p.request(), half); p.Close() }, fault: strict.Cut, end: strict.Lost},
		"end within its head":        {script: func(p *peer) { p.request(); io.WriteString(p, "HTTP/1.1 200 O"); p.Close() }, fault: strict.Cut, end: strict.Lost},
		"reset within the answer":    {script: func(p *peer) { p.answer(p.request(), half); p.reset() }, fault: strict.CutReset, end: strict.Lost},
		"silence":                    {script: func(p *peer) { p.request() }, fault: strict.Timeout, end: strict.Lost},
		"silence within the answer":  {script: func(p *peer) { p.answer(p.request(), half) }, fault: strict.Timeout, end: strict.Lost},
		"500": {script: func(p *peer) {
			p.answer(p.request(), func(string) string {
				return "HTTP/1.1 500 Oh\r\nConnection: close\r\nContent-Length: 1\r\n\r\n!"
			})
		}, fault: strict.Status, code: 500, end: strict.Announced},
		"503, half": {script: func(p *peer) {
			p.answer(p.request(), func(string) string { return "HTTP/1.1 503 Oh\r\nContent-Length: 2\r\n\r\n!" })
			p.Close()
		}, fault: strict.Cut, end: strict.Lost},
		"404":                  {script: func(p *peer) { p.answer(p.request(), replace("200", "404")) }, fault: strict.Wrong, end: strict.Lost},
		"another request's id": {script: func(p *peer) { p.answer(p.request(), replace(strict.HeaderID+": ", strict.HeaderID+": not-")) }, fault: strict.Wrong, end: strict.Lost},
		"no generation":        {script: func(p *peer) { p.answer(p.request(), replace(strict.HeaderGeneration, "X-Nothing")) }, fault: strict.Wrong, end: strict.Lost},
		"one byte changed": {script: func(p *peer) {
			p.answer(p.request(), func(a string) string { return a[:len(a)-1] + string(a[len(a)-1]^1) })
		}, fault: strict.Wrong, end: strict.Lost},
		"no HTTP":              {script: func(p *peer) { p.request(); io.WriteString(p, "SSH-2.0-OpenSSH\r\n\r\n") }, fault: strict.Wrong, end: strict.Lost},
		"two answers":          {script: func(p *peer) { p.answer(p.request(), func(a string) string { return a + a }) }, fault: strict.Wrong, end: strict.Lost},
		"an answer to nothing": {script: func(p *peer) { p.answer(p.request(), nil); p.Write([]byte("HTTP/1.1 408 Timeout\r\n\r\n")) }, fault: strict.Wrong, end: strict.Lost},
		"no 100 Continue":      {script: func(p *peer) { http.ReadRequest(p.br) }, kind: strict.Expect, fault: strict.Timeout, end: strict.Lost},
		"500 for 100 Continue": {script: func(p *peer) {
			http.ReadRequest(p.br)
			io.WriteString(p, "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
		}, kind: strict.Expect, fault: strict.Status, code: 500, end: strict.Ours},
		"close said in a pipe":    {script: func(p *peer) { p.answer(p.request(), replace("\r\n", "\r\nConnection: close\r\n")) }, kind: strict.Pipelined, fault: strict.Dropped, end: strict.Lost},
		"end in a pipe":           {script: func(p *peer) { p.answer(p.request(), nil); p.request(); p.Close() }, kind: strict.Pipelined, fault: strict.NoAnswer, end: strict.Lost},
		"upgrade refused":         {script: func(p *peer) { p.answer(p.request(), nil) }, kind: strict.Upgraded, fault: strict.Wrong, end: strict.Lost},
		"upgrade answered by 503": {script: func(p *peer) { p.request(); io.WriteString(p, "HTTP/1.1 503 Oh\r\nContent-Length: 0\r\n\r\n") }, kind: strict.Upgraded, fault: strict.Status, code: 503, end: strict.Ours},
		"upgraded, then changed":  {script: upgraded(func(b []byte) []byte { b[0]++; return b }), kind: strict.Upgraded, fault: strict.Wrong, end: strict.Lost},
		"upgraded, then cut":      {script: upgraded(func(b []byte) []byte { return nil }), kind: strict.Upgraded, fault: strict.NoAnswer, end: strict.Lost},
		"half a head, then reset": {script: func(p *peer) { p.br.ReadByte(); p.reset() }, kind: strict.HalfHead, fault: strict.Reset, end: strict.Lost},
		"fresh connection cut":    {script: func(p *peer) { p.request(); p.Close() }, kind: strict.Connect, fault: strict.NoAnswer, end: strict.Lost},

		"close said":        {script: func(p *peer) { p.answer(p.request(), replace("\r\n", "\r\nConnection: close\r\n")); p.Close() }, end: strict.Announced},
		"end while idle":    {script: func(p *peer) { p.answer(p.request(), nil); p.Close() }, end: strict.ClosedIdle},
		"reset while idle":  {script: func(p *peer) { p.answer(p.request(), nil); p.reset() }, end: strict.ResetIdle},
		"end before a word": {script: func(p *peer) { p.Close() }, kind: strict.Idle, end: strict.ClosedIdle},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(deadline(t))
			defer cancel()
			if c.kind == "" {
				c.kind = strict.Post
			}
			// The pause ends with the connection, so that no request can slip in
			// before the server's next step.
			g := strict.Group{Kind: c.kind, N: 1, Rate: 20, Pause: time.Hour, Delay: time.Millisecond}
			if c.kind == strict.Upgraded || name == "no 100 Continue" {
				g.Pause = time.Millisecond
			}
			l := strict.Load{Network: "tcp", Groups: []strict.Group{g}, Seed: 3, Timeout: 5 * time.Second}
			if c.fault == strict.Timeout {
				l.Timeout = 100 * time.Millisecond
			}
			l.Addr = misbehaving(t, c.script, cancel)
			r := l.Run(ctx)
			balanced(t, r)
			if c.fault == "" && r.Total.Failed() > 0 || c.fault != "" && (len(r.Failures) == 0 || r.Failures[0].Fault != c.fault) {
				t.Errorf("failures: %v, want %q", r.Failures, c.fault)
			}
			if r.Total.Ends[c.end] < 1 {
				t.Errorf("ends %v, want %q", r.Total.Ends, c.end)
			}
			if bad := c.fault != "" || c.end == strict.ResetIdle; bad != (r.Err() != nil) {
				t.Errorf("error %v", r.Err())
			}
			if c.code != 0 && r.Total.Codes[c.code] != 1 {
				t.Errorf("codes %v, want %d", r.Total.Codes, c.code)
			}
		})
	}
}

// upgraded agrees to an upgrade, then answers the first message with what change
// makes of it, and ends.
func upgraded(change func([]byte) []byte) func(*peer) {
	return func(p *peer) {
		r := p.request()
		fmt.Fprintf(p, "HTTP/1.1 101 Switching Protocols\r\n%s: %s\r\n%s: 1\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
			strict.HeaderID, r.Header.Get(strict.HeaderID), strict.HeaderGeneration)
		b := make([]byte, 2*strict.DefaultSize)
		n, _ := p.br.Read(b)
		p.Write(change(b[:n]))
		p.CloseWrite()
		io.Copy(io.Discard, p.br) // a plain close would reset, as part of the message may be unread
	}
}

func TestNobodyListens(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	for network, addr := range map[string]string{"tcp": ln.Addr().String(), "unix": filepath.Join(t.TempDir(), "none")} {
		for _, kind := range []strict.Kind{strict.Post, strict.Connect} {
			ctx, cancel := context.WithCancel(deadline(t))
			r := strict.Load{
				Network: network, Addr: addr, OnFailure: func(strict.Failure) { cancel() },
				Groups: []strict.Group{{Kind: kind, N: 1, Rate: 100}},
			}.Run(ctx)
			balanced(t, r)
			if r.Total.Faults[strict.Refused] == 0 || r.Total.Failed() != r.Total.Faults[strict.Refused] || r.Total.Connects != 0 {
				t.Errorf("%s, %s: %+v", network, kind, r.Total)
			}
		}
	}
}

func TestFullBacklog(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, _ := unix.Getsockname(fd)
	ctx, cancel := context.WithCancel(deadline(t))
	r := strict.Load{
		Network: "tcp", Addr: fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port),
		Groups:    []strict.Group{{Kind: strict.Idle, N: 4, Pause: time.Hour}}, // connect, and say nothing
		OnFailure: func(strict.Failure) { cancel() }, Timeout: 200 * time.Millisecond,
	}.Run(ctx)
	if len(r.Failures) == 0 || r.Failures[0].Fault != strict.Timeout {
		t.Errorf("failures %v", r.Failures)
	}
}

// A client that looks sees the end of its connection and loses nothing; one that
// doesn't sends a request to nobody.
func TestBlind(t *testing.T) {
	for _, blind := range []time.Duration{0, time.Hour} {
		ctx, cancel := context.WithCancel(deadline(t))
		l := strict.Load{Network: "tcp", Groups: []strict.Group{{Kind: strict.Post, N: 1}}, Blind: blind}
		l.Addr = misbehaving(t, func(p *peer) {
			r := p.request()
			p.cork()
			p.answer(r, nil)
			p.Close()
		}, cancel)
		r := l.Run(ctx)
		balanced(t, r)
		if failed := r.Total.Failed() == 1; failed != (blind > 0) || r.Total.Ends[strict.ClosedIdle] == 1 == failed {
			t.Errorf("blind for %v: %+v", blind, r.Total)
		}
	}
}
