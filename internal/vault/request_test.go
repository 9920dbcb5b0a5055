//go:build linux

package vault

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

type request struct {
	id, method, mode string
	size, slow       int
	proto            string
	body             []byte
	chunked          bool
	late             bool
	interim          bool
	mayEnd           bool // the connection may end after the answer
}

// behavior is what a client does.
type behavior struct {
	pipeline bool          // up to four requests at once
	think    time.Duration // at most, between two exchanges
	simple   bool          // GET only
	rude     bool          // closes its side early, or goes away in the middle
	churn    bool          // a new connection for each exchange
	unknown  bool          // the worker says Unknown for pipelined requests
}

func (t *tally) newRequest(b behavior) request {
	r := request{id: strconv.FormatInt(t.ids.Add(1), 10), method: "GET", proto: "HTTP/1.1", size: rand.IntN(200)}
	if b.simple {
		return r
	}
	switch rand.IntN(8) {
	case 0:
		r.method = "HEAD"
	case 1, 2, 3, 4:
		r.method = "POST"
		r.body = make([]byte, rand.IntN(30<<10))
		r.chunked = rand.IntN(3) == 0
		r.late = rand.IntN(4) == 0
	}
	switch rand.IntN(8) {
	case 0:
		r.size = rand.IntN(200 << 10)
	case 1, 2:
		r.mode = "chunked"
	case 3:
		r.mode, r.size = "204", 0
	case 4:
		if !b.pipeline {
			r.mode = "close"
		}
	}
	if rand.IntN(2) == 0 {
		r.slow = rand.IntN(20)
	}
	r.interim = rand.IntN(4) == 0
	r.mayEnd = r.late
	if !b.pipeline && !r.interim && r.mode != "chunked" && !r.chunked && rand.IntN(16) == 0 {
		r.proto, r.mode = "HTTP/1.0", "close"
	}
	return r
}

func (r *request) bytes() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s /%s?mode=%s&size=%d&slow=%d", r.method, r.id, r.mode, r.size, r.slow)
	if r.late {
		b.WriteString("&late=1")
	}
	if r.interim {
		b.WriteString("&interim=1")
	}
	fmt.Fprintf(&b, " %s\r\nhost: x\r\n", r.proto)
	switch {
	case r.chunked:
		b.WriteString("transfer-encoding: Chunked\r\n\r\n")
		for rest := r.body; len(rest) > 0; {
			n := 1 + rand.IntN(len(rest))
			fmt.Fprintf(&b, "%X;x=y\r\n%s\r\n", n, rest[:n])
			rest = rest[n:]
		}
		b.WriteString("0\r\n\r\n")
	case r.body != nil:
		fmt.Fprintf(&b, "CONTENT-LENGTH: %d\r\n\r\n%s", len(r.body), r.body)
	default:
		b.WriteString("\r\n")
	}
	return b.Bytes()
}

func (q *request) brief() string {
	if q == nil {
		return "nothing"
	}
	return fmt.Sprintf("%s %s %s mode=%s size=%d body=%d chunked=%v late=%v interim=%v",
		q.proto, q.method, q.id, q.mode, q.size, len(q.body), q.chunked, q.late, q.interim)
}

// A head that comes byte by byte isn't read anew for each: of a long one that would
// take a second.
func TestHeadInManyPieces(t *testing.T) {
	for _, end := range []string{"\r\n\r\n", "\n\n", "\r\n\n", "\n\r\n"} {
		table := &Table{lines: make([]line, 10)}
		a := &Account{table: table, fd: 5}
		a.Boundary(0, 0)
		const begin = "POST / HTTP/1.1\r\nContent-Length: 3"
		a.Read([]byte(begin))
		a.req.Head = 1 // what is read anew is forgotten
		for _, c := range []byte("\r\nA: b\r\nC: d") {
			a.Read([]byte{c})
		}
		if a.req.Head != 1 {
			t.Error("a part of a head was read twice")
		}
		for _, c := range []byte(end + "abc") {
			a.Read([]byte{c})
		}
		a.Active()
		if want := uint64(len(begin+"\r\nA: b\r\nC: d"+end) + 3); table.lines[5].reqEnd != want {
			t.Errorf("head that ends with %q: its request ends at %d, want %d", end, table.lines[5].reqEnd, want)
		}
	}
}
