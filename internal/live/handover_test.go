//go:build unix

package live

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/gate"
	"github.com/tablecloth-go/tablecloth/internal/handover"
	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
)

// links connects two generations in one process.
func links(t testing.TB) (from, to *link.Conn) {
	t.Helper()
	a, f, err := link.Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(f.Fd()))
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	b, err := link.New(fd)
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// share gives each of n generations a listener of its own for the same socket.
func share(t testing.TB, sock gate.Socket, n int) []gate.Socket {
	t.Helper()
	all := []gate.Socket{sock}
	for range n - 1 {
		fd := -1
		raw, err := sock.SyscallConn()
		if err == nil {
			err = raw.Control(func(s uintptr) { fd, err = unix.Dup(int(s)) })
		}
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "listener")
		l, err := netFileListener(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

// swap hands everything that from has over to to, and returns what was adopted.
func swap(ctx context.Context, t testing.TB, from, to *side) int {
	t.Helper()
	n, err := tryse(ctx, t, from, to)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func tryse(ctx context.Context, t testing.TB, from, to *side) (int, error) {
	a, b := links(t)
	s := handover.NewSender(a, handover.SenderConfig{Dead: make(chan struct{}), Log: quiet})
	var got handover.Received
	var rerr error
	var wg sync.WaitGroup
	wg.Go(func() {
		got, rerr = handover.Receive(ctx, b, handover.ReceiverConfig{
			Targets: map[string]handover.Target{"web": to}, Log: quiet,
		})
	})
	from.gate.Shut()
	to.gate.Open()
	err := from.Drain(ctx, DrainOptions{Sender: s, IdleGrace: 5 * time.Second})
	moved, serr := s.Close(ctx)
	wg.Wait()
	if err = errors.Join(err, serr, rerr); err == nil && moved != got.Adopted {
		err = fmt.Errorf("moved %d, adopted %d", moved, got.Adopted)
	}
	from.Table.Resume() // it will be its own successor's successor
	return got.Adopted, err
}

// everyKind is every kind of client that speaks plain HTTP/1.1.
func everyKind(idle int) []strict.Group {
	return []strict.Group{
		{Kind: strict.Get, N: 2},
		{Kind: strict.Post, N: 4, Pause: time.Millisecond},
		{Kind: strict.Post, N: 2, Pause: -1, Size: 40 << 10},
		{Kind: strict.Split, N: 6},
		{Kind: strict.Pipelined, N: 6},
		{Kind: strict.Slow, N: 3},
		{Kind: strict.Expect, N: 3},
		{Kind: strict.Unread, N: 3},
		{Kind: strict.CRLF, N: 4},
		{Kind: strict.Idle, N: idle, Pause: 200 * time.Millisecond},
		{Kind: strict.HalfHead, N: 4, Delay: 40 * time.Millisecond},
		{Kind: strict.Connect, Rate: 40},
	}
}

func pair(t *testing.T, network string, change func(*Config, *http.Server)) [2]*side {
	socks := share(t, listen(t, network), 2)
	var sides [2]*side
	for i := range sides {
		sides[i] = newSide(t, socks[i], strict.Handler(i+1), change)
		sides[i].gate.Shut()
	}
	sides[0].gate.Open()
	return sides
}

// load runs strict clients while upgrade is called until ctx is done, and
// returns what they saw.
func load(t *testing.T, s *side, groups []strict.Group, rounds func(context.Context)) *strict.Report {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := strict.Load{
		Network: s.gate.Addr().Network(), Addr: s.gate.Addr().String(),
		Groups: groups, Seed: 1, Timeout: 20 * time.Second,
		OnFailure: func(f strict.Failure) { t.Logf("%s %s: %s", f.ID, f.Fault, f.Detail) },
	}
	run := l.Start(ctx)
	rounds(ctx)
	cancel()
	return run.Wait()
}

// someRequests returns when clients have got between two upgrades.
func someRequests(t *testing.T, s *side) {
	t.Helper()
	before := s.Counts().Requests
	proctest.Pace(30 * time.Millisecond)
	proctest.Poll(t, "requests", func() bool { return s.Counts().Requests >= before+20 })
}

func TestNobodyNotices(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			sides := pair(t, network, nil)
			moved := 0
			r := load(t, sides[0], everyKind(60), func(context.Context) {
				for i := range rounds(20) {
					someRequests(t, sides[i%2])
					moved += swap(proctest.Context(t), t, sides[i%2], sides[(i+1)%2])
				}
			})
			if r.Total.Failed() != 0 || closedByServer(r) != 0 {
				t.Fatalf("failed %v, ends %v", r.Total.Faults, r.Total.Ends)
			}
			if r.Total.Moved == 0 || len(r.Generations) != 2 {
				t.Fatal("no client saw both generations", r.Generations)
			}
			t.Logf("%d requests, %d connections handed over, %d times seen", r.Total.Requests, moved, r.Total.Moved)
		})
	}
}

// The same must be noticed where connections stay.
func TestNobodyNoticesControl(t *testing.T) {
	sides := pair(t, "tcp", func(c *Config, _ *http.Server) { c.Move = false })
	r := load(t, sides[0], everyKind(60), func(ctx context.Context) {
		someRequests(t, sides[0])
		sides[0].gate.Shut()
		sides[1].gate.Open()
		if err := sides[0].Drain(proctest.Context(t), DrainOptions{IdleGrace: 50 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
	})
	if closedByServer(r) == 0 {
		t.Fatalf("no connection closed: %v", r.Total.Ends)
	}
}

func closedByServer(r *strict.Report) int64 {
	n := int64(0)
	for end, k := range r.Total.Ends {
		if end != strict.Ours {
			n += k
		}
	}
	return n
}

// rounds is how many upgrades a test makes; TABLECLOTH_ROUNDS asks for more.
func rounds(n int) int {
	if k, err := strconv.Atoi(os.Getenv("TABLECLOTH_ROUNDS")); err == nil {
		return k
	}
	return n
}
