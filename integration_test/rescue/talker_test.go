//go:build linux

package rescue

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
)

// question is one request and what its answer must be.
type question struct {
	id     string
	method string
	bytes  []byte
	body   []byte // of the answer
	sum    string // of the request's body; "": the handler doesn't read it
	last   bool   // the connection ends with the answer
	stray  bool   // line ends follow
}

func (q *question) head() string {
	head, _, _ := strings.Cut(string(q.bytes), "\r\n\r\n")
	return strings.ReplaceAll(head, "\r\n", "; ")
}

func (r *records) question(last bool) *question {
	q := &question{id: strconv.FormatInt(r.ids.Add(1), 10), method: "GET"}
	var args []string
	for _, a := range []string{"interim", "early", "length", "flush"} {
		if rand.IntN(4) == 0 {
			args = append(args, a+"=1")
		}
	}
	size := rand.IntN(300)
	if rand.IntN(8) == 0 {
		size = rand.IntN(100 << 10)
	}
	args = append(args, fmt.Sprintf("size=%d&pause=%d", size, rand.IntN(2)*rand.IntN(20)))
	q.body = bodyOf(q.id, size)
	var body []byte
	proto, more := "HTTP/1.1", ""
	switch rand.IntN(8) {
	case 0:
		q.method, q.body = "HEAD", nil
	case 1, 2, 3:
		q.method, body = "POST", make([]byte, rand.IntN(1+rand.IntN(30<<10)))
	}
	query := strings.Join(args, "&")
	early := strings.Contains(query, "early")
	if last && rand.IntN(4) == 0 && !early && !strings.Contains(query, "interim") {
		proto, q.last = "HTTP/1.0", true // early, net/http would reset the connection
	}
	for i := range body {
		body[i] = byte(rand.Uint32())
	}
	if !early {
		q.sum = strconv.Itoa(int(crc32.ChecksumIEEE(body)))
	}
	tail := body
	if q.method == "POST" && proto == "HTTP/1.1" && rand.IntN(2) == 0 {
		more, tail = "Transfer-Encoding: chunked\r\n", chunked(body)
	} else if q.method == "POST" {
		more = fmt.Sprintf("Content-Length: %d\r\n", len(body))
		if rand.IntN(4) == 0 && !q.last {
			tail, q.stray = append(tail, "\r\n"...), true // as old clients do
		}
	}
	q.bytes = fmt.Appendf(nil, "%s /record?%s %s\r\nHost: test\r\n%s: %s\r\n%s\r\n", q.method, query, proto, strict.HeaderID, q.id, more)
	q.bytes = append(q.bytes, tail...)
	return q
}

func chunked(b []byte) (out []byte) {
	for len(b) > 0 {
		n := 1 + rand.IntN(len(b))
		out = fmt.Appendf(out, "%x\r\n%s\r\n", n, b[:n])
		b = b[n:]
	}
	return append(out, "0\r\n\r\n"...)
}

// client has one connection after the other.
func (r *records) client() {
	for {
		select {
		case <-r.stop:
			return
		default:
		}
		nc, err := net.Dial("tcp", r.addr)
		if err != nil {
			r.fault("connect: %v", err)
			return
		}
		nc.SetDeadline(time.Now().Add(time.Minute))
		c := &talker{records: r, TCPConn: nc.(*net.TCPConn), br: bufio.NewReader(nc)}
		for c.batch() && !r.churn && c.rest() {
		}
		nc.Close()
	}
}

type talker struct {
	*records
	*net.TCPConn
	br *bufio.Reader
}

// rest is the time between two exchanges, in which nothing must happen.
func (c *talker) rest() bool {
	select {
	case <-c.stop:
		return false
	default:
	}
	if rand.IntN(2) == 0 {
		return true
	}
	c.SetReadDeadline(time.Now().Add(rand.N(50 * time.Millisecond)))
	_, err := c.br.Peek(1)
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	c.fault("an idle connection ends: %v", err)
	return false
}

