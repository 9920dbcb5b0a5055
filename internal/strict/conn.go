package strict

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// conn is a client's connection.
type conn struct {
	net.Conn
	br         *bufio.Reader
	generation int   // of the last answer; 0: none yet
	werr       error // of the last write
}

func newConn(c net.Conn) *conn { return &conn{Conn: c, br: bufio.NewReader(c)} }

// answer is one that was complete and right.
type answer struct {
	generation int
	pid        int
	close      bool // it announced the connection's end
}

// watch waits for d, or until ctx is done, and tells at once if something comes
// from a server that was asked nothing.
func (c *conn) watch(ctx context.Context, d time.Duration) error {
	// Nobody else sets deadlines now, and after ctx is done there is no next request.
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	c.SetReadDeadline(time.Now().Add(d))
	_, err := c.br.Peek(1)
	if timedOut(err) {
		return nil
	}
	return unasked(err)
}

var errUnasked = errors.New("bytes that nobody asked for")

// unasked tells what a read's end means on an idle connection.
func unasked(err error) error {
	if err == nil {
		return errUnasked
	}
	return err
}

// send writes pieces, and remembers the error if there is one: the server may
// have answered before it stopped reading.
func (c *conn) send(b []byte, timeout time.Duration) bool {
	c.SetWriteDeadline(time.Now().Add(timeout))
	_, c.werr = c.Write(b)
	return c.werr == nil
}

// receive reads the answer to q. It returns nil, nil for 100 Continue where q
// expects it.
func (c *conn) receive(q *request, timeout time.Duration) (*answer, *failure) {
	c.SetReadDeadline(time.Now().Add(timeout + q.asked))
	if _, err := c.br.Peek(1); err != nil {
		return nil, c.failure(err, false)
	}
	resp, err := http.ReadResponse(c.br, &http.Request{Method: q.method})
	if err != nil {
		return nil, c.failure(err, true)
	}
	if q.expects && resp.StatusCode == http.StatusContinue {
		q.expects = false
		return nil, nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, c.failure(err, true)
	}
	a := &answer{close: resp.Close}
	return a, a.check(q, resp, body)
}

// failure is readFailure with what the last write said: an RST is reported once
// only, after it reads end as if by a FIN.
func (c *conn) failure(err error, begun bool) *failure {
	if (err == io.EOF || err == io.ErrUnexpectedEOF) && errors.Is(c.werr, syscall.ECONNRESET) {
		err = c.werr
	}
	return readFailure(err, begun)
}

// check fills in a, and tells what is wrong with it.
func (a *answer) check(q *request, resp *http.Response, body []byte) *failure {
	if resp.StatusCode >= 500 {
		return &failure{Fault: Status, code: resp.StatusCode, detail: fmt.Sprintf("%s %.80q", resp.Status, body)}
	}
	if resp.StatusCode != q.status {
		return wrong("status %s %.80q", resp.Status, body)
	}
	if id := resp.Header.Get(HeaderID); id != q.id {
		return wrong("answer to %q", id)
	}
	var err error
	if a.generation, err = strconv.Atoi(resp.Header.Get(HeaderGeneration)); err != nil || a.generation < 1 {
		return wrong("generation %q", resp.Header.Get(HeaderGeneration))
	}
	a.pid, _ = strconv.Atoi(resp.Header.Get(HeaderPID))
	switch {
	case q.echo && !bytes.Equal(body, q.body):
		return wrong("body of %d bytes is not the request's of %d bytes", len(body), len(q.body))
	case q.names && !bytes.Contains(body, []byte(q.id)):
		return wrong("body without the request's id: %.80q", body)
	}
	return nil
}
