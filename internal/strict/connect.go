package strict

import (
	"context"
	"sync"
	"time"
)

// openLoop begins requests when they are due, each on a connection of its own,
// however long earlier ones take: a service that stalls is seen as by its users.
func (c *client) openLoop(ctx context.Context) {
	if c.group.Rate <= 0 {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for due := time.Now(); ; {
		due = due.Add(time.Duration(c.rand.ExpFloat64() / c.group.Rate * float64(time.Second)))
		hold(ctx, time.Until(due))
		if ctx.Err() != nil {
			return
		}
		q := c.echo(c.group.Size)
		q.header = "Connection: close\r\n"
		wg.Go(func() { c.once(q, due) })
	}
}

// once makes one request on a new connection.
func (c *client) once(q *request, due time.Time) {
	c.rec.began(Connect, q)
	cn, f := c.dial()
	if f != nil {
		c.rec.failed(Connect, q, f)
		return
	}
	defer cn.Close()
	cn.send(q.bytes(c.host), c.load.Timeout)
	a, f := cn.receive(q, c.load.Timeout)
	if f != nil {
		c.rec.failed(Connect, q, f)
	} else {
		c.rec.answered(Connect, q, a, false, time.Since(due))
	}
	if f != nil && !f.kept() {
		c.rec.ended(Connect, Lost)
		return
	}
	c.rec.ended(Connect, Ours)
}