// batch sends requests at once, and reads their answers. It reports whether the
// connection goes on.
func (c *talker) batch() bool {
	var all []*question
	var bytes []byte
	n := 1
	if !c.churn {
		n += rand.IntN(1 + rand.IntN(4))
	}
	for i := range n {
		q := c.question(i == n-1)
		all = append(all, q)
		bytes = append(bytes, q.bytes...)
	}
	ends := rand.IntN(16) == 0
	var sender sync.WaitGroup
	sender.Go(func() {
		c.send(bytes)
		if ends {
			c.CloseWrite()
		}
	})
	defer sender.Wait()
	for i, q := range all {
		if !c.answer(q, i == n-1) {
			for _, behind := range all[i+1:] {
				c.note(behind.id, "nothing")
			}
			c.SetWriteDeadline(time.Unix(1, 0)) // nobody reads any more
			return false
		}
	}
	if ends {
		c.end("after our own end")
	}
	return !ends
}

// send cuts anywhere, sometimes with a pause.
func (c *talker) send(b []byte) {
	for len(b) > 0 {
		n := len(b)
		if rand.IntN(3) == 0 {
			n = 1 + rand.IntN(n)
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
		if len(b) > 0 && rand.IntN(3) == 0 {
			proctest.Pace(rand.N(20 * time.Millisecond))
		}
	}
}

// answer reads one, and reports whether the connection goes on.
func (c *talker) answer(q *question, last bool) bool {
	var resp *http.Response
	for resp == nil || resp.StatusCode < 200 {
		if _, err := c.br.Peek(1); err != nil {
			c.fault("request %s: no answer: %v", q.id, err)
			return false
		}
		var err error
		if resp, err = http.ReadResponse(c.br, &http.Request{Method: q.method}); err != nil {
			c.cut(q, err)
			return false
		}
	}
	body, err := io.ReadAll(resp.Body)
	if resp.Close && (q.stray || !last) && resp.StatusCode == 200 && errors.Is(err, syscall.ECONNRESET) {
		c.note(q.id, "cut") // net/http doesn't wait until what it hasn't read is gone
		return false
	}
	if resp.StatusCode >= 500 {
		c.note(q.id, strconv.Itoa(resp.StatusCode))
		if id := resp.Header.Get(strict.HeaderID); id != "" || !resp.Close || err != nil {
			c.fault("request %s: %s with id %q, close %v, %v", q.id, resp.Status, id, resp.Close, err)
		}
		c.end("behind a " + resp.Status)
		return false
	}
	if id := resp.Header.Get(strict.HeaderID); id != q.id || resp.StatusCode != 200 || resp.Header.Get("X-Sum") != q.sum {
		c.fault("request %s: %s, the answer to %q, sum %q for %q", q.id, resp.Status, id, resp.Header.Get("X-Sum"), q.sum)
		return false
	}
	switch whole := bytes.Equal(body, q.body); {
	case err != nil && bytes.HasPrefix(q.body, body):
		c.cut(q, err)
		return false
	case err == nil && resp.ProtoMinor == 0 && resp.ContentLength < 0 && !whole && bytes.HasPrefix(q.body, body):
		c.note(q.id, "cut") // there is no other way to see it
		return false
	case err != nil || !whole:
		c.fault("request %s: a body of %d bytes is not the right one of %d: %v", q.id, len(body), len(q.body), err)
		return false
	}
	c.note(q.id, "answered")
	if resp.Close && (q.stray || !last) {
		return false
	}
	if resp.Close {
		c.end("behind the last answer, to " + q.head())
	} else if last && c.br.Buffered() > 0 {
		rest, _ := c.br.Peek(c.br.Buffered())
		c.fault("request %s: behind its answer: %q", q.id, rest)
	}
	return !resp.Close
}

func (c *talker) cut(q *question, err error) {
	c.note(q.id, "cut")
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		c.fault("within the answer to %s: %v", q.head(), err)
	}
}

// end requires that the connection ends, and nothing comes before.
func (c *talker) end(when string) {
	if rest, err := io.ReadAll(c.br); err != nil || len(rest) > 0 {
		c.fault("%s: %q, %v", when, rest, err)
	}
}
