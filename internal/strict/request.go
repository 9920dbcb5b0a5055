package strict

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// request is one to be sent, and what its answer must be.
type request struct {
	id           string
	method, path string
	header       string // more lines of it
	body         []byte
	status       int
	echo         bool          // the answer's body is the request's
	names        bool          // the answer's body holds the id
	expects      bool          // 100 Continue
	asked        time.Duration // what the handler was asked to take
}

// piece is a part of what is sent, after a pause.
type piece struct {
	pause   time.Duration
	expects bool // 100 Continue, before this piece
	data    []byte
}

// exchange is one or several requests in pieces, and as many answers.
type exchange struct {
	requests []*request
	pieces   []piece
}

func (q *request) head(host string) []byte {
	length := ""
	if q.method == http.MethodPost {
		length = fmt.Sprintf("Content-Length: %d\r\n", len(q.body))
	}
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\n%s: %s\r\n%s%s\r\n",
		q.method, q.path, host, HeaderID, q.id, length, q.header)
}

func (q *request) bytes(host string) []byte { return append(q.head(host), q.body...) }

// whole is an exchange of requests sent at once.
func whole(host string, requests ...*request) exchange {
	var b []byte
	for _, q := range requests {
		b = append(b, q.bytes(host)...)
	}
	return exchange{requests, []piece{{data: b}}}
}

// cut splits what x sends into at most n pieces, with a pause of up to d before
// each but the first.
func (x exchange) cut(r *rand.Rand, n int, d time.Duration) exchange {
	var pieces []piece
	b := x.pieces[0].data
	for ; n > 1 && len(b) > 1; n-- {
		at := 1 + r.IntN(len(b)-1)
		pieces = append(pieces, piece{data: b[:at], pause: upTo(r, d)})
		b = b[at:]
	}
	x.pieces = append(pieces, piece{data: b, pause: upTo(r, d)})
	x.pieces[0].pause = 0
	return x
}

// upTo is a random duration from 0 to d.
func upTo(r *rand.Rand, d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(r.Int64N(int64(d) + 1))
}
