package strict

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"syscall"
	"time"
)

// client has one connection after the other: seen from the service each of them
// is a client of its own.
type client struct {
	*Running
	group  Group
	rand   *rand.Rand
	name   string
	host   string // the header
	sent   int    // requests
	dialer net.Dialer
}

const (
	// retryPause keeps clients from spinning before a server that fails them all.
	retryPause = 20 * time.Millisecond
	// silence is the mean time before the first request of a connection.
	silence = 50 * time.Millisecond
)

func (c *client) live(ctx context.Context) {
	talk := c.talk
	switch c.group.Kind {
	case Connect:
		c.openLoop(ctx)
		return
	case Upgraded:
		talk = c.converse
	}
	for ctx.Err() == nil {
		cn, f := c.dial()
		if f != nil {
			c.failed("connect", f)
			hold(ctx, retryPause)
			continue
		}
		end := talk(ctx, cn)
		cn.Close()
		c.rec.ended(c.group.Kind, end)
		if end != Announced {
			hold(ctx, retryPause)
		}
	}
}

// failed records what failed before there was a request.
func (c *client) failed(what string, f *failure) {
	none := &request{id: c.name + "-" + what}
	c.rec.began(c.group.Kind, none)
	c.rec.failed(c.group.Kind, none, f)
}

func (c *client) dial() (*conn, *failure) {
	began := time.Now()
	nc, err := c.dialer.Dial(c.load.Network, c.load.Addr)
	// With a full backlog connect(2) waits, but Go's unix sockets don't block.
	for errors.Is(err, syscall.EAGAIN) && time.Since(began) < c.load.Timeout {
		time.Sleep(time.Millisecond)
		nc, err = c.dialer.Dial(c.load.Network, c.load.Addr)
	}
	if err != nil {
		return nil, connectFailure(err)
	}
	c.rec.connected(c.group.Kind)
	return newConn(nc), nil
}

// talk uses a connection until it ends, or ctx is done.
func (c *client) talk(ctx context.Context, cn *conn) End {
	next := kinds[c.group.Kind].next
	end := c.rest(ctx, cn, min(c.group.Pause, silence))
	for end == "" {
		if end = c.exchange(ctx, cn, next(c)); end == "" {
			end = c.rest(ctx, cn, c.group.Pause)
		}
	}
	return end
}

// rest is a pause between two requests. It returns how the connection ended.
func (c *client) rest(ctx context.Context, cn *conn, mean time.Duration) End {
	pause := upTo(c.rand, 2*mean)
	err := error(nil)
	if d := pause - c.load.Blind; d > 0 {
		err = cn.watch(ctx, d)
	}
	if c.load.Blind > 0 && err == nil {
		hold(ctx, min(pause, c.load.Blind))
	} else if err == nil {
		err = cn.look()
	}
	switch {
	case err == nil && ctx.Err() == nil:
		return ""
	case err == nil:
		return Ours
	case err == errUnasked:
		c.failed("none", wrong("%v", err))
		return Lost
	case errors.Is(err, syscall.ECONNRESET):
		return ResetIdle
	}
	return ClosedIdle
}

// exchange sends x and reads the answers. It returns how the connection ended.
func (c *client) exchange(ctx context.Context, cn *conn, x exchange) End {
	c.rec.began(c.group.Kind, x.requests...)
	for _, p := range x.pieces {
		hold(ctx, p.pause)
		if p.expects {
			if a, f := cn.receive(x.requests[0], c.load.Timeout); a != nil || f != nil {
				return c.refusedBody(cn, x, a, f)
			}
		}
		if !cn.send(p.data, c.load.Timeout) {
			break
		}
	}
	sent := time.Now()
	for i, q := range x.requests {
		a, f := cn.receive(q, c.load.Timeout)
		if end := c.record(cn, x, sent, i, a, f); end != "" {
			return end
		}
	}
	return ""
}

// refusedBody records an answer that came in place of 100 Continue. Without the
// body, which nobody wants now, the connection is of no further use.
func (c *client) refusedBody(cn *conn, x exchange, a *answer, f *failure) End {
	if end := c.record(cn, x, time.Now(), 0, a, f); end != "" {
		return end
	}
	return Ours
}

// record counts the answer to the ith request of x. It returns how the
// connection ended, having counted the requests behind as lost.
func (c *client) record(cn *conn, x exchange, sent time.Time, i int, a *answer, f *failure) End {
	q := x.requests[i]
	last := i == len(x.requests)-1
	if f == nil && last && cn.br.Buffered() > 0 {
		f = wrong("%d bytes behind the answer", cn.br.Buffered())
	}
	if f != nil {
		c.rec.failed(c.group.Kind, q, f)
	} else {
		c.rec.answered(c.group.Kind, q, a, cn.moved(a), time.Since(sent)-q.asked)
	}
	switch {
	case f != nil && !f.kept():
		c.abandon(x.requests[i+1:], f.behind())
		return Lost
	case a.close && last:
		return Announced
	case a.close:
		c.abandon(x.requests[i+1:], &failure{Fault: Dropped, detail: "the answer before said Connection: close"})
		return Lost
	}
	return ""
}

func (c *client) abandon(requests []*request, f *failure) {
	for _, q := range requests {
		c.rec.failed(c.group.Kind, q, f)
	}
}

// behind is what a failure means for the requests pipelined behind it.
func (f *failure) behind() *failure {
	b := *f
	switch f.Fault {
	case Cut:
		b.Fault = NoAnswer
	case CutReset:
		b.Fault = Reset
	}
	return &b
}

// moved reports whether a is the first answer on c from another generation.
func (c *conn) moved(a *answer) bool {
	before := c.generation
	c.generation = a.generation
	return before != 0 && before != a.generation
}

// hold waits for d, or until ctx is done.
func hold(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
