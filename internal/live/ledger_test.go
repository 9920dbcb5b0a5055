//go:build unix

package live

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// books is a Ledger that checks what it is told.
type books struct {
	mu       sync.Mutex
	wrong    []string
	open     int
	accounts int
	requests int
	knows    int // boundaries
}

type entry struct {
	b             *books
	fd            int
	read, written int64
	closed, left  bool
	claimed       bool
	between       bool
	first         [4]byte
}

func (b *books) Accepted(fd int) Account { return b.Open(fd, nil) }

func (b *books) Open(fd int, prefix []byte) Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open++
	b.accounts++
	return &entry{b: b, fd: fd, between: true}
}

func (b *books) Claim(fd int, prefix []byte) Account {
	a := b.Open(fd, prefix).(*entry)
	a.claimed = true
	return a
}

// Own comes before anything else.
func (e *entry) Own() {
	e.do(func() {
		e.check(e.claimed, "owned twice")
		e.claimed = false
	})
}

func (e *entry) do(f func()) {
	e.b.mu.Lock()
	defer e.b.mu.Unlock()
	if e.closed || e.left {
		e.b.wrong = append(e.b.wrong, "used after Leave or Close")
	}
	f()
}

func (e *entry) check(ok bool, format string, args ...any) {
	if !ok {
		e.b.wrong = append(e.b.wrong, fmt.Sprintf(format, args...))
	}
}

func (e *entry) Boundary(read, written int64) {
	e.do(func() {
		e.check(!e.claimed, "not owned yet")
		e.b.knows++
		e.between = true
		e.check(read <= e.read && read >= e.read-3, "boundary at %d of %d read", read, e.read)
		e.check(written == e.written, "boundary at %d of %d written", written, e.written)
	})
}

func (e *entry) Unknown(written int64) {
	e.do(func() {
		e.between = true
		e.check(written == e.written, "unknown at %d of %d written", written, e.written)
	})
}

// First is asked for now and then only, so that both ways of reading are tested.
func (e *entry) First() []byte {
	if e.read%3 == 0 {
		return nil
	}
	return e.first[:]
}

func (e *entry) Read(p []byte) { e.do(func() { e.read += int64(len(p)) }) }
func (e *entry) Active() {
	e.do(func() {
		e.check(e.between, "active without a boundary")
		e.between = false
		e.b.requests++
	})
}
func (e *entry) Write(p []byte) { e.do(func() { e.written += int64(len(p)) }) }
func (e *entry) Copied(n int64) { e.do(func() { e.written += n }) }
func (e *entry) Leave()         { e.do(func() { e.left = true }) }

func (e *entry) Back(prefix int) {
	e.left = false
	e.do(func() { e.read -= int64(prefix) })
}
func (e *entry) Pin() { e.do(func() {}) }

func (e *entry) Close() {
	e.left = false
	e.do(func() { e.closed = true; e.b.open-- })
}

func TestLedger(t *testing.T) {
	b := new(books)
	sides := pair(t, "tcp", func(c *Config, _ *http.Server) { c.Ledger = b })
	r := load(t, sides[0], everyKind(20), func(context.Context) {
		for i := range 10 {
			someRequests(t, sides[i%2])
			swap(proctest.Context(t), t, sides[i%2], sides[(i+1)%2])
		}
	})
	if r.Total.Failed() != 0 || closedByServer(r) != 0 {
		t.Fatalf("failed %v, ends %v", r.Total.Faults, r.Total.Ends)
	}
	proctest.Poll(t, "all accounts closed", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.open == 0
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.wrong) > 0 {
		t.Fatal(len(b.wrong), b.wrong[:min(len(b.wrong), 10)])
	}
	if b.requests < int(r.Total.OK) || b.knows == 0 {
		t.Fatal(b.requests, r.Total.OK, b.knows)
	}
}
