//go:build linux

package integration

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// exitedWith1 is how a crashed generation ends.
func exitedWith1(s syscall.WaitStatus) bool { return s.Exited() && s.ExitStatus() == 1 }

// A background goroutine of a request panics: its requester gets a 500, nobody
// else notices, a successor serves before the crashed process stops accepting,
// and that exits with 1 though somebody's request would take an hour.
func TestCrash(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		// Long enough for the requests of others on a busy machine.
		const killTimeout = 8 * time.Second
		b.demo("--kill-timeout", killTimeout.String())
		addr := b.tcp()
		kinds := append(everyKind(), strict.Group{Kind: strict.Connect, Rate: 100})
		for g := range kinds {
			// What isn't answered when the kill timeout is over is cut.
			kinds[g].Delay = min(kinds[g].Delay, 50*time.Millisecond)
		}
		l := startLoad(t, "tcp", addr, kinds...)
		l.sees(1)
		n := testenv.Count(2, 5) // more within a minute are too many
		for g := 2; g <= n+1; g++ {
			old := b.pidInFile()
			held := b.slowRequest(addr)
			began := time.Now()
			a := b.get(addr, "/asyncerror")
			if a.status != 500 || strings.Contains(a.body, "goroutine") {
				t.Errorf("the requester got %+v", a)
			}
			b.logged(fmt.Sprintf(`demo\[%d\] successor \d+ is ready`, old)) // in this order
			b.logged(fmt.Sprintf(`demo\[%d\] close 1 server: crashed`, old))
			l.sees(g)
			if _, err := held.Write(nil); err != nil {
				t.Error(err)
			}
			if status := b.ended(old); !exitedWith1(status) {
				t.Errorf("the crashed process ended with %v, want exit status 1", status)
			}
			if took := time.Since(began); took < killTimeout {
				t.Errorf("the crashed process ended after %v, before its kill timeout, with a request in flight", took)
			}
			if hooks := b.count(fmt.Sprintf(`error \d+ of pid %d: .*async error`, old)); hooks != 1 {
				t.Errorf("the hook was called %d times", hooks)
			}
		}
		r := l.stop()
		wantUnbroken(t, r, n+1)
		testenv.Result(t, "%d crashes, %d requests of others, %d failed, %d connections, %d times kept over a crash",
			n, r.Total.Requests, r.Total.Failed(), r.Total.Connects, r.Total.Moved)
	})
}

// Twenty background goroutines panic at once: twenty 500s, one successor.
func TestCrashesAtOnce(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.serve(settings{KillTimeout: 10 * time.Second})
		addr, old := b.tcp(), b.pidInFile()
		answers := askMany(t, addr, "/together?n=20", 20)
		for _, a := range answers {
			if a.status != 500 {
				t.Errorf("%+v", a)
			}
		}
		b.ready()
		if status := b.ended(old); !exitedWith1(status) {
			t.Errorf("ended with %v", status)
		}
		if a := b.get(addr, "/"); a.generation != 2 {
			t.Errorf("generation %d answers, want 2", a.generation)
		}
		if n := b.count("hook: crash 1 of pid"); n != 1 {
			t.Errorf("the hook was called %d times", n)
		}
		if n := b.count("hook: crash"); n != 1 {
			t.Errorf("the hook was called for %d crashes of one replacement", n)
		}
	})
}

// askMany asks beside each other.
func askMany(t *testing.T, addr, path string, n int) []answer {
	t.Helper()
	answers := make([]answer, n)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			var err error
			if answers[i], err = ask(t.Context(), "tcp", addr, "GET", path); err != nil {
				t.Errorf("GET %s: %v", path, err)
			}
		})
	}
	wg.Wait()
	return answers
}

