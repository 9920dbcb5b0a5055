//go:build linux

package keeper

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func TestAFailedUpgradeAndADeathHoursLater(t *testing.T) {
	keepFake(t, Service{}, func(w *world) {
		w.last().ready()
		w.disk = "v2, which is bad"
		out := w.upgrade(control.UpgradeRequest{})
		bad := w.last()
		bad.die(exited(7))
		o := <-out
		if o.Result != control.Failed || o.ExitCode == nil || *o.ExitCode != 7 || o.Generation != 1 ||
			len(o.Output) != 1 || o.Output[0] != "last words of v2, which is bad" {
			t.Fatalf("outcome %+v", o)
		}
		proctest.Pace(5 * time.Hour)
		w.children[0].die(syscall.WaitStatus(syscall.SIGKILL))
		next := w.last()
		if next == bad || next.program != "v1" || w.prepared != 2 {
			t.Fatalf("after the death runs %q; %d looks at the disk", next.program, w.prepared)
		}
		if waited := time.Since(next.at); waited != 0 {
			t.Errorf("restarted %v late", waited)
		}
		next.ready()
		if s := w.status(); s.State != control.Serving || s.Generation != 3 || s.Restarts != 1 || s.LastCrash.Exit != "signal: killed" {
			t.Errorf("status %+v", s)
		}
	})
}

