//go:build linux

package keeper

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// TestHammer: clients ask for everything at once and at random, with deaths in
// between, then for a stop. Each request is answered, and at no time are there
// more workers than there should be.
func TestHammer(t *testing.T) {
	t.Parallel()
	s := local(t)
	s.Workers = 2
	s.KillTimeout = 300 * time.Millisecond
	s.MaxDraining = 2
	b := keep(t, s)
	l := startLoad(b.serving(), 2)
	until := time.Now().Add(time.Duration(soak(2, 60)) * time.Second)
	var wg sync.WaitGroup
	var mu sync.Mutex
	results := map[string]int{}
	for n := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(n, 2))
			for time.Now().Before(until) {
				what := b.hammer(r)
				mu.Lock()
				results[what]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	l.end()
	if l.refused.Load() > 0 || results["upgrade ready"] == 0 {
		t.Errorf("%v, %v", results, l)
	}
	testenv.Result(t, "%v; %v", results, l)
	// When all have ended who has to, two are left.
	proctest.Check(t, func() error {
		if n := len(b.processes()); n != 3 {
			return fmt.Errorf("%d processes, not a keeper and two workers: %+v", n, b.status())
		}
		return nil
	})
	// A stop answers those who wait.
	waiting := make(chan string, 4)
	for range 4 {
		go func() {
			o, err := b.client.Upgrade(b.ctx(), control.UpgradeRequest{})
			waiting <- fmt.Sprint(o.Result, err != nil)
		}()
	}
	if err := b.client.Stop(b.ctx(), control.StopRequest{}); err != nil {
		t.Error(err)
	}
	for range 4 {
		<-waiting
	}
	<-b.waited
	if _, err := control.Dial(b.conf.Control); err == nil {
		t.Error("somebody answers after the stop")
	}
}

// hammer does one thing at random, and says what came of it.
func (b *bed) hammer(r *rand.Rand) string {
	switch n := r.IntN(10); {
	case n < 3:
		o, err := b.client.Upgrade(b.ctx(), control.UpgradeRequest{Restart: n == 0, Now: n == 1})
		if err != nil {
			b.t.Error(err)
			return err.Error()
		}
		return "upgrade " + string(o.Result)
	case n == 3:
		o, err := b.client.Upgrade(b.ctx(), control.UpgradeRequest{Args: []string{"exit", "1"}})
		if err != nil {
			b.t.Error(err)
			return err.Error()
		}
		// Coalesced with one that has no arguments, it may become ready.
		return "bad upgrade " + string(o.Result)
	case n == 4:
		b.cmd.Process.Signal(syscall.SIGHUP)
		return "HUP"
	case n == 5:
		for _, g := range b.status().Generations {
			if g.State == control.Serving {
				proctest.Kill(g.Workers[r.IntN(len(g.Workers))].PID, syscall.SIGKILL)
				return "kill"
			}
		}
		return "nobody to kill"
	}
	serving := 0
	for _, g := range b.status().Generations {
		for _, w := range g.Workers {
			if w.State == control.Serving {
				serving++
			}
		}
	}
	if serving > 2 {
		b.t.Errorf("%d workers serve", serving)
	}
	return "status"
}

// TestMemoryAndDescriptorsStayFlat: TABLECLOTH_SOAK=1 makes it 1000 upgrades and
// 1000 crashes.
func TestMemoryAndDescriptorsStayFlat(t *testing.T) {
	t.Parallel()
	b := keep(t, local(t))
	b.serving()
	fds := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	threads := func() int {
		entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", b.cmd.Process.Pid))
		return len(entries)
	}
	memory := func() int64 {
		m, err := proc.Resident(b.cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	round := func(n int) {
		for i := range n {
			last := b.lastSeq()
			if i%2 == 0 {
				if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
					t.Fatalf("%+v", o)
				}
				b.await(control.EventGone, last)
			} else {
				proctest.Kill(b.worker(), syscall.SIGKILL)
				b.await(control.EventReady, last)
			}
		}
	}
	round(soak(4, 200))
	wasFDs, wasMemory := fds(), memory()
	round(soak(10, 2000))
	testenv.Result(t, "%d upgrades and deaths: descriptors %d → %d, memory %d → %d KiB, threads %d", soak(10, 2000), wasFDs, fds(), wasMemory>>10, memory()>>10, threads())
	proctest.Check(t, func() error {
		names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", b.cmd.Process.Pid))
		if len(names) <= wasFDs {
			return nil
		}
		var all []string
		for _, n := range names {
			l, _ := os.Readlink(n)
			all = append(all, l)
		}
		return fmt.Errorf("%d descriptors, there were %d: %s", len(names), wasFDs, strings.Join(all, " "))
	})
	if m := memory(); m > wasMemory*2 {
		t.Errorf("memory has grown from %d to %d", wasMemory, m)
	}
}
