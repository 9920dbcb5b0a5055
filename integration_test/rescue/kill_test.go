//go:build linux

package rescue

import (
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

func (b *bed) dial() (net.Conn, error) {
	c, err := net.Dial(b.network, b.addr)
	if err == nil {
		c.SetDeadline(time.Now().Add(time.Minute))
	}
	return c, err
}

// clients are of every kind that speaks plain HTTP/1.1, most of them idle.
func clients(idle int) []strict.Group {
	return []strict.Group{
		{Kind: strict.Get, N: 4},
		{Kind: strict.Post, N: 6, Size: 30 << 10},
		{Kind: strict.Split, N: 6, Size: 30 << 10},
		{Kind: strict.Slow, N: 8, Delay: 20 * time.Millisecond},
		{Kind: strict.Expect, N: 2},
		{Kind: strict.Unread, N: 2},
		{Kind: strict.CRLF, N: 2},
		{Kind: strict.HalfHead, N: 2},
		{Kind: strict.Pipelined, N: 2},
		{Kind: strict.Connect, Rate: 20},
		{Kind: strict.Idle, N: idle, Pause: 400 * time.Millisecond},
	}
}

// TestKilledAtRandomMoments: idle connections go on, requests are answered.
func TestKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.start()
	l := b.load(clients(soak(100, 300))...)
	kills := soak(8, 100)
	for range kills {
		b.ripen(1)
		proctest.Pace(50*time.Millisecond + rand.N(250*time.Millisecond))
		b.kill()
	}
	r := l.end()
	if err := verdict(r); err != nil {
		t.Error(err)
	}
	st := b.status()
	testenv.Result(t, "%d kills; rescued %+v; clients: %d requests, %d right, faults %v, codes %v; %d connections, ended %v, moved %d",
		kills, st.Rescued, r.Total.Requests, r.Total.OK, r.Total.Faults, r.Total.Codes, r.Total.Connects, r.Total.Ends, r.Total.Moved)
	if st.Rescued == nil || st.Rescued.Idle == 0 || r.Total.Moved == 0 {
		t.Error("nothing was rescued")
	}
}

// TestKilledWithoutRescue is what the others are measured by.
func TestKilledWithoutRescue(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.service().Rescue = "off"
	b.start()
	l := b.load(clients(50)...)
	for range 3 {
		l.up()
		b.kill()
	}
	if r := l.end(); verdict(r) == nil {
		t.Errorf("the test finds nothing wrong: %+v", r.Total)
	}
	if n := len(b.named("tc-vault")); n != 0 {
		t.Errorf("%d vaults", n)
	}
}
