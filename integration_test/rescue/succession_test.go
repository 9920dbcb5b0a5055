//go:build linux

package rescue

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// TestKilledWhileItTakesOver: connections on their way from the keeper to a worker
// that dies have one owner each, and go on in the next one.
func TestKilledWhileItTakesOver(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.start()
	l := b.load(clients(soak(150, 300))...)
	for i := range soak(6, 100) {
		if i%5 == 4 { // else nobody lives long enough to answer, on a slow machine
			l.more(int64(l.clients))
		}
		seq := b.lastSeq()
		was := b.worker(0)
		proctest.Kill(was, syscall.SIGKILL)
		// A request makes the keeper forget its patience with what dies young.
		go b.client.Upgrade(b.ctx(), control.UpgradeRequest{Restart: true})
		e := b.await(control.EventReady, seq)
		proctest.Pace(rand.N(15 * time.Millisecond))
		proctest.Kill(e.PID, syscall.SIGKILL)
		b.worker(e.PID)
	}
	b.judge(l)
}

// TestKilledWhileOneDrains: of two workers between whom connections move either
// dies, or both.
func TestKilledWhileOneDrains(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"old", "new", "both"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.start()
			l := b.load(clients(soak(150, 300))...)
			for range soak(4, 60) {
				was, seq := b.worker(0), b.lastSeq()
				go b.client.Upgrade(b.ctx(), control.UpgradeRequest{Restart: true})
				e := b.await(control.EventReady, seq)
				proctest.Pace(rand.N(20 * time.Millisecond))
				if who != "old" {
					proctest.Kill(e.PID, syscall.SIGKILL)
				}
				if who != "new" {
					proctest.Kill(was, syscall.SIGKILL)
				}
				b.worker(was)
				b.settled()
			}
			b.judge(l)
		})
	}
}

func (b *bed) lastSeq() uint64 {
	b.t.Helper()
	return proctest.LastSeq(b.t, b.client)
}

// judge ends the clients, and says what they saw.
func (b *bed) judge(l *loading) {
	b.t.Helper()
	r := l.end()
	if err := verdict(r); err != nil {
		b.t.Errorf("%v\n%s", err, strings.Join(l.failures, "\n"))
	}
	b.letGo()
	testenv.Result(b.t, "rescued %+v; clients: %d requests, %d right, faults %v, codes %v; %d connections, ended %v, moved %d",
		b.status().Rescued, r.Total.Requests, r.Total.OK, r.Total.Faults, r.Total.Codes, r.Total.Connects, r.Total.Ends, r.Total.Moved)
}

// TestSeveralWorkers: connections are dealt out over those who live.
func TestSeveralWorkers(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.service().Workers = 3
	b.start()
	l := b.load(clients(soak(60, 300))...)
	for range soak(4, 50) {
		b.ripen(2) // of three: the third may be one that has just started
		proctest.Pace(rand.N(200 * time.Millisecond))
		var pids []int
		for _, g := range b.status().Generations {
			for _, w := range g.Workers {
				if w.State == control.Serving {
					pids = append(pids, w.PID)
				}
			}
		}
		proctest.Kill(pids[rand.IntN(len(pids))], syscall.SIGKILL)
	}
	b.judge(l)
}

// TestHangingAtTheKillTimeout: what a drain holds then is answered.
func TestHangingAtTheKillTimeout(t *testing.T) {
	t.Parallel()
	for _, why := range []string{"upgrade", "crash", "stop"} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.service().KillTimeout, b.service().StopTimeout = 2*time.Second, 2*time.Second
			b.start()
			c, idle := b.asked("GET", "/hang"), b.raw()
			idle.works()
			b.active(1)
			switch why {
			case "upgrade":
				b.client.Upgrade(b.ctx(), control.UpgradeRequest{})
			case "crash":
				if resp, _, err := b.ask("GET", "/crash"); err != nil || resp.StatusCode != 500 {
					t.Errorf("%+v, %v", resp, err)
				}
			case "stop":
				b.cmd.Process.Signal(syscall.SIGTERM)
			}
			if resp, _ := c.answer("GET"); resp.StatusCode != 500 {
				t.Errorf("%+v", resp)
			}
			c.end()
			if why == "stop" {
				idle.end()
			} else if g := idle.works(); g != "2" {
				t.Errorf("generation %s", g)
			}
		})
	}
}

// TestNobodyComes: connections end in good order when no worker will.
func TestNobodyComes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.service().Restart = "no"
	b.start()
	c := b.raw()
	c.works()
	fresh := b.raw()
	b.ask("POST", "/die?of=exit")
	c.end()
	fresh.end()
	<-b.waited
}

// TestRaceDetector: binaries made with -race have vaults too.
func TestRaceDetector(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds a program")
	}
	b := newBed(t)
	b.program = b.dir + "/race.test"
	if out, err := exec.Command("go", "test", "-race", "-c", "-o", b.program, ".").CombinedOutput(); err != nil {
		if strings.Contains(string(out), "requires cgo") {
			t.Skipf("%s", out)
		}
		t.Fatalf("%v\n%s", err, out)
	}
	b.start()
	l := b.load(clients(soak(20, 200))...)
	for range soak(2, 20) {
		b.ripen(1)
		l.more(100)
		b.kill()
	}
	b.judge(l)
}

// TestUnprivileged: nothing of it needs a privilege.
func TestUnprivileged(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Log("all tests run without privileges here")
	}
	b := newBed(t)
	if os.Getuid() == 0 {
		if err := os.Chmod(b.dir, 0o777); err != nil {
			t.Fatal(err)
		}
		b.program = b.dir + "/program"
		proctest.Copy(t, b.program, self(t))
		b.before = func(cmd *exec.Cmd) {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
	}
	b.start()
	l := b.load(clients(30)...)
	for range soak(2, 20) {
		b.ripen(1)
		l.more(100)
		b.kill()
	}
	b.judge(l)
	if r := b.status().Rescued; r == nil || r.Idle == 0 {
		t.Errorf("nothing was rescued: %+v", r)
	}
}
