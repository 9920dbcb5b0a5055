//go:build linux

package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/handover"
	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader"
)

// successors connects two generations of one process: what the first drains
// goes to the second.
func successors(t *testing.T) (old, next *fakeGeneration) {
	t.Helper()
	old, next = newFake(), newFake()
	succeeds(t, old, next)
	return old, next
}

func succeeds(t *testing.T, old, next *fakeGeneration) {
	t.Helper()
	ours, theirs := linked(t)
	old.to, next.from = ours, make(chan *link.Conn, 1)
	next.from <- theirs
}

// linked returns both ends of a link.
func linked(t *testing.T) (ours, theirs *link.Conn) {
	t.Helper()
	ours, file, err := link.Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(int(file.Fd()))
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	if theirs, err = link.New(fd); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func generationNumber(n string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, n)
	}
}

// Clients on one connection each, without retry, notice nothing of an upgrade.
func TestConnectionsMove(t *testing.T) {
	one, two := successors(t)
	old := startOn(t, t.Context(), one, Options{IdleGrace: time.Hour}, web(generationNumber("1")))
	next := startOn(t, t.Context(), two, Options{}, web(generationNumber("2")))
	idle := dial(t, old.Addr("web"))
	idle.get("/")
	silent := dial(t, old.Addr("web"))
	accepted(t, old, 2)

	var seen [3]atomic.Int64
	warm := make(chan struct{})
	var clients sync.WaitGroup
	for range 30 {
		c := dial(t, old.Addr("web"))
		clients.Go(func() {
			for seen[2].Load() < 2000 {
				c.send("POST", "/", "body")
				res, body, err := c.tryAnswer()
				if err != nil || res.Close {
					t.Errorf("%v, close: %v", err, res != nil && res.Close)
					return
				}
				if seen[body[0]-'0'].Add(1) == 500 && body == "1" {
					close(warm)
				}
			}
		})
	}
	proctest.Await(t, "load", warm)
	accepted(t, old, 32) // what is in this backlog has no successor here
	one.end(upgrader.Replaced, time.Minute)
	if err := old.wait(t); err != nil {
		t.Error(err)
	}
	clients.Wait()
	for _, c := range []*client{idle, silent} {
		res, body := c.get("/")
		wantAnswer(t, res, body, 200, "2", false)
	}
	t.Logf("%d answers by the old generation, %d by the new one", seen[1].Load(), seen[2].Load())
	if n := next.runners[0].(*httpRunner).live.Counts(); n.Adopted != 32 {
		t.Errorf("%d adopted, want 32", n.Adopted)
	}
}

// A connection goes on although the generation that it moves to is replaced while
// its request is still being answered. What can't move holds up only its own
// generation.
func TestConnectionsPassThroughADrainingGeneration(t *testing.T) {
	one, two := successors(t)
	three := newFake()
	succeeds(t, two, three)
	h := newSlow()
	taken := make(chan net.Conn, 1)
	first := startOn(t, t.Context(), one, Options{IdleGrace: time.Hour}, web(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/taken" {
			c, _, _ := w.(http.Hijacker).Hijack()
			taken <- c
			return
		}
		h.ServeHTTP(w, r)
	}))
	second := startOn(t, t.Context(), two, Options{IdleGrace: time.Hour}, web(generationNumber("2")))
	startOn(t, t.Context(), three, Options{}, web(generationNumber("3")))

	slow, hijacked := dial(t, first.Addr("web")), dial(t, first.Addr("web"))
	slow.send("GET", "/slow", "")
	proctest.Await(t, "request", h.began)
	hijacked.send("GET", "/taken", "")
	c := <-taken
	for _, r := range []*rig{first, second} {
		r.gen.end(upgrader.Replaced, time.Minute)
		proctest.Await(t, "drain", r.epoch.Load().Done())
	}
	slow.send("POST", "/", "pipelined")
	close(h.release)
	res, _ := slow.answer()
	if res.Close {
		t.Error("told to come back")
	}
	slow.answer()
	if err := second.wait(t); err != nil {
		t.Error(err)
	}
	res, body := slow.get("/")
	wantAnswer(t, res, body, 200, "3", false)
	select {
	case <-first.done:
		t.Error("the first generation has not waited for what was hijacked")
	default:
	}
	c.Close()
	if err := first.wait(t); err != nil {
		t.Error(err)
	}
}

