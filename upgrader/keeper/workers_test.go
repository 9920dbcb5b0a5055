//go:build linux

package keeper

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func (b *bed) scale(n int) control.Outcome {
	b.t.Helper()
	o, err := b.client.Scale(b.ctx(), control.ScaleRequest{Workers: n})
	if err != nil {
		b.t.Fatal(err)
	}
	return o
}

// TestScaleUnderLoad: from four workers to one, to eight, and back, and nobody
// notices.
func TestScaleUnderLoad(t *testing.T) {
	t.Parallel()
	b := keep(t, webs(t, 4))
	end := b.strictly(b.serving())
	b.settles("test", 4)
	for _, n := range []int{1, 8, 4} {
		if o := b.scale(n); o.Result != control.Ready || o.Workers != n {
			t.Fatalf("scale to %d: %+v", n, o)
		}
		b.settles("test", n)
	}
	r := end()
	unbroken(t, r)
	testenv.Result(t, "4 workers, 1, 8 and 4: %d requests, %d failed", r.Total.Requests, r.Total.Failed())
}

// TestAWorkerThatIsOneTooMany: more workers are only had if all of them get
// ready; else there are as many as before, and the service hasn't suffered.
func TestAWorkerThatIsOneTooMany(t *testing.T) {
	t.Parallel()
	s := webs(t, 2)
	s.Environment = []string{"TEST_FAILS=3"}
	s.MaxDeaths = 1
	b := keep(t, s)
	b.serving()
	before := serves(b.settles("test", 2))
	o := b.scale(5)
	if o.Result != control.Failed || o.ExitCode == nil || *o.ExitCode != 7 || o.Workers != 2 {
		t.Errorf("%+v", o)
	}
	if after := b.settles("test", 2); fmt.Sprint(serves(after)) != fmt.Sprint(before) || after.State != control.Serving || after.Crashes != 0 {
		t.Errorf("were %v: %+v", before, after)
	}
	if o := b.scale(3); o.Result != control.Ready {
		t.Errorf("%+v", o)
	}
}

// TestKillsAmongWorkers: the port never closes, and only the requests of those
// that are killed are touched: they are told so.
func TestKillsAmongWorkers(t *testing.T) {
	t.Parallel()
	b := keep(t, webs(t, 4))
	end := b.strictly(b.serving())
	kills := testenv.Count(12, 400)
	b.killAny(kills, 150*time.Millisecond)
	r := end()
	onlyTold(t, r)
	testenv.Result(t, "%d kills among 4 workers: %d requests, %d told that their process died, %d refused, %d broken",
		kills, r.Total.Requests, r.Total.Failed(), r.Total.Faults[strict.Refused], r.Total.Broken())
}

// TestKillsUnderAThousandPerSecond: the same where each of the workers is busy,
// and has many connections. In a soak it takes a minute.
func TestKillsUnderAThousandPerSecond(t *testing.T) {
	t.Parallel()
	b := keep(t, webs(t, 4))
	began := time.Now()
	end := b.strictly(b.serving(),
		strict.Group{Kind: strict.Get, N: 40, Pause: 100 * time.Millisecond},
		strict.Group{Kind: strict.Post, N: 40, Pause: 100 * time.Millisecond},
		strict.Group{Kind: strict.Connect, Rate: 200},
		strict.Group{Kind: strict.Slow, N: 10}, strict.Group{Kind: strict.Idle, N: 100})
	kills := testenv.Count(4, 60)
	b.killAny(kills, 2*time.Second)
	took := time.Since(began).Seconds()
	r := end()
	onlyTold(t, r)
	testenv.Result(t, "%d kills among 4 workers: %d requests, %.0f/s, %d told that their process died, %d refused, %d broken",
		kills, r.Total.Requests, float64(r.Total.Requests)/took, r.Total.Failed(), r.Total.Faults[strict.Refused], r.Total.Broken())
}

// killAny kills workers at random, with pauses of up to this between them.
func (b *bed) killAny(kills int, pause time.Duration) {
	b.t.Helper()
	b.settles("test", 4)
	for range kills {
		if pids := serves(b.of("test")); len(pids) > 0 {
			proctest.Kill(pids[rand.IntN(len(pids))], syscall.SIGKILL)
		}
		proctest.Pace(rand.N(pause))
	}
	b.settles("test", 4)
}

