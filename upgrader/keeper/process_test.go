//go:build linux

package keeper

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func local(t *testing.T, args ...string) Service {
	return Service{Command: role(t, append([]string{"serve"}, args...)...), Listen: []string{"127.0.0.1:0"}, MaxDeaths: -1}
}

func TestUpgradesUnderLoad(t *testing.T) {
	t.Parallel()
	b := keep(t, local(t))
	l := startLoad(b.serving(), 4)
	keeper := b.cmd.Process.Pid
	for i := range soak(5, 100) {
		o := b.upgrade(control.UpgradeRequest{Restart: i%2 == 1})
		if o.Result != control.Ready || !o.Confirmed || o.Generation != i+2 {
			t.Fatalf("upgrade %d: %+v", i, o)
		}
		if was := awaitAnswer(t, b.addr, "0"); atoi(t, was) == keeper {
			t.Fatal("the keeper answers by itself")
		}
	}
	l.end()
	if l.refused.Load() > 0 || l.answers.Load() == 0 {
		t.Error(l)
	}
	t.Log(l)
}

// TestKillsOfTheWorkerUnderLoad: the port never closes.
func TestKillsOfTheWorkerUnderLoad(t *testing.T) {
	t.Parallel()
	b := keep(t, local(t))
	l := startLoad(b.serving(), 4)
	was := awaitAnswer(t, b.addr, "0")
	for range soak(6, 100) {
		proctest.Kill(atoi(t, was), syscall.SIGKILL)
		was = awaitAnswer(t, b.addr, was)
	}
	l.end()
	if l.refused.Load() > 0 || l.answers.Load() == 0 {
		t.Error(l)
	}
	testenv.Result(t, "%d kills: %v", soak(6, 100), l)
	if s := b.status(); s.Restarts != soak(6, 100) || s.LastCrash == nil || s.LastCrash.Exit != "signal: killed" {
		t.Errorf("status %+v", s)
	}
}

// TestWithoutTheKeepersSocketAKillRefuses is the negative control: a program that
// binds for itself.
func TestWithoutTheKeepersSocketAKillRefuses(t *testing.T) {
	t.Parallel()
	addr := proctest.FreeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	py := python(t)
	b := keep(t, Service{Command: []string{py, "-m", "http.server", port, "--bind", "127.0.0.1"}, MaxDeaths: -1, Directory: t.TempDir()})
	e := b.await(control.EventReady, 0)
	s := b.status()
	if s.Generations[0].ReadyBy != "listen" {
		t.Logf("ready by %s: %s", s.Generations[0].ReadyBy, e.Text)
	}
	l := startLoad(addr, 2)
	for range 2 {
		pid := b.worker()
		last := b.lastSeq()
		proctest.Kill(pid, syscall.SIGKILL)
		b.await(control.EventReady, last)
	}
	l.end()
	if l.refused.Load() == 0 {
		t.Errorf("no connect was refused, so the tests of the port show nothing: %v", l)
	}
	// Its upgrade can't work, and says what to do.
	o := b.upgrade(control.UpgradeRequest{})
	if o.Result != control.Failed || !strings.Contains(o.Hint, "--listen") {
		t.Errorf("upgrade of a program that binds for itself: %+v", o)
	}
}

func (b *bed) lastSeq() uint64 { return proctest.LastSeq(b.t, b.client) }

func python(t *testing.T) string {
	for _, path := range []string{"/usr/bin/python3", "/usr/local/bin/python3"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	testenv.Need(t, "python3", false)
	return ""
}

func TestABinaryThatIsBad(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "program")
	copyOf(t, program)
	s := local(t)
	s.Command[0] = program
	b := keep(t, s)
	b.serving()
	first := awaitAnswer(t, b.addr, "0")
	bad := []struct {
		what string
		make func()
		exit string
	}{
		{"exits 7 with a message", func() { install(t, program, []byte("#!/bin/sh\necho dear me >&2\nexit 7\n")) }, "exit status 7"},
		{"no program at all", func() { os.Remove(program) }, "no such file"},
		{"a directory", func() { os.Mkdir(program, 0o755) }, "directory"},
		{"not executable", func() { os.Remove(program); os.WriteFile(program, []byte("#!/bin/sh\n"), 0o644) }, "not executable"},
		{"garbage", func() { install(t, program, []byte("\x7fELFgarbage")) }, "exec format error"},
		{"an interpreter that is missing", func() { install(t, program, []byte("#!/no/such/thing\n")) }, "no such file"},
		{"killed by a signal", func() { install(t, program, []byte("#!/bin/sh\nkill -SEGV $$\n")) }, "segmentation fault"},
	}
	for _, x := range bad {
		x.make()
		o := b.upgrade(control.UpgradeRequest{})
		if o.Result != control.Failed || !strings.Contains(o.Exit, x.exit) || o.Generation != 1 {
			t.Errorf("%s: %+v", x.what, o)
		}
		if x.what == bad[0].what && (len(o.Output) != 1 || o.Output[0] != "dear me") {
			t.Errorf("%s: output %q", x.what, o.Output)
		}
	}
	if now := awaitAnswer(t, b.addr, "0"); now != first {
		t.Errorf("%s answers, not %s", now, first)
	}
	// What lies on disk is bad still: a death is answered by the last good binary.
	for range 2 {
		proctest.Kill(atoi(t, first), syscall.SIGKILL)
		first = awaitAnswer(t, b.addr, first)
	}
	// Nothing hinders the next upgrade.
	os.RemoveAll(program)
	copyOf(t, program)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Errorf("after all that: %+v", o)
	}
}

