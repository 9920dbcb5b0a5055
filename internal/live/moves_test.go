//go:build unix

package live

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/handover"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

func numbered(i int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		fmt.Fprintf(w, "%d%s%s", i, r.URL.Path, b)
	})
}

func two(t *testing.T, network string, h func(i int) http.Handler, change func(*Config, *http.Server)) (one, next *side) {
	socks := share(t, listen(t, network), 2)
	one = newSide(t, socks[0], h(1), change)
	next = newSide(t, socks[1], h(2), change)
	next.gate.Shut()
	return one, next
}

// What lies in which buffer when a connection moves, and what the client says
// afterwards.
func TestMovesMidway(t *testing.T) {
	for _, c := range []struct{ name, first, before, after, want string }{
		{"silent", "", "", "GET /b HTTP/1.1\r\nHost: x\r\n\r\n", "2/b"},
		{"partial first head", "", "GET /b HT", "TP/1.1\r\nHost: x\r\n\r\n", "2/b"},
		{"first head but for its end", "", "GET /b HTTP/1.1\r\nHost: x\r\n\r", "\n", "2/b"},
		{"idle", "/a", "", "GET /b HTTP/1.1\r\nHost: x\r\n\r\n", "2/b"},
		{"one byte", "/a", "G", "ET /b HTTP/1.1\r\nHost: x\r\n\r\n", "2/b"},
		{"three bytes", "/a", "GET", " /b HTTP/1.1\r\nHost: x\r\n\r\n", "2/b"},
		{"four bytes", "/a", "GET ", "/b HTTP/1.1\r\nHost: x\r\n\r\n", "2/b"},
		{"cut within a line end", "/a", "GET /b HTTP/1.1\r", "\nHost: x\r\n\r\n", "2/b"},
		{"stray line end", "/a", "\r\n", "GET /b HTTP/1.1\r\nHost: x\r\n\r\n", "2/b"},
		{"stray line end afterwards", "/a", "", "\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n", "2/b"},
		{"cut stray line end", "/a", "\r", "\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n", "2/b"},
		{"large head", "/a", "GET /b HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 300<<10), "y\r\n\r\n", "2/b"},
		{"half a body", "/a", "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbo", "dy", "1/bbody"},
	} {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(c.name+" "+network, func(t *testing.T) {
				one, next := two(t, network, numbered, nil)
				conn := dial(t, one)
				r := bufio.NewReader(conn)
				if c.first != "" {
					io.WriteString(conn, "POST "+c.first+" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
					if got := body(response(t, r)); got != "1"+c.first {
						t.Fatal(got)
					}
				}
				io.WriteString(conn, c.before)
				proctest.Poll(t, "read", func() bool { return one.Counts().Open == 1 && allRead(one) })
				if strings.HasPrefix(c.want, "1") {
					proctest.Poll(t, "active", func() bool { return one.Counts().Active == 1 })
				}
				swapped := make(chan int, 1)
				go func() { n, _ := tryse(proctest.Context(t), t, one, next); swapped <- n }()
				if strings.HasPrefix(c.want, "2") {
					if n := <-swapped; n != 1 {
						t.Fatalf("%d moved", n)
					}
				}
				io.WriteString(conn, c.after)
				resp := response(t, r)
				if got := body(resp); got != c.want || resp.Close {
					t.Fatal(got, resp.Close)
				}
				if strings.HasPrefix(c.want, "1") {
					if n := <-swapped; n != 1 {
						t.Fatalf("%d moved after its response", n)
					}
				}
				io.WriteString(conn, "GET /c HTTP/1.1\r\nHost: x\r\n\r\n")
				if got := body(response(t, r)); got != "2/c" {
					t.Fatal(got)
				}
			})
		}
	}
}

// allRead reports whether s has taken everything from its sockets.
func allRead(s *side) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if waiting(c.sock) {
			return false
		}
	}
	return true
}