// onlyTold fails the test if clients lost anything but requests that were
// answered by the keeper.
func onlyTold(t *testing.T, r *strict.Report) {
	t.Helper()
	for fault, n := range r.Total.Faults {
		if fault != strict.Status {
			t.Errorf("%d requests: %s", n, fault)
		}
	}
	if r.Total.Broken() > 0 || r.Total.OK == 0 {
		t.Errorf("%d connections broken, %d answers", r.Total.Broken(), r.Total.OK)
	}
	if err := r.Err(); err != nil {
		t.Logf("%v", err)
	}
}

// TestOneCrashingWorkerLeavesTheOthers: they are the same processes as before.
func TestOneCrashingWorkerLeavesTheOthers(t *testing.T) {
	t.Parallel()
	b := keep(t, webs(t, 3))
	b.serving()
	before := serves(b.settles("test", 3))
	proctest.Kill(before[1], syscall.SIGKILL)
	proctest.Poll(t, "a replacement", func() bool {
		after := serves(b.of("test"))
		return len(after) == 3 && after[0] == before[0] && after[1] != before[1] && after[2] == before[2]
	})
}

// TestOneByOne: an upgrade replaces one worker after the other, and one whose
// third worker fails leaves all of them as they were.
func TestOneByOne(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "env")
	s := webs(t, 4)
	s.Rolling, s.EnvFile = true, file
	os.WriteFile(file, nil, 0o644)
	b := keep(t, s)
	end := b.strictly(b.serving())
	b.settles("test", 4)
	last := b.lastSeq()
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready || o.Generation != 2 {
		t.Fatalf("%+v", o)
	}
	b.settles("test", 4)
	if order := rolled(b, last); order != "start start+1 start+2 start+3" {
		t.Errorf("processes were started: %s", order)
	}
	os.WriteFile(file, []byte("TEST_FAILS=2\n"), 0o644)
	o := b.upgrade(control.UpgradeRequest{})
	if o.Result != control.Failed || o.ExitCode == nil || *o.ExitCode != 7 || o.Generation <= 2 ||
		!strings.Contains(o.Reason, "after 2 of 4 workers; rolled back") {
		t.Errorf("%+v", o)
	}
	now := b.settles("test", 4)
	for _, pid := range serves(now) {
		if env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); strings.Contains(string(env), "TEST_FAILS") || len(env) == 0 {
			t.Errorf("process %d isn't of the last good version", pid)
		}
	}
	os.WriteFile(file, nil, 0o644)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Errorf("after a failure: %+v", o)
	}
	b.settles("test", 4)
	r := end()
	unbroken(t, r)
	testenv.Result(t, "one by one, gone back, one by one: %d requests, %d failed", r.Total.Requests, r.Total.Failed())
}

// rolled tells after how many replacements each process was started.
func rolled(b *bed, since uint64) string {
	var order []string
	n := 0
	for e, err := range b.client.Follow(b.ctx(), since) {
		switch {
		case err != nil:
			b.t.Fatal(err)
		case e.Kind == control.EventStart && n == 0:
			order = append(order, "start")
		case e.Kind == control.EventStart:
			order = append(order, fmt.Sprintf("start+%d", n))
		case e.Kind == control.EventRoll:
			n++
		case e.Kind == control.EventReady:
			return strings.Join(order, " ")
		}
	}
	return ""
}

// TestTheFirstWorkerOpensTheSocket: where the program binds for itself, the first
// worker of a service does, and the others are given what it has.
func TestTheFirstWorkerOpensTheSocket(t *testing.T) {
	t.Parallel()
	s := webs(t, 3)
	s.Listen = nil
	b := keep(t, s)
	b.settles("test", 3)
	b.await(control.EventReady, 0)
	st := b.of("test")
	if len(st.Listen) != 1 {
		t.Fatalf("it listens on %v", st.Listen)
	}
	_, addr, _ := strings.Cut(st.Listen[0], ":")
	end := b.strictly(addr)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	if st := b.settles("test", 3); len(st.Listen) != 1 || !strings.HasSuffix(st.Listen[0], addr) {
		t.Errorf("it listens on %v", st.Listen)
	}
	unbroken(t, end())
}

// TestSerialStart: a worker is started when the one before it is ready.
func TestSerialStart(t *testing.T) {
	t.Parallel()
	s := webs(t, 3)
	s.SerialStart = true
	b := keep(t, s)
	b.settles("test", 3)
	var starts []time.Time
	for e, err := range b.client.Follow(b.ctx(), 0) {
		if err != nil || e.Kind == control.EventReady {
			break
		}
		if e.Kind == control.EventStart {
			starts = append(starts, e.At)
		}
	}
	if len(starts) != 3 {
		t.Errorf("%d were started before the first one served", len(starts))
	}
}

