//go:build unix

package server

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader"
)

// BenchmarkServer compares the cost of a request with that under bare net/http,
// over loopback on kept-alive connections, client included. What a Server adds is
// above all the request's record: writer and goroutines in one allocation.
func BenchmarkServer(b *testing.B) { besideNetHTTP(b, load) }

func besideNetHTTP(b *testing.B, load func(*testing.B, net.Addr)) {
	h := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "hello, world\n")
	}
	b.Run("bare", func(b *testing.B) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		hs := &http.Server{Handler: http.HandlerFunc(h)}
		go hs.Serve(ln)
		defer hs.Close()
		load(b, ln.Addr())
	})
	b.Run("server", func(b *testing.B) {
		s, err := New(Options{Upgrader: upgrader.Plain(), Log: upgrader.Discard}, web(h))
		if err != nil {
			b.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Run(b.Context()) }()
		<-s.Ready()
		load(b, s.Addr("web"))
		s.Upgrader().Stop()
		<-done
	})
}

// load also reports CPU time, which other work on the machine disturbs less.
func load(b *testing.B, a net.Addr) {
	b.ReportAllocs()
	began := cpu()
	defer func() { b.ReportMetric(float64(cpu()-began)/float64(b.N), "cpu-ns/op") }()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial(a.Network(), a.String())
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		request := []byte("GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
		answer := bufio.NewReader(c)
		for pb.Next() {
			c.Write(request)
			for range 6 { // status, three headers, empty line, body
				if _, err := answer.ReadSlice('\n'); err != nil {
					b.Error(err)
					return
				}
			}
		}
	})
}

// cpu is what this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
