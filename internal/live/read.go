package live

import (
	"errors"
	"io"
	"net"
	"os"

	"github.com/tablecloth-go/tablecloth/internal/handover"
)

// errDetached is what net/http gets for a connection that was given away. It
// must be a timeout: on io.EOF or others within a head net/http would answer.
var errDetached net.Error = detachedError{}

type detachedError struct{}

func (detachedError) Error() string   { return "connection was handed over" }
func (detachedError) Timeout() bool   { return true }
func (detachedError) Temporary() bool { return true }

func (c *conn) read(p []byte) (int, error) {
	switch ph := c.phase(); {
	case ph == detached:
		return 0, errDetached // again: sniffing for HTTP/2 drops the first one
	case ph > idle:
		return c.raw.Read(c.sock, p) // by whomever, several at once perhaps: nothing may be counted
	case c.over != nil:
		return c.readUnder(p, ph)
	case ph == active:
		return c.readBody(p)
	}
	return c.readHead(p)
}

func (c *conn) readBody(p []byte) (int, error) {
	if len(c.head.prefix) > 0 {
		return c.head.deliver(c, p), nil
	}
	if !c.goIn() {
		return 0, errHushed
	}
	var n int
	var err error
	if len(p) == 1 { // net/http listens for what comes behind the request
		n, err = c.receive(p)
	} else {
		n, err = c.raw.Read(c.sock, p)
	}
	c.goOut()
	c.head.count(c, p[:n])
	return n, err
}

// errHushed is what a read gets whose deadline had passed before it began.
var errHushed error = &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}

// goIn is before a read from the socket during a request; false: its deadline has
// passed. net/http starts such a read for each request, in a goroutine, and ends it
// with the answer by a deadline in the past. Mostly it has not begun by then: so
// the socket needn't know of that deadline, nor that it is taken back.
func (c *conn) goIn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hushed {
		return false
	}
	c.inside++
	return true
}

func (c *conn) goOut() {
	c.mu.Lock()
	c.inside--
	c.mu.Unlock()
}

// readHead reads between two requests. Every byte that it returns belongs to the
// next request.
func (c *conn) readHead(p []byte) (int, error) {
	h := &c.head
	if h.atBoundary {
		h.begin(c, len(p))
	} else if h.skipped {
		h.known = false // its end was seen, and yet net/http wants more of it
	}
	if len(h.prefix) > 0 {
		n := h.deliver(c, p)
		h.keep(c, p[:n])
		return n, nil
	}
	for {
		if err := c.obey(); err != nil {
			return 0, err
		}
		n, err := c.receive(p)
		if n > 0 {
			h.count(c, p[:n])
			if c.idling {
				c.talks()
			}
			if n = h.strip(p[:n]); n == 0 {
				continue
			}
			h.keep(c, p[:n])
			return n, err
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && c.unkick() {
			continue
		}
		return n, err
	}
}

// receive reads from the socket what may be the beginning of a request.
func (c *conn) receive(p []byte) (int, error) {
	if c.account != nil && len(p) > 0 {
		if first := c.account.First(); first != nil {
			return c.raw.ReadScattered(c.sock, first, p)
		}
	}
	return c.raw.Read(c.sock, p)
}

// readUnder reads for what lies between net/http and the connection.
func (c *conn) readUnder(p []byte, ph phase) (int, error) {
	for {
		if ph.between() && c.record.whole(ph) {
			if err := c.obey(); err != nil {
				return 0, err
			}
		}
		n, err := c.raw.Read(c.sock, p)
		if n > 0 {
			c.record.count(p[:n])
			if ph == fresh {
				c.since.Store(now()) // shaking hands is no idleness
			}
		}
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.unkick() {
			continue
		}
		return n, err
	}
}

// obey does what a drain wants of a connection between two requests; an error
// ends it for net/http.
func (c *conn) obey() error {
	d := c.table.drain.Load()
	if d == nil {
		return nil
	}
	switch d.plan(c) {
	case move:
		return c.leave(d)
	case finish:
		return c.finish(d)
	}
	return nil
}

// leave detaches the connection, unless nobody can tell where its next request
// begins: then the one that is being read is served here.
func (c *conn) leave(d *drain) error {
	if !c.head.known || len(c.head.bytes) > handover.MaxPrefix {
		return nil
	}
	switch d.reserve() {
	case finish:
		c.stay.Store(true)
		return c.finish(d)
	case serve:
		return nil
	}
	it := c.item()
	c.mu.Lock()
	if !c.phase().between() { // http.Server.Close was faster
		c.mu.Unlock()
		d.sender.Release()
		return net.ErrClosed
	}
	c.enter(detached)
	c.mu.Unlock()
	c.table.give(d, it)
	c.table.forget(c) // last: until the item is queued a drain must see one of the two
	return errDetached
}

// finish closes the connection when its grace is over and nothing of a next
// request has come.
func (c *conn) finish(d *drain) error {
	if h := &c.head; c.over == nil && (!h.known || h.skipped || len(h.bytes) > 0) {
		return nil
	}
	end := d.silenceEnd(c)
	if now() < end {
		c.kickAt(at(end))
		return nil
	}
	if waiting(c.sock) {
		return nil
	}
	c.culled.Store(true)
	return io.EOF
}