// The negative control: with Handover off the same connections are closed.
func TestConnectionsDontMoveWhenOff(t *testing.T) {
	t.Parallel()
	one, two := successors(t)
	svc := web(generationNumber("1"))
	svc.Handover = Off
	old := startOn(t, t.Context(), one, Options{IdleGrace: time.Second}, svc)
	startOn(t, t.Context(), two, Options{}, web(generationNumber("2")))
	idle, one1 := dial(t, old.Addr("web")), dial(t, old.Addr("web"))
	idle.get("/")
	one1.get("/")
	one.end(upgrader.Replaced, time.Minute)
	proctest.Await(t, "drain", old.epoch.Load().Done())
	res, body := one1.get("/")
	wantAnswer(t, res, body, 200, "1", true)
	idle.wantEOF()
	if err := old.wait(t); err != nil {
		t.Error(err)
	}
}

// The successor dies, having said that it takes connections, or not: they stay
// where they are, and go on.
func TestSuccessorDiesDuringHandover(t *testing.T) {
	for _, greeted := range []bool{false, true} {
		t.Run(fmt.Sprintf("greeted=%v", greeted), func(t *testing.T) {
			t.Parallel()
			one, two := successors(t)
			theirs := <-two.from
			h := newSlow()
			old := startOn(t, t.Context(), one, Options{IdleGrace: time.Hour}, web(h.ServeHTTP))
			var idle []*client
			for range 20 {
				c := dial(t, old.Addr("web"))
				c.get("/")
				idle = append(idle, c)
			}
			busy := dial(t, old.Addr("web"))
			busy.send("GET", "/slow", "")
			<-h.began
			if greeted {
				// It accepts none, and doesn't answer.
				go handover.Receive(t.Context(), theirs, handover.ReceiverConfig{
					Targets: map[string]handover.Target{"web": mute{}}, Log: upgrader.Discard,
				})
			}
			draining := old.epoch.Load()
			one.end(upgrader.Replaced, time.Minute)
			proctest.Await(t, "drain", draining.Done())
			theirs.Close()
			one.resume()
			old.wantServing(t)
			for _, c := range idle {
				res, body := c.get("/")
				wantAnswer(t, res, body, 200, "hello", false)
			}
			close(h.release)
			res, body := busy.answer()
			wantAnswer(t, res, body, 200, "hello", false)
			res, body = dial(t, old.Addr("web")).get("/")
			wantAnswer(t, res, body, 200, "hello", false)
		})
	}
}

// mute is a receiver that hangs before it acknowledges.
type mute struct{}

func (mute) Claim(*handover.Item) error { select {} }
func (mute) Adopt(*handover.Item)       {}

// Who wants to send connections is greeted if it came before the drain, and turned
// away at once if it comes later: it would wait, with its connections, for as long as
// this generation drains.
func TestSendersAtTheBeginningOfADrain(t *testing.T) {
	for range 20 { // one that has come and isn't seen was overlooked half of the time
		gen := newFake()
		gen.from = make(chan *link.Conn, 2)
		h := newSlow()
		r := startOn(t, t.Context(), gen, Options{}, web(h.ServeHTTP))
		busy := dial(t, r.Addr("web"))
		busy.send("GET", "/slow", "")
		<-h.began
		early, late := sends(t, gen), (*link.Conn)(nil)
		r.replace(t)
		if m, err := early.Recv(); err != nil {
			t.Errorf("not greeted, but %v", err)
		} else {
			m.Close()
		}
		early.Close()
		proctest.Poll(t, "the closed door", func() bool {
			late = sends(t, gen)
			m, err := late.Recv()
			m.Close()
			late.Close()
			return errors.Is(err, io.EOF)
		})
		close(h.release)
		busy.answer()
		r.wantEnd(t)
	}
}

// sends is another process's end of a link to that generation.
func sends(t *testing.T, gen *fakeGeneration) *link.Conn {
	t.Helper()
	ours, theirs := linked(t)
	ours.SetReadDeadline(time.Now().Add(proctest.Patience(t)))
	gen.from <- theirs
	return ours
}