// A successor that dies before it has acknowledged: the connections are this
// generation's again, with what was read of them.
func TestSuccessorDies(t *testing.T) {
	for _, resume := range []bool{true, false} {
		t.Run(fmt.Sprintf("resume %v", resume), func(t *testing.T) {
			one, _ := two(t, "tcp", numbered, nil)
			idle, half, parked := dial(t, one), dial(t, one), dial(t, one)
			get(t, idle, "/a")
			get(t, parked, "/a")
			io.WriteString(half, "GET /b HT")
			proctest.Poll(t, "read", func() bool { return one.Counts().Open == 3 && allRead(one) })

			a, b := links(t)
			dead := make(chan struct{})
			s := handover.NewSender(a, handover.SenderConfig{Dead: dead, Log: quiet})
			claimed := make(chan struct{}, 10)
			ctx, cancel := context.WithCancel(t.Context())
			received := make(chan error, 1)
			go func() {
				_, err := handover.Receive(ctx, b, handover.ReceiverConfig{Log: quiet,
					Targets: map[string]handover.Target{"web": blocked{claimed, ctx}}})
				received <- err
			}()
			one.gate.Shut()
			drained := make(chan error, 1)
			go func() {
				drained <- one.Drain(proctest.Context(t), DrainOptions{Sender: s, IdleGrace: 200 * time.Millisecond})
			}()
			<-claimed
			// As if the process had ended: its end of the link is closed
			// without an answer.
			b.Close()
			cancel()
			<-received
			close(dead)
			<-s.Failed()
			if !resume {
				proctest.Poll(t, "idle ones closed", func() bool { return one.Counts().Closed["idle"] == 2 })
				half.Close()
				if err := <-drained; err != nil {
					t.Fatal(err)
				}
				if n := one.Counts(); n.Closed["peer"]+n.Closed["answered"] != 1 || n.Open != 0 {
					t.Fatal(n)
				}
				return
			}
			one.Table.Resume()
			one.gate.Open()
			if err := <-drained; !errors.Is(err, ErrResumed) {
				t.Fatal(err)
			}
			io.WriteString(half, "TP/1.1\r\nHost: x\r\n\r\n")
			if got := response(t, bufio.NewReader(half)); body(got) != "1/b" || got.Close {
				t.Fatal(got)
			}
			for _, c := range []net.Conn{idle, parked, dial(t, one)} {
				if got := get(t, c, "/c"); body(got) != "1/c" || got.Close {
					t.Fatal(got)
				}
			}
		})
	}
}

// blocked claims what comes and never answers.
type blocked struct {
	claimed chan struct{}
	ctx     context.Context
}

func (b blocked) Claim(*handover.Item) error {
	b.claimed <- struct{}{}
	<-b.ctx.Done()
	return errors.New("dead")
}

func (blocked) Adopt(it *handover.Item) { it.Close() }

// A successor that doesn't want a connection: it is served here, and its client
// is told to come again.
func TestSuccessorRefuses(t *testing.T) {
	one, next := two(t, "tcp", numbered, nil)
	next.move = nil // its Claim refuses
	c, silent := dial(t, one), dial(t, one)
	get(t, c, "/a")
	proctest.Poll(t, "accepted", func() bool { return one.Counts().Open == 2 })
	swapped := make(chan error, 1)
	go func() { _, err := tryse(proctest.Context(t), t, one, next); swapped <- err }()
	proctest.Poll(t, "refused", func() bool {
		one.mu.Lock()
		defer one.mu.Unlock()
		return one.pending == 0 && one.drain.Load() != nil && len(one.conns) == 2
	})
	if got := get(t, c, "/b"); body(got) != "1/b" || !got.Close {
		t.Fatal(got)
	}
	silent.Close()
	if err := <-swapped; err != nil {
		t.Fatal(err)
	}
}

// With nowhere to go, what has come is still answered, and only then the client
// is told to go.
func TestPlainDrainLosesNothing(t *testing.T) {
	one, _ := two(t, "tcp", numbered, nil)
	c := dial(t, one)
	get(t, c, "/a")
	half := dial(t, one)
	io.WriteString(half, "GET /b HT")
	proctest.Poll(t, "read", func() bool { return one.Counts().Open == 2 && allRead(one) })
	one.gate.Shut()
	io.WriteString(c, "GET /b HTTP/1.1\r\nHost: x\r\n\r\n")
	drained := make(chan error, 1)
	go func() { drained <- one.Drain(proctest.Context(t), DrainOptions{Stopping: true}) }()
	// Either it was answered before the drain began, or with its end announced.
	if got := response(t, bufio.NewReader(c)); body(got) != "1/b" {
		t.Fatal(got)
	}
	proctest.Poll(t, "draining", func() bool { return one.drain.Load() != nil })
	io.WriteString(half, "TP/1.1\r\nHost: x\r\n\r\n")
	if got := response(t, bufio.NewReader(half)); body(got) != "1/b" || !got.Close {
		t.Fatal(got)
	}
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
}

// A client that has only just connected gets its answer, also at a stop; without the
// grace it doesn't.
func TestAFreshConnectionAtAStop(t *testing.T) {
	for _, grace := range []time.Duration{time.Hour, 0} {
		one, _ := two(t, "tcp", numbered, nil)
		c := dial(t, one)
		proctest.Poll(t, "accepted", func() bool { return one.Counts().Open == 1 })
		one.gate.Shut()
		drained := make(chan error, 1)
		go func() { drained <- one.Drain(proctest.Context(t), DrainOptions{Stopping: true, FreshGrace: grace}) }()
		proctest.Poll(t, "draining", func() bool { return one.drain.Load() != nil })
		if grace == 0 {
			if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Error(n, err)
			}
		} else if got := get(t, c, "/a"); body(got) != "1/a" || !got.Close {
			t.Error(got)
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
	}
}

func TestIdleGrace(t *testing.T) {
	one, _ := two(t, "tcp", numbered, nil)
	c := dial(t, one)
	get(t, c, "/a")
	one.gate.Shut()
	start := time.Now()
	if err := one.Drain(proctest.Context(t), DrainOptions{IdleGrace: 300 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 290*time.Millisecond {
		t.Fatal("closed after ", d)
	}
}