// TestAVersionThatIsNeverReady is killed when its time is over, and nothing has
// changed. That it has little time is part of the change: what serves may take as
// long as it wants to start.
func TestAVersionThatIsNeverReady(t *testing.T) {
	t.Parallel()
	s := local(t).named("web")
	b := keepAll(t, s)
	first := awaitAnswer(t, b.on("web"), "0")
	s.Command, s.ReadyTimeout = []string{"/bin/sleep", "1000"}, time.Second
	b.configure(s)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.TimedOut || o.Exit != "signal: killed" || o.Generation != 1 {
		t.Errorf("%+v", o)
	}
	if now := awaitAnswer(t, b.on("web"), "0"); now != first {
		t.Errorf("%s answers, not %s", now, first)
	}
	proctest.Kill(atoi(t, first), syscall.SIGKILL)
	awaitAnswer(t, b.on("web"), first)
}

func TestNewArgumentsStickIfTheUpgradeSucceeds(t *testing.T) {
	t.Parallel()
	b := keep(t, local(t))
	b.serving()
	last := b.lastSeq()
	if o := b.upgrade(control.UpgradeRequest{Args: []string{"serve", "new"}}); o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	if o := b.upgrade(control.UpgradeRequest{Args: []string{"exit", "4"}}); o.Result != control.Failed {
		t.Fatalf("%+v", o)
	}
	for range 2 {
		b.await(control.EventGone, last)
		if body, err := ask(b.addr); err != nil || !strings.HasSuffix(body, " new") {
			t.Errorf("%q, %v", body, err)
		}
		last = b.lastSeq()
		if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
			t.Fatalf("%+v", o)
		}
	}
}

func TestTheEnvironmentFileIsReadAtUpgradesOnly(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "env")
	os.WriteFile(file, []byte("# a comment\nTEST_VERSION=\"one\"\n"), 0o644)
	s := local(t)
	s.EnvFile = file
	b := keep(t, s)
	b.serving()
	version := func() string {
		body, err := ask(b.addr)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(body)[2]
	}
	os.WriteFile(file, []byte("TEST_VERSION=two\n"), 0o644)
	was := b.worker()
	proctest.Kill(was, syscall.SIGKILL)
	awaitAnswer(t, b.addr, fmt.Sprint(was))
	if v := version(); v != "one" {
		t.Errorf("after a death: %s", v)
	}
	last := b.lastSeq()
	o := b.upgrade(control.UpgradeRequest{})
	b.await(control.EventGone, last) // until then the old one may accept
	if v := version(); o.Result != control.Ready || v != "two" {
		t.Errorf("after an upgrade: %s, %+v", v, o)
	}
	os.WriteFile(file, []byte("what is this\n"), 0o644)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Failed || !strings.Contains(o.Reason, "line 1") || version() != "two" {
		t.Errorf("after a bad file: %s, %+v", version(), o)
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	b := keep(t, local(t))
	b.serving()
	last := b.lastSeq()
	b.cmd.Process.Signal(syscall.SIGHUP)
	if e := b.await(control.EventUpgraded, last); e.Outcome.Trigger != "SIGHUP" || e.Generation != 2 {
		t.Errorf("%+v", e)
	}
	b.cmd.Process.Signal(syscall.SIGTERM)
	<-b.waited
	if !b.cmd.ProcessState.Success() {
		t.Errorf("after SIGTERM: %v", b.cmd.ProcessState)
	}
	if !closed(b.addr) {
		t.Error("the port is still open")
	}
	if _, err := os.Lstat(b.conf.Control); err == nil {
		t.Error("the control socket is left")
	}
}

func TestBecome(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := &bed{t: t, dir: dir, tag: "TEST_TAG=" + dir, conf: Config{Control: filepath.Join(dir, "control")}}
	b.cmd = exec.Command(self(t), "become")
	b.cmd.Env = append(os.Environ(), b.tag, "GORACE=atexit_sleep_ms=0", "TEST_CONTROL="+b.conf.Control)
	t.Cleanup(b.end)
	b.run()
	b.serving()
	was := awaitAnswer(t, b.addr, "0")
	if atoi(t, was) == b.cmd.Process.Pid {
		t.Error("the keeper serves by itself")
	}
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Errorf("%+v", o)
	}
	awaitAnswer(t, b.addr, was)
}
