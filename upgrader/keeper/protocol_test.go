//go:build linux

package keeper

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// TestAWorkerWithTheLibrary goes through the whole conversation.
func TestAWorkerWithTheLibrary(t *testing.T) {
	t.Parallel()
	b := keep(t, Service{Command: role(t, "library"), MaxDeaths: -1})
	first := b.await(control.EventReady, 0)
	b.logged("told: go", 1)
	b.logged("told: welcome 1 test", 1)

	// An upgrade: Drain instead of the stop signal, which this worker ignores.
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready || !o.Confirmed {
		t.Fatalf("%+v", o)
	}
	b.await(control.EventGone, first.Seq)
	b.logged("told: drain replaced true", 1)

	// A caught crash: the successor first, then the drain.
	last := b.lastSeq()
	was := b.worker()
	proctest.Kill(was, syscall.SIGUSR1)
	if e := b.await(control.EventCrash, last); e.Crash == nil || e.Crash.Error != "caught" || !e.Crash.Caught || e.PID != was {
		t.Errorf("%+v", e)
	}
	if e := b.await(control.EventDrain, last); e.PID != was {
		t.Errorf("%+v", e)
	}
	b.logged("told: drain crashed true", 1)
	if s := b.status(); s.LastCrash == nil || s.LastCrash.Stack != "a stack" || s.Restarts != 1 || s.Crashes != 1 {
		t.Errorf("%+v", s)
	}

	// Told to end by itself: replaced, not counted.
	b.gone(was)
	was = b.worker()
	proctest.Kill(was, syscall.SIGWINCH)
	b.gone(was)
	if s := b.status(); s.Restarts != 2 || s.Crashes != 1 {
		t.Errorf("%+v", s)
	}

	// Asked for an upgrade instead of its keeper.
	last = b.lastSeq()
	proctest.Kill(b.worker(), syscall.SIGUSR2)
	b.await(control.EventUpgraded, last)
	b.logged("told: outcome wish ready", 1)
	if o, err := b.client.Outcome(b.ctx(), "wish"); err != nil || o.Trigger != "api" {
		t.Errorf("%+v, %v", o, err)
	}
	b.logged("told: go", 5)
	proctest.Check(t, func() error {
		s := b.status()
		if w := s.Generations[len(s.Generations)-1].Workers[0]; w.Status != "at your service" || w.Conns.Open != 7 || w.Build != "v0" {
			return fmt.Errorf("%+v", w)
		}
		return nil
	})
	b.end()
	if !strings.Contains(b.log(), "told: drain stopped") {
		t.Error("not told of the stop")
	}
}

// TestAWorkerThatDiesBeforeItsAnswer: who has asked for an upgrade needn't live to
// see it.
func TestAWorkerThatDiesBeforeItsAnswer(t *testing.T) {
	t.Parallel()
	b := keep(t, Service{Command: role(t, "library"), MaxDeaths: -1})
	b.await(control.EventReady, 0)
	for range 5 {
		was, last := b.worker(), b.lastSeq()
		proctest.Kill(was, syscall.SIGUSR2)
		b.await(control.EventUpgrade, last)
		proctest.Kill(was, syscall.SIGKILL)
		b.await(control.EventUpgraded, last)
		proctest.Poll(t, "its death to be heard of", func() bool { return b.worker() != was })
	}
}

// gone waits for the end of one process.
func (b *bed) gone(pid int) {
	b.t.Helper()
	for seq := uint64(0); ; {
		e := b.await(control.EventGone, seq)
		if e.PID == pid {
			return
		}
		seq = e.Seq
	}
}

// TestStrangersAreNotBelieved: only workers can use the keeper's sockets.
func TestStrangersAreNotBelieved(t *testing.T) {
	t.Parallel()
	b := keep(t, Service{Command: []string{"/bin/sleep", "1000"}, Ready: "notify"})
	e := b.await(control.EventStart, 0)
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", e.PID))
	for err == nil && !strings.Contains(string(env), "LISTEN") && !strings.Contains(string(env), "NOTIFY_SOCKET") {
		env, err = os.ReadFile(fmt.Sprintf("/proc/%d/environ", e.PID))
	}
	values := map[string]string{}
	for kv := range strings.SplitSeq(string(env), "\x00") {
		k, v, _ := strings.Cut(kv, "=")
		values[k] = v
	}
	n, err := sd.NewNotifier(values["NOTIFY_SOCKET"])
	if err != nil {
		t.Fatal(err)
	}
	n.Ready()
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: values["TABLECLOTH_KEEPER"], Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stranger is listened to: %d, %v", n, err)
	}
	if g := b.status().Generations[0]; g.State != control.Starting {
		t.Errorf("a stranger made it %s", g.State)
	}
}