// Crashes in one generation after the other: then nothing is replaced for a
// while, crashes are answered all the same, and after it all is as before.
func TestCrashStorm(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		const most, pause = 3, 6 * time.Second
		b.serve(settings{MaxCrashes: most, GiveUpPause: pause})
		addr := b.tcp()
		crash := func() {
			t.Helper()
			if a := b.get(addr, "/asyncerror"); a.status != 500 {
				t.Errorf("the requester got %+v", a)
			}
		}
		for range most {
			old := b.pidInFile()
			crash()
			b.ready()
			b.ended(old)
		}
		gaveUp := b.pidInFile()
		l := startLoad(t, "tcp", addr, strict.Group{Kind: strict.Post, N: 3})
		l.sees(most + 1)
		began := time.Now()
		crash()
		b.logged("giveup")
		st := b.status()
		for range 5 {
			crash()
		}
		a := b.get(addr, "/pid")
		if time.Since(began) > pause {
			t.Skip("the machine was too slow to see what happens in the pause")
		}
		if st.State != control.GaveUp || st.RetryAt == nil || st.RetryAt.Before(began.Add(pause)) {
			t.Fatalf("the status says %q, retry at %v", st.State, st.RetryAt)
		}
		if a.pid != gaveUp {
			t.Errorf("process %d answers in the pause, not %d", a.pid, gaveUp)
		}
		pid := b.ready() // after the pause, by itself
		if now := time.Now(); now.Before(*st.RetryAt) {
			t.Errorf("replaced at %v, in the pause until %v", now, st.RetryAt)
		}
		b.serves(pid)
		if status := b.ended(gaveUp); !exitedWith1(status) {
			t.Errorf("the crashed process ended with %v", status)
		}
		if st = b.status(); st.State != control.Serving || st.Crashes != 0 {
			t.Errorf("after the pause: %q, %d crashes", st.State, st.Crashes)
		}
		crash()
		b.ready()
		l.sees(most + 3)
		if err := unbroken(l.stop()); err != nil {
			t.Error(err)
		}
	})
}

// An operator's upgrade ends the pause.
func TestUpgradeAfterGivingUp(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.serve(settings{MaxCrashes: 1, GiveUpPause: timeoutNever})
		addr := b.tcp()
		old := b.pidInFile()
		b.get(addr, "/asyncerror")
		b.ready()
		b.ended(old)
		b.get(addr, "/asyncerror")
		b.logged("giveup")
		b.mustUpgrade()
		if st := b.status(); st.State != control.Serving || st.Crashes != 0 {
			t.Errorf("%q, %d crashes", st.State, st.Crashes)
		}
		b.get(addr, "/asyncerror")
		b.logged("successor")
	})
}

// The successor of a crashed generation fails: that goes on answering, and the
// next crash is a new chance.
func TestSuccessorOfACrashFails(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.demo()
		addr, old := b.tcp(), b.pidInFile()
		l := startLoad(t, "tcp", addr, everyKind()...)
		l.sees(1)
		b.link("/bin/false")
		if a := b.get(addr, "/asyncerror"); a.status != 500 {
			t.Errorf("the requester got %+v", a)
		}
		b.logged("upgrade failed")
		b.serves(old)
		b.link(demo(t))
		if a := b.get(addr, "/asyncerror"); a.status != 500 {
			t.Errorf("the requester got %+v", a)
		}
		l.sees(2)
		if status := b.ended(old); !exitedWith1(status) {
			t.Errorf("the crashed process ended with %v", status)
		}
		wantUnbroken(t, l.stop(), 2)
	})
}

// A panic in a handler is answered, and the process lives.
func TestHandlerPanic(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.demo()
		addr, pid := b.tcp(), b.pidInFile()
		for _, a := range askMany(t, addr, "/panic", 20) {
			if a.status != 500 || strings.Contains(a.body, "goroutine") {
				t.Errorf("%+v", a)
			}
		}
		b.serves(pid)
		if n := b.count("successor"); n != 0 {
			t.Error("the process was replaced")
		}
	})
}
