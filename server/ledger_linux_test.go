//go:build linux

package server

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/vault"
)

// reads gives b to the account in pieces, as net/http would read it.
func reads(a *account, b []byte, piece func() int) {
	for len(b) > 0 {
		n := min(len(b), piece())
		a.Read(b[:n])
		b = b[n:]
	}
}

// However a head is cut, its request has the same end.
func TestLedgerFindsTheEndOfARequest(t *testing.T) {
	body := strings.Repeat("b", 10)
	chunked := "5\r\nhello\r\n0\r\n\r\n"
	for _, c := range []struct {
		name, head, body string
		kind             vault.Kind
	}{
		{"get", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", vault.Known},
		{"head", "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", "", vault.Known | vault.Head},
		{"old", "GET / HTTP/1.0\r\n\r\n", "", vault.Known | vault.HTTP10},
		{"post", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", body, vault.Known},
		{"chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", chunked, vault.Known},
		{"empty lines first", "\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", body, vault.Known},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, piece := range []func() int{
				func() int { return 1 }, func() int { return 4096 }, func() int { return 1 + rand.IntN(7) },
			} {
				a := &account{}
				a.Boundary(0, 0)
				whole := []byte(c.head + c.body)
				reads(a, whole[:len(c.head)], piece)
				a.Active()
				reads(a, whole[len(c.head):], piece)
				if got := a.rx + a.req.End; got != uint64(len(whole)) || a.req.Kind != c.kind {
					t.Fatalf("the request ends at %d, kind %b; want %d, %b", got, a.req.Kind, len(whole), c.kind)
				}
				// Pipelined: three bytes of the next one were read with it.
				a.Read([]byte("GET"))
				a.Boundary(int64(len(whole)), 0)
				reads(a, []byte(" / HTTP/1.1\r\n\r\n"), piece)
				a.Active()
				if !a.done || a.req.End != uint64(len("GET / HTTP/1.1\r\n\r\n")) {
					t.Fatalf("the next request: %+v", a.req)
				}
			}
		})
	}
}

// A head that never ends costs a bounded amount of memory, and time in
// proportion to its length.
func TestLedgerIsNotDrownedByAHead(t *testing.T) {
	a := &account{}
	a.Boundary(0, 0)
	for range 4 << 20 {
		a.Read([]byte("x"))
	}
	if !a.blind || cap(a.head) > 4*maxHead {
		t.Fatalf("blind %v, %d bytes kept", a.blind, cap(a.head))
	}
}

func BenchmarkLedger(b *testing.B) {
	request := []byte("GET /index.html HTTP/1.1\r\nHost: localhost\r\nUser-Agent: wrk\r\nAccept: */*\r\n\r\n")
	response := []byte("HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 21:00:00 GMT\r\nContent-Length: 12\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello world\n")
	a := &account{}
	var read, written int64
	b.ReportAllocs()
	for b.Loop() {
		a.Boundary(read, written)
		a.Read(request)
		a.Active()
		a.Write(response)
		read, written = read+int64(len(request)), written+int64(len(response))
	}
}