func TestReadyTimeout(t *testing.T) {
	keepFake(t, Service{ReadyTimeout: 20 * time.Second}, func(w *world) {
		w.last().ready()
		start := time.Now()
		o := <-w.upgrade(control.UpgradeRequest{})
		if o.Result != control.TimedOut || time.Since(start) != 20*time.Second || o.Exit != "signal: killed" || o.Hint == "" {
			t.Errorf("after %v: %+v", time.Since(start), o)
		}
		if s := w.status(); s.State != control.Serving || s.Generation != 1 || len(s.Generations) != 1 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestTheOldGenerationEndsAtTheKillTimeout(t *testing.T) {
	keepFake(t, Service{KillTimeout: 10 * time.Second}, func(w *world) {
		old := w.last()
		old.deaf = true
		old.ready()
		out := w.upgrade(control.UpgradeRequest{})
		w.last().ready()
		if o := <-out; o.Result != control.Ready {
			t.Fatalf("outcome %+v", o)
		}
		drained := time.Now()
		<-old.ended
		if took := time.Since(drained); took != 10*time.Second {
			t.Errorf("killed after %v", took)
		}
		synctest.Wait()
		if got := fmt.Sprint(old.signals); got != fmt.Sprint([]syscall.Signal{syscall.SIGTERM, syscall.SIGCONT, syscall.SIGKILL}) {
			t.Errorf("signals %s", got)
		}
	})
}

func TestBackoffGiveUpPauseAndRecovery(t *testing.T) {
	keepFake(t, Service{}, func(w *world) {
		w.last().ready()
		w.mu.Lock()
		w.fate = func(c *fakeChild) { c.die(exited(1)) }
		w.mu.Unlock()
		start := time.Now()
		w.children[0].die(exited(1)) // quick, 1 of 6
		gaveUp := w.await(control.EventGiveUp, 0)
		if took := time.Since(start); took > time.Minute {
			t.Errorf("gives up after %v", took)
		}
		if n := w.count(); n != 6 {
			t.Errorf("%d processes before it gave up, not 6", n)
		}
		var gaps []time.Duration
		for i := 2; i < 6; i++ {
			gap := w.children[i].at.Sub(w.children[i-1].at)
			base := firstDelay << (i - 2)
			if gap < base*3/4-1 || gap > base*5/4+1 {
				t.Errorf("waited %v before start %d, not %v with a jitter", gap, i, base)
			}
			gaps = append(gaps, gap)
		}
		t.Logf("backoff %v", gaps)
		s, now := w.status(), time.Now()
		if s.State != control.GaveUp || s.RetryAt == nil || s.RetryAt.Sub(now) > time.Minute || s.RetryAt.Sub(now) < time.Minute-time.Second {
			t.Fatalf("%s, retry at %v, now %v", s.State, s.RetryAt, now)
		}
		w.mu.Lock()
		w.fate = func(c *fakeChild) { c.ready() }
		w.mu.Unlock()
		w.await(control.EventReady, gaveUp.Seq)
		if at := w.children[6].at; !at.Equal(*s.RetryAt) || w.count() != 7 {
			t.Errorf("started at %v, not at %v, of %d", at, *s.RetryAt, w.count())
		}
		if s := w.status(); s.State != control.Serving || s.Crashes != 0 || s.RetryAt != nil {
			t.Errorf("after the pause: %+v", s)
		}
	})
}

func TestAnUpgradeEndsThePause(t *testing.T) {
	keepFake(t, Service{MaxDeaths: 1}, func(w *world) {
		w.last().ready()
		w.children[0].die(exited(1))
		w.last().die(exited(1))
		if s := w.status(); s.State != control.GaveUp {
			t.Fatalf("status %+v", s)
		}
		n := w.count()
		w.disk = "v2"
		out := w.upgrade(control.UpgradeRequest{})
		if w.count() != n+1 || w.last().program != "v2" {
			t.Fatalf("%d processes started, the last one of %q", w.count()-n, w.last().program)
		}
		w.last().ready()
		if o := <-out; o.Result != control.Ready || w.status().State != control.Serving {
			t.Errorf("%+v, %+v", o, w.status())
		}
		proctest.Quiet(2 * time.Minute) // the pause's timer changes nothing
		if w.count() != n+1 {
			t.Error("something was started when the pause would have been over")
		}
	})
}

func TestCoalescing(t *testing.T) {
	keepFake(t, Service{}, func(w *world) {
		w.last().ready()
		first := w.upgrade(control.UpgradeRequest{})
		var more []<-chan control.Outcome
		for range 5 {
			more = append(more, w.upgrade(control.UpgradeRequest{}))
		}
		w.last().ready()
		if o := <-first; o.Generation != 2 {
			t.Errorf("first: %+v", o)
		}
		w.last().ready()
		ids := map[string]bool{}
		for _, c := range more {
			o := <-c
			if o.Result != control.Ready || o.Generation != 3 || ids[o.ID] {
				t.Errorf("coalesced: %+v", o)
			}
			ids[o.ID] = true
		}
		if n := w.count(); n != 3 {
			t.Errorf("%d processes", n)
		}
	})
}

func TestACancelledUpgradeIsKilled(t *testing.T) {
	keepFake(t, Service{}, func(w *world) {
		w.last().ready()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan control.Outcome, 1)
		go func() { done <- backend{w.a}.Upgrade(ctx, control.UpgradeRequest{}) }()
		synctest.Wait()
		cancel()
		if o := <-done; o.Result != control.Failed || o.Reason != "cancelled" {
			t.Errorf("%+v", o)
		}
		if s := w.status(); s.Generation != 1 || len(s.Generations) != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestTheWatchdogOfAWorker(t *testing.T) {
	keepFake(t, Service{Watchdog: 5 * time.Second}, func(w *world) {
		c := w.last()
		c.ready()
		proctest.Quiet(time.Hour) // it has never pinged: nothing is expected
		if c.isDead() {
			t.Fatal("killed without ever having sent a sign of life")
		}
		s, p := c.process()
		var pinged time.Time
		for range 10 {
			w.a.ask(func() { s.pet(p) })
			pinged = time.Now()
			proctest.Pace(4 * time.Second)
		}
		if c.isDead() {
			t.Fatal("killed while it pinged")
		}
		<-c.ended
		if silent := time.Since(pinged); silent != 5*time.Second || w.last() == c {
			t.Errorf("replaced: %v, after %v of silence", w.last() != c, silent)
		}
	})
}

func TestNothingIsLeftInTheKeeper(t *testing.T) {
	keepFake(t, Service{MaxDeaths: -1}, func(w *world) {
		w.last().ready()
		w.mu.Lock()
		w.fate = func(c *fakeChild) { c.ready() }
		w.mu.Unlock()
		for i := range 200 {
			if i%2 == 0 {
				<-w.upgrade(control.UpgradeRequest{Restart: i%4 == 0})
			} else {
				proctest.Pace(2 * time.Second)
				w.last().die(exited(1))
			}
			proctest.Pace(time.Minute)
			synctest.Wait()
		}
		w.a.ask(func() {
			s := w.a.services[0]
			if len(s.procs) != 1 || len(s.programs) != 1 || len(s.timers) != 0 || len(s.waiters) != 0 || len(s.began) > 1 || len(s.failures) > 0 {
				t.Errorf("left: %d processes, %d programs, %d timers, %d waiters, %d starts, %d failures",
					len(s.procs), len(s.programs), len(s.timers), len(s.waiters), len(s.began), len(s.failures))
			}
		})
	})
}

// TestATimeoutThatCameTooLate: workers that start one after the other each have the
// whole time, though that of the one before runs out in the moment when it gets
// ready, and the keeper hears of both at once.
func TestATimeoutThatCameTooLate(t *testing.T) {
	keepFake(t, Service{Workers: 2, Rolling: true, ReadyTimeout: 20 * time.Second, KillTimeout: time.Hour}, func(w *world) {
		w.last().ready()
		w.last().ready()
		out := w.upgrade(control.UpgradeRequest{})
		s, first := w.last().process()
		busy := make(chan struct{})
		w.a.post(func() { <-busy })
		w.a.post(func() { s.ready(first, "notify", true) })
		proctest.Pace(20 * time.Second)
		synctest.Wait() // both are in the inbox
		close(busy)
		second := w.last()
		proctest.Quiet(19 * time.Second)
		if second.isDead() {
			t.Fatal("killed before its time was over")
		}
		second.ready()
		if o := <-out; o.Result != control.Ready {
			t.Errorf("%+v", o)
		}
	})
}
