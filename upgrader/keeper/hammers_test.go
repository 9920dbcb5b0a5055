//go:build linux

package keeper

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// TestHammerOfServices: clients rewrite the configuration, upgrade some services or
// all, one by one or not, scale them, kill their workers, all at once and at
// random. One service is there all the time: nobody is refused by it. In the end
// there is what the configuration says, and nothing else.
func TestHammerOfServices(t *testing.T) {
	t.Parallel()
	h := &hammering{results: map[string]int{}}
	h.b = keepAll(t, h.variant("always", 0), h.variant("often", 1))
	l := startLoad(h.b.on("always"), 2)
	until := time.Now().Add(time.Duration(soak(3, 120)) * time.Second)
	var all sync.WaitGroup
	for n := range uint64(6) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(n, 3))
			for time.Now().Before(until) {
				h.blow(r)
			}
		})
	}
	all.Wait()
	l.end()
	if l.refused.Load() > 0 || l.answers.Load() == 0 || h.results["upgrade ready"] == 0 {
		t.Errorf("%v, %v", h.results, l)
	}
	t.Log(h.results, l)
	h.b.configure(h.variant("always", 0), h.variant("last", 2))
	if o := h.b.upgrade(control.UpgradeRequest{All: true}); o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	h.b.scaleTo("always", 2)
	h.b.scaleTo("last", 3)
	h.b.settles("always", 2)
	h.b.settles("last", 3)
	proctest.Check(t, func() error {
		if n := len(h.b.processes()); n != 6 {
			st, _ := h.b.client.Status(h.b.ctx())
			return fmt.Errorf("%d processes, not a keeper and five workers: %+v", n, st)
		}
		return nil
	})
}

func (b *bed) scaleTo(name string, n int) {
	b.t.Helper()
	if o, err := b.client.Scale(b.ctx(), control.ScaleRequest{Service: name, Workers: n}); err != nil || o.Result != control.Ready {
		b.t.Fatalf("%+v, %v", o, err)
	}
}

type hammering struct {
	b       *bed
	mu      sync.Mutex
	results map[string]int
}

// variant is one of several definitions of a service, some of which fail.
func (h *hammering) variant(name string, n int) Service {
	s := Service{Name: name, Command: []string{selfPath, "serve"}, Listen: []string{"127.0.0.1:0"}, Workers: 1 + n%3,
		MaxDeaths: -1, KillTimeout: 300 * time.Millisecond, Environment: []string{fmt.Sprintf("TEST_VERSION=%d", n/3)}}
	s.Rolling, s.SerialStart = n%4 == 1, n%5 == 2
	if n%7 == 6 {
		s.Command = []string{selfPath, "exit", "3"}
	}
	return s
}

func (h *hammering) count(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.results[what]++
}

// blow does one thing.
func (h *hammering) blow(r *rand.Rand) {
	name := []string{"always", "often", "seldom", "last"}[r.IntN(4)]
	switch r.IntN(8) {
	case 0, 1:
		all := []Service{h.variant("always", r.IntN(6))}
		for _, n := range []string{"often", "seldom"} {
			if r.IntN(3) > 0 {
				all = append(all, h.variant(n, r.IntN(14)))
			}
		}
		h.mu.Lock()
		h.b.configure(all...)
		h.mu.Unlock()
		h.upgrade(control.UpgradeRequest{AllAtOnce: r.IntN(2) == 0})
	case 2:
		h.upgrade(control.UpgradeRequest{Service: name, Now: r.IntN(2) == 0, Restart: r.IntN(3) == 0})
	case 3, 4:
		o, err := h.b.client.Scale(h.b.ctx(), control.ScaleRequest{Service: name, Workers: 1 + r.IntN(4)})
		if err != nil {
			h.b.t.Error(err)
		}
		h.count("scale " + string(o.Result))
	case 5:
		h.b.cmd.Process.Signal(syscall.SIGHUP)
		h.count("HUP")
	case 6:
		if pids := serves(h.b.of(name)); len(pids) > 0 {
			proctest.Kill(pids[r.IntN(len(pids))], syscall.SIGKILL)
			h.count("kill")
		}
	case 7:
		if n := len(serves(h.b.of("always"))); n > 8 {
			h.b.t.Errorf("%d workers serve", n)
		}
	}
}

func (h *hammering) upgrade(r control.UpgradeRequest) {
	o, err := h.b.client.Upgrade(h.b.ctx(), r)
	if err != nil {
		h.b.t.Error(err)
	}
	h.count("upgrade " + string(o.Result))
}

var selfPath = ownPath()
