//go:build linux

package integration

import (
	"slices"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// everyKind is strict clients of every kind whose connections are to move.
func everyKind() []strict.Group {
	return []strict.Group{{Kind: strict.Get, N: 2}, {Kind: strict.Post, N: 2}, {Kind: strict.Split, N: 3},
		{Kind: strict.Pipelined, N: 3}, {Kind: strict.Slow, N: 3}, {Kind: strict.Expect, N: 2}, {Kind: strict.Unread, N: 2},
		{Kind: strict.CRLF, N: 2}, {Kind: strict.Idle, N: 5}, {Kind: strict.HalfHead, N: 3}, {Kind: strict.Connect, Rate: 50}}
}

// Strict clients can't tell that there was an upgrade.
func TestConnectionsMove(t *testing.T) {
	run(t, bothModes, func(t *testing.T, b *bed) {
		b.demo("--kill-timeout", "30s")
		tcp := startLoad(t, "tcp", b.tcp(), everyKind()...)
		unix := startLoad(t, "unix", b.unix, everyKind()...)
		tcp.sees(1)
		unix.sees(1)
		n := testenv.Count(8, 300)
		for g := 2; g <= n+1; g++ {
			b.mustUpgrade()
			tcp.sees(g)
			unix.sees(g)
		}
		for network, l := range map[string]*load{"tcp": tcp, "unix": unix} {
			r := l.stop()
			wantUnbroken(t, r, n+1)
			testenv.Result(t, "%s: %d upgrades, %d requests, %d failed, %d connections, %d times kept over an upgrade, %d ended by the service",
				network, n, r.Total.Requests, r.Total.Failed(), r.Total.Connects, r.Total.Moved, ended(r))
		}
		if n := b.count("DATA RACE|panic"); n > 0 {
			t.Errorf("%d lines of trouble in the log", n)
		}
	})
}

func ended(r *strict.Report) (n int64) {
	for end, count := range r.Total.Ends {
		if end != strict.Ours {
			n += count
		}
	}
	return n
}

// With the handover off the same clients notice.
func TestConnectionsDontMoveByThemselves(t *testing.T) {
	run(t, bothModes, func(t *testing.T, b *bed) {
		// Where idle connections are closed after a while, who sends at that moment loses.
		b.serve(settings{HandoverOff: true, IdleGrace: time.Minute, KillTimeout: time.Minute})
		// What is pipelined behind an announced end is lost without the handover.
		kinds := slices.DeleteFunc(everyKind(), func(g strict.Group) bool { return g.Kind == strict.Pipelined })
		l := startLoad(t, "tcp", b.tcp(), kinds...)
		l.sees(1)
		for g := 2; g <= 3; g++ {
			b.mustUpgrade()
			l.sees(g)
		}
		r := l.stop()
		if err := r.Err(); err != nil {
			t.Errorf("the drain itself must lose nothing: %v", err)
		}
		if unbroken(r) == nil {
			t.Errorf("no connection was ended: %v", r.Total.Ends)
		}
		if n := r.Total.Moved; n > 0 {
			t.Errorf("%d connections have moved", n)
		}
	})
}

// A successor with too few descriptors takes as many connections as it has room
// for. The others are told to come back, with an answer.
func TestSuccessorWithFewDescriptors(t *testing.T) {
	run(t, bothModes, func(t *testing.T, b *bed) {
		const n, limit = 200, 240 // of which an eighth is kept for other things
		set := settings{Web: []string{"127.0.0.1:0"}, IdleGrace: time.Minute, KillTimeout: time.Minute}
		b.serve(set)
		l := startLoad(t, "tcp", b.tcp(), strict.Group{Kind: strict.Idle, N: n, Pause: 2 * time.Second})
		l.sees(1)
		b.poll("all connections", func() bool {
			c := l.Snapshot().Total
			return c.Connects >= n && c.OK >= n
		})
		set.Descriptors = limit
		b.set(set)
		b.mustUpgrade()
		b.poll("the end of the handover", func() bool { return b.count("handed over") == 1 })
		b.poll("answers of both generations", func() bool {
			c := l.Snapshot().Total
			return c.Moved >= n/2 && c.Ends[strict.Announced] > 0
		})
		r := l.stop()
		if err := r.Err(); err != nil {
			t.Error(err)
		}
		if told := r.Total.Ends[strict.Announced]; told == 0 || told > n/2 || ended(r) != told {
			t.Errorf("%d connections told to come back; ends %v", told, r.Total.Ends)
		}
		if k := b.count("some connections don't move.*too few descriptors"); k != 1 {
			t.Errorf("%d lines about it in the log, want 1", k)
		}
	})
}

// New connections in a steady stream: none is refused, none reset.
func TestNewConnections(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.demo()
		rate := float64(testenv.Count(50, 1000)) // a race detector on a busy machine can take no more
		l := startLoad(t, "tcp", b.tcp(), strict.Group{Kind: strict.Connect, Rate: rate, Size: 100})
		n := testenv.Count(20, 100)
		for g := 2; g <= n+1; g++ {
			b.hup()
			b.ready()
			l.sees(g)
		}
		r := l.stop()
		if err := unbroken(r); err != nil {
			t.Error(err)
		}
		testenv.Result(t, "%d upgrades, %d connections at %.0f/s, %d refused, %d reset", n, r.Total.Connects, rate,
			r.Total.Faults[strict.Refused], r.Total.Faults[strict.Reset])
	})
}
