//go:build linux

package integration

import (
	"net"
	"sync"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// held is a new generation that gets ready when the test lets it.
type held struct {
	ln net.Listener
}

// holdNext makes the generations to come wait.
func (b *bed) holdNext(set settings) *held {
	b.t.Helper()
	ln, err := net.Listen("unix", b.path("hold"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { ln.Close() })
	set.Hold = b.path("hold")
	b.set(set)
	return &held{ln}
}

// come waits for the new process.
func (h *held) come(t *testing.T) net.Conn {
	t.Helper()
	c, err := h.ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask asks for an upgrade beside the test.
func (b *bed) ask(r control.UpgradeRequest) <-chan told {
	b.t.Helper()
	c := b.client()
	out := make(chan told, 1)
	go func() {
		o, err := c.Upgrade(b.t.Context(), r)
		out <- told{o, err}
	}()
	return out
}

type told struct {
	control.Outcome
	err error
}

// Whoever was asked is killed before it can answer: the requester reaches the
// successor, which has taken over, and doesn't hear of success before it is one.
func TestRequesterOfAKilledProcess(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.serve(settings{})
		addr, old := b.tcp(), b.pidInFile()
		h := b.holdNext(settings{})
		outcome := b.ask(control.UpgradeRequest{})
		next := h.come(t)
		syscall.Kill(old, syscall.SIGKILL)
		b.ended(old)
		next.Close()
		pid := b.ready()
		o := <-outcome
		if o.err != nil || o.Result != control.Ready || o.PID != pid {
			t.Errorf("told %+v, and %d serves", o, pid)
		}
		if a := b.get(addr, "/"); a.pid != pid || b.pidInFile() != pid {
			t.Errorf("%d answers, the PID file names %d, want %d", a.pid, b.pidInFile(), pid)
		}
		b.set(settings{})
		b.mustHeal()
	})
}

// A second request reaches a process that is about to be replaced: it is not
// lost, and its requester learns of the upgrade that followed, from whoever
// makes it.
func TestRequesterOfAReplacedProcess(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.serve(settings{})
		h := b.holdNext(settings{})
		first := b.ask(control.UpgradeRequest{})
		one := h.come(t)
		second := b.ask(control.UpgradeRequest{})
		b.status() // the second one has had time to arrive; else it is another test, and no worse
		one.Close()
		two := h.come(t) // the generation after next
		if o := <-first; o.err != nil || o.Result != control.Ready || o.Generation != 2 {
			t.Errorf("the first was told %+v", o)
		}
		two.Close()
		if o := <-second; o.err != nil || o.Result != control.Ready || o.Generation != 3 {
			t.Errorf("the second was told %+v", o)
		}
	})
}

// Many ask at once, by signal and by socket, while generations follow each other:
// everybody is told of a generation that came to be after they had asked.
func TestManyRequesters(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.demo()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				before := b.status().Generation
				o, err := b.client().Upgrade(t.Context(), control.UpgradeRequest{})
				if err != nil || o.Result != control.Ready || o.Generation <= before {
					t.Errorf("asked of generation %d, told %+v, %v", before, o, err)
				}
			})
			b.hup()
		}
		wg.Wait()
		if g := b.status().Generation; g > 21 {
			t.Errorf("20 requests and 20 signals made %d generations: none was coalesced", g)
		}
	})
}
