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
	syscall.Kill(was, syscall.SIGUSR1)
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
	syscall.Kill(was, syscall.SIGWINCH)
	b.gone(was)
	if s := b.status(); s.Restarts != 2 || s.Crashes != 1 {
		t.Errorf("%+v", s)
	}

	// Asked for an upgrade instead of its keeper.
	last = b.lastSeq()
	syscall.Kill(b.worker(), syscall.SIGUSR2)
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
		syscall.Kill(was, syscall.SIGUSR2)
		b.await(control.EventUpgrade, last)
		syscall.Kill(was, syscall.SIGKILL)
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

// manager plays the service manager above a keeper.
type manager struct {
	t  *testing.T
	r  *sd.Receiver
	in chan *sd.Received
}

func newManager(t *testing.T) *manager {
	r, err := sd.NewReceiver("")
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{t, r, make(chan *sd.Received, 256)}
	go func() {
		for {
			got, err := r.Recv()
			if err != nil {
				return
			}
			m.in <- got
		}
	}()
	t.Cleanup(func() { r.Close() })
	return m
}

// until returns the messages up to the first with that key.
func (m *manager) until(key string) []*sd.Received {
	m.t.Helper()
	var all []*sd.Received
	for {
		select {
		case got := <-m.in:
			all = append(all, got)
			if _, ok := got.Get(key); ok {
				return all
			}
		case <-time.After(proctest.Patience(m.t)):
			m.t.Fatalf("no %s=; but %v", key, all)
		}
	}
}

// TestTheManagerAbove is told what it needs to know, and its store brings the
// sockets back after the keeper's kill, under load: never refused.
func TestTheManagerAbove(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	b := keep(t, local(t), func(b *bed) { b.tag += ""; b.conf.Services[0].Listen = []string{"web=127.0.0.1:0"} })
	b.end()
	b = &bed{t: t, dir: b.dir, tag: b.tag, conf: b.conf}
	t.Cleanup(b.end)
	b.start("NOTIFY_SOCKET=" + m.r.Address())
	b.serving()
	var stored int
	for _, got := range m.until("READY") {
		if got.Has("FDSTORE") {
			if name, _ := got.Get("FDNAME"); name != "web" {
				t.Errorf("stored as %q", name)
			}
			stored = got.TakeFiles()[0]
		}
		if got.PID != b.cmd.Process.Pid {
			t.Errorf("%d speaks, not the keeper", got.PID)
		}
	}
	if stored == 0 {
		t.Fatal("the socket wasn't stored")
	}
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	m.until("RELOADING")
	m.until("READY")
	if o := b.upgrade(control.UpgradeRequest{Args: []string{"exit", "1"}}); o.Result != control.Failed {
		t.Fatalf("%+v", o)
	}
	m.until("RELOADING")
	if all := m.until("READY"); len(all) > 0 {
		if s, _ := all[len(all)-1].Get("STATUS"); !strings.Contains(s, "failed") {
			t.Errorf("status after a failure: %q", s)
		}
	}

	l := startLoad(b.addr, 2)
	was := awaitAnswer(t, b.addr, "0")
	for range soak(2, 20) {
		b.cmd.Process.Kill()
		<-b.waited
		b.startPassing(stored, "web", "NOTIFY_SOCKET="+m.r.Address())
		was = awaitAnswer(t, b.addr, was)
	}
	l.end()
	if l.refused.Load() > 0 || l.answers.Load() == 0 {
		t.Error(l)
	}
	t.Log(l)
	b.cmd.Process.Signal(syscall.SIGTERM)
	m.until("STOPPING")
	<-b.waited
}

// startPassing starts the keeper as a service manager does that holds a socket.
func (b *bed) startPassing(fd int, name string, env ...string) {
	b.t.Helper()
	f := os.NewFile(uintptr(must(b.t)(syscall.Dup(fd))), "passed")
	defer f.Close()
	b.passed = []*os.File{f}
	// The test can't set LISTEN_PID: sh does, and becomes the keeper.
	b.start(append(env, "LISTEN_FDS=1", "LISTEN_FDNAMES="+name)...)
	b.passed = nil
}

func must(t *testing.T) func(int, error) int {
	return func(n int, err error) int {
		if err != nil {
			t.Fatal(err)
		}
		return n
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
	b.upgrade(control.UpgradeRequest{})
	reads("keeper.pid", b.cmd.Process.Pid)
	reads("worker.pid", b.worker())

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

// TestSocketsThatCantBeHad: refused with what to do, and nothing is started.
func TestSocketsThatCantBeHad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	live, err := net.Listen("unix", filepath.Join(dir, "live"))
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	os.WriteFile(filepath.Join(dir, "file"), nil, 0o644)
	for _, x := range []struct{ listen, says string }{
		{"unix:" + dir, "no socket"},
		{"unix:" + filepath.Join(dir, "file"), "no socket"},
		{"unix:" + filepath.Join(dir, "live"), "somebody listens"},
		{taken.Addr().String(), "address already in use"},
		{"nonsense", "no port"},
		{"unix:/x?colour=red", "unknown setting"},
		{"192.0.2.1:80", "no interface"},
	} {
		b := keep(t, Service{Command: []string{"/bin/sleep", "1000"}, Listen: []string{x.listen}})
		<-b.waited
		if b.cmd.ProcessState.ExitCode() != 125 || !strings.Contains(b.log(), x.says) {
			t.Errorf("%s: %v: %s", x.listen, b.cmd.ProcessState, b.log())
		}
	}
	if c, err := net.Dial("unix", filepath.Join(dir, "live")); err != nil {
		t.Errorf("the live server's socket is gone: %v", err)
	} else {
		c.Close()
	}
}

func TestUnixSockets(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sock")
	if err := syscall.Mknod(path, syscall.S_IFSOCK|0o600, 0); err != nil { // what a dead server leaves
		t.Fatal(err)
	}
	s := local(t)
	s.Listen = []string{"unix:" + path + "?mode=0640"}
	b := keep(t, s)
	b.await(control.EventReady, 0)
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", fi, err)
	}
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	b.end()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the path is left")
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
		syscall.Kill(b.worker(), syscall.SIGKILL)
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