// TestStoredDescriptors: those of a generation that fails are dropped.
func TestStoredDescriptors(t *testing.T) {
	t.Parallel()
	b := keep(t, Service{Command: role(t, "storer"), MaxDeaths: -1})
	b.await(control.EventReady, 0)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Failed {
		t.Fatalf("%+v", o)
	}
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	b.logged(`given of-1 with "1"`, 2)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	b.logged(`given of-3 with "3"`, 1)
	if strings.Contains(b.log(), "given of-2") {
		t.Error("a descriptor of the failed generation is held")
	}
}

func TestPIDFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := local(t)
	s.WorkerPIDFile = filepath.Join(dir, "worker.pid")
	b := keep(t, s, func(b *bed) { b.conf.PIDFile = filepath.Join(dir, "keeper.pid") })
	b.serving()
	reads := func(name string, want int) {
		t.Helper()
		proctest.Check(t, func() error {
			data, _ := os.ReadFile(filepath.Join(dir, name))
			if strings.TrimSpace(string(data)) != fmt.Sprint(want) {
				return fmt.Errorf("%s has %q in it, not %d", name, data, want)
			}
			return nil
		})
	}
	reads("keeper.pid", b.cmd.Process.Pid)
	reads("worker.pid", b.worker())
	for range 5 { // who is told of an upgrade finds the file written
		o := b.upgrade(control.UpgradeRequest{})
		if data, err := os.ReadFile(s.WorkerPIDFile); strings.TrimSpace(string(data)) != fmt.Sprint(o.PID) {
			t.Errorf("after the outcome %q is in the file, not %d: %v", data, o.PID, err)
		}
	}
	reads("keeper.pid", b.cmd.Process.Pid)

	second := &bed{t: t, dir: t.TempDir(), tag: b.tag + "2", conf: b.conf}
	second.conf.Control = filepath.Join(second.dir, "control")
	t.Cleanup(second.end)
	second.start()
	<-second.waited
	if second.cmd.ProcessState.ExitCode() != 125 || !strings.Contains(second.log(), "hint: ") {
		t.Errorf("a second instance: %v, %s", second.cmd.ProcessState, second.log())
	}
	b.end()
	for _, name := range []string{"keeper.pid", "worker.pid"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
}

func TestPrivilegesAreDropped(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "root, to become another user", os.Getuid() == 0)
	umask := 0o027
	b := keep(t, Service{Command: []string{"/bin/sh", "-c", "echo $(id -u):$(id -g):$(id -G):$(umask):$(ulimit -n):$(pwd) >&2; exec sleep 1000"},
		User: "nobody", Directory: "/", Umask: &umask, Limits: []string{"nofile=123:456"}, Ready: "delay=0s"})
	b.logged(":0027:123:/\n", 1)
	if strings.Contains(b.log(), "\n0:") {
		t.Error("runs as root")
	}
}

func TestSeveralWorkers(t *testing.T) {
	t.Parallel()
	s := local(t)
	s.Workers = 3
	b := keep(t, s)
	l := startLoad(b.serving(), 4)
	for range soak(3, 30) {
		if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
			t.Fatalf("%+v", o)
		}
		last := b.lastSeq()
		proctest.Kill(b.worker(), syscall.SIGKILL)
		b.await(control.EventReady, last)
	}
	if o := b.upgrade(control.UpgradeRequest{Args: []string{"exit", "1"}}); o.Result != control.Failed {
		t.Fatalf("%+v", o)
	}
	n := 0
	for _, g := range b.status().Generations {
		for _, w := range g.Workers {
			if w.State == control.Serving {
				n++
			}
		}
	}
	l.end()
	if l.refused.Load() > 0 || n != 3 {
		t.Errorf("%d serve, %v", n, l)
	}
}
