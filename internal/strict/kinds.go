package strict

import (
	"fmt"
	"net/http"
	"time"
)

// A kind's own pause and delay, and how it makes its next exchange; nil: it has
// a loop of its own.
type kind struct {
	pause, delay time.Duration
	next         func(*client) exchange
}

var kinds = map[Kind]kind{
	Get:       {10 * time.Millisecond, 0, (*client).get},
	Post:      {10 * time.Millisecond, 0, (*client).post},
	Split:     {10 * time.Millisecond, 5 * time.Millisecond, (*client).split},
	Pipelined: {10 * time.Millisecond, 2 * time.Millisecond, (*client).pipelined},
	Slow:      {10 * time.Millisecond, 40 * time.Millisecond, (*client).slow},
	Expect:    {10 * time.Millisecond, 0, (*client).expect},
	Unread:    {10 * time.Millisecond, 0, (*client).unread},
	CRLF:      {10 * time.Millisecond, 0, (*client).crlf},
	Idle:      {time.Second, 0, (*client).post},
	HalfHead:  {10 * time.Millisecond, 200 * time.Millisecond, (*client).halfHead},
	Long:      {10 * time.Millisecond, 2 * time.Second, (*client).long},
	Upgraded:  {50 * time.Millisecond, 0, nil},
	Connect:   {0, 0, nil},
}

func (g Group) filled() Group {
	k, ok := kinds[g.Kind]
	if !ok {
		panic(fmt.Sprintf("strict: no kind %q", g.Kind))
	}
	if g.Pause == 0 {
		g.Pause = k.pause
	}
	if g.Delay == 0 {
		g.Delay = k.delay
	}
	if g.Size == 0 {
		g.Size = DefaultSize
	}
	return g
}

func (c *client) request(method, path string) *request {
	c.sent++
	return &request{id: fmt.Sprintf("%s-%d", c.name, c.sent), method: method, path: path, status: http.StatusOK}
}

func (c *client) echo(size int) *request {
	q := c.request(http.MethodPost, "/echo")
	q.body, q.echo = c.bytes(size), true
	return q
}

func (c *client) sleep(d time.Duration) *request {
	q := c.request(http.MethodGet, fmt.Sprintf("/slow?ms=%d", d.Milliseconds()))
	q.asked = d.Truncate(time.Millisecond)
	return q
}

func (c *client) size() int { return c.rand.IntN(c.group.Size + 1) }

func (c *client) get() exchange {
	q := c.request(http.MethodGet, "/")
	q.names = true
	return whole(c.host, q)
}

func (c *client) post() exchange { return whole(c.host, c.echo(c.group.Size)) }

func (c *client) split() exchange {
	return whole(c.host, c.echo(c.size())).cut(c.rand, 2+c.rand.IntN(5), c.group.Delay)
}

func (c *client) pipelined() exchange {
	var qs []*request
	for range 1 + c.rand.IntN(5) {
		qs = append(qs, c.echo(c.size()))
	}
	return whole(c.host, qs...).cut(c.rand, 1+c.rand.IntN(3), c.group.Delay)
}

func (c *client) slow() exchange {
	return whole(c.host, c.sleep(upTo(c.rand, c.group.Delay)))
}

func (c *client) long() exchange { return whole(c.host, c.sleep(c.group.Delay)) }

func (c *client) expect() exchange {
	q := c.echo(1 + c.size())
	q.header, q.expects = "Expect: 100-continue\r\n", true
	return exchange{[]*request{q}, []piece{{data: q.head(c.host)}, {data: q.body, expects: true}}}
}

func (c *client) unread() exchange {
	q := c.request(http.MethodPost, "/pid")
	q.body = c.bytes(c.size())
	return whole(c.host, q)
}

func (c *client) crlf() exchange {
	x := whole(c.host, c.echo(c.size()))
	x.pieces[0].data = append(x.pieces[0].data, "\r\n"...)
	return x
}

func (c *client) halfHead() exchange {
	q := c.echo(c.size())
	b := q.bytes(c.host)
	at := 1 + c.rand.IntN(len(b)-len(q.body)-1)
	return exchange{[]*request{q}, []piece{{data: b[:at]}, {data: b[at:], pause: upTo(c.rand, c.group.Delay)}}}
}

func (c *client) bytes(n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		v := c.rand.Uint64()
		b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24), byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56))
	}
	return b[:n]
}