// TestBroadcast: what is said to a service reaches all its workers, and what one of
// them says the others.
func TestBroadcast(t *testing.T) {
	t.Parallel()
	b := keep(t, webs(t, 3))
	b.serving()
	b.settles("test", 3)
	a, err := b.client.Broadcast(b.ctx(), control.Broadcast{Message: []byte("hear")})
	if err != nil || a.Workers != 3 || a.Deaf != 0 {
		t.Fatalf("%+v, %v", a, err)
	}
	for i := range 3 {
		b.logged(fmt.Sprintf("worker %d was told \"hear\" by -1", i), 1)
		for j := range 3 {
			if i != j {
				b.logged(fmt.Sprintf("worker %d was told \"hear, says %d\" by %d", i, j, j), 1)
			}
		}
	}
	if _, err := b.client.Broadcast(b.ctx(), control.Broadcast{Message: make([]byte, control.MaxBroadcast+1)}); err == nil {
		t.Error("a message that is too long is taken")
	}
}

// TestWhatStatusTellsOfWorkers: each has its index, its memory, its connections.
func TestWhatStatusTellsOfWorkers(t *testing.T) {
	t.Parallel()
	b := keep(t, webs(t, 2), func(b *bed) { b.conf.StatusFile = filepath.Join(b.dir, "status") })
	end := b.strictly(b.serving())
	b.settles("test", 2)
	proctest.Check(t, func() error {
		open := 0
		for _, g := range b.status().Generations {
			for _, w := range g.Workers {
				if w.Memory == 0 || w.Since.IsZero() || w.Heard.IsZero() || w.Conns == nil {
					return fmt.Errorf("worker %+v", w)
				}
				open += w.Conns.Open
			}
		}
		if open < 10 {
			return fmt.Errorf("%d connections", open)
		}
		return nil
	})
	end()
	pid := fmt.Sprint(serves(b.of("test"))[1])
	proctest.Poll(t, "the status file", func() bool {
		data, _ := os.ReadFile(b.conf.StatusFile)
		return strings.Contains(string(data), pid)
	})
	b.client.Stop(b.ctx(), control.StopRequest{})
	<-b.waited
	if _, err := os.Stat(b.conf.StatusFile); err == nil {
		t.Error("the status file is left")
	}
}

// TestAConnectionOfAWorkerThatGoes moves to one that stays; without the handover
// it ends.
func TestAConnectionOfAWorkerThatGoes(t *testing.T) {
	t.Parallel()
	for _, handover := range []Switch{On, Off} {
		t.Run(string(handover), func(t *testing.T) {
			t.Parallel()
			s := webs(t, 2)
			s.Handover = handover
			b := keep(t, s)
			addr := b.serving()
			stays := fmt.Sprint(serves(b.settles("test", 2))[0])
			c, pid := connectedElsewhere(t, addr, stays)
			defer c.Close()
			if o := b.scale(1); o.Result != control.Ready {
				t.Fatalf("%+v", o)
			}
			b.settles("test", 1)
			now, err := pidOn(t, c)
			if handover == On && (err != nil || now != stays) || handover == Off && err == nil {
				t.Errorf("process %s answered, then %q: %v", pid, now, err)
			}
		})
	}
}

// connectedElsewhere is a connection to another process than one.
func connectedElsewhere(t *testing.T, addr, than string) (c net.Conn, pid string) {
	t.Helper()
	proctest.Poll(t, "a connection to another worker", func() bool {
		var err error
		if c, err = net.Dial("tcp", addr); err != nil {
			t.Fatal(err)
		}
		if pid, err = pidOn(t, c); err != nil {
			t.Fatal(err)
		}
		if pid == than {
			t.Cleanup(func() { c.Close() }) // as long as it is there the other worker is as likely to get the next one
		}
		return pid != than
	})
	return c, pid
}

// pidOn asks on a connection who is there.
func pidOn(t *testing.T, c net.Conn) (string, error) {
	c.SetDeadline(time.Now().Add(proctest.Patience(t)))
	if _, err := io.WriteString(c, "GET /pid HTTP/1.1\r\nHost: test\r\n\r\n"); err != nil {
		return "", err
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return strings.TrimSpace(string(body)), err
}
