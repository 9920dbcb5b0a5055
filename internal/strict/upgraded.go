package strict

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"
)

// converse upgrades the connection, then sends messages and expects each of them
// back. A message counts as a request, answered by the generation that agreed to
// the upgrade.
func (c *client) converse(ctx context.Context, cn *conn) End {
	a, end := c.upgrade(cn)
	for end == "" {
		if end = c.rest(ctx, cn, c.group.Pause); end == "" {
			end = c.message(cn, a)
		}
	}
	return end
}

func (c *client) upgrade(cn *conn) (*answer, End) {
	q := c.request(http.MethodGet, "/long")
	q.header, q.status = "Connection: Upgrade\r\nUpgrade: echo\r\n", http.StatusSwitchingProtocols
	c.rec.began(Upgraded, q)
	sent := time.Now()
	cn.send(q.bytes(c.host), c.load.Timeout)
	a, f := cn.receive(q, c.load.Timeout)
	end := c.record(cn, exchange{requests: []*request{q}}, sent, 0, a, f)
	if end == "" && f != nil {
		end = Ours
	}
	return a, end
}

func (c *client) message(cn *conn, a *answer) End {
	q := c.request("", "")
	q.body = c.bytes(1 + c.size())
	c.rec.began(Upgraded, q)
	sent := time.Now()
	cn.send(q.body, c.load.Timeout)
	cn.SetReadDeadline(time.Now().Add(c.load.Timeout))
	got := make([]byte, len(q.body))
	n, err := io.ReadFull(cn.br, got)
	var f *failure
	if err != nil {
		f = cn.failure(err, n > 0)
	} else if !bytes.Equal(got, q.body) {
		f = wrong("%d bytes came back changed", n)
	}
	return c.record(cn, exchange{requests: []*request{q}}, sent, 0, a, f)
}
