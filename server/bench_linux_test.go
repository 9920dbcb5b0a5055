package server

import (
	"bufio"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkColdServer is BenchmarkServer with empty caches, as a request finds them
// that comes some milliseconds after the last one: it costs several times as much, and
// a cache line counts more than an instruction. cpu-ns/op is without the client. Bind
// it to one processor, with taskset(1), and take the median of several runs.
func BenchmarkColdServer(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	get := "GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
	post := "POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024)
	b.Run("get", func(b *testing.B) {
		besideNetHTTP(b, func(b *testing.B, a net.Addr) { coldLoad(b, a, get, false) })
	})
	b.Run("post", func(b *testing.B) {
		besideNetHTTP(b, func(b *testing.B, a net.Addr) { coldLoad(b, a, post, false) })
	})
	b.Run("connect", func(b *testing.B) {
		besideNetHTTP(b, func(b *testing.B, a net.Addr) { coldLoad(b, a, get, true) })
	})
}

// coldLoad sends requests, each on a connection of its own if fresh.
func coldLoad(b *testing.B, a net.Addr, request string, fresh bool) {
	runtime.LockOSThread() // whose time is not the server's
	defer runtime.UnlockOSThread()
	caches := make([]byte, 16<<20)
	var c net.Conn
	answer := bufio.NewReader(nil)
	process, client := clock(b, unix.CLOCK_PROCESS_CPUTIME_ID), clock(b, unix.CLOCK_THREAD_CPUTIME_ID)
	for b.Loop() {
		for i := 0; i < len(caches); i += 64 {
			caches[i]++
		}
		if c == nil || fresh {
			var err error
			if c, err = net.Dial(a.Network(), a.String()); err != nil {
				b.Fatal(err)
			}
			answer.Reset(c)
		}
		io.WriteString(c, request)
		for range 6 { // see load
			if _, err := answer.ReadSlice('\n'); err != nil {
				b.Fatal(err)
			}
		}
		if fresh {
			c.Close()
		}
	}
	c.Close()
	process, client = clock(b, unix.CLOCK_PROCESS_CPUTIME_ID)-process, clock(b, unix.CLOCK_THREAD_CPUTIME_ID)-client
	b.ReportMetric(float64(process-client)/float64(b.N), "cpu-ns/op")
}

func clock(b *testing.B, id int32) int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		b.Fatal(err)
	}
	return t.Nano()
}
