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
		syscall.Kill(atoi(t, was), syscall.SIGKILL)
		was = awaitAnswer(t, b.addr, was)
	}
	l.end()
	if l.refused.Load() > 0 || l.answers.Load() == 0 {
		t.Error(l)
	}
	t.Log(l)
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
		syscall.Kill(pid, syscall.SIGKILL)
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

func (b *bed) lastSeq() uint64 {
	var n uint64
	for e, err := range b.client.Events(b.ctx(), 0) {
		if err != nil {
			b.t.Fatal(err)
		}
		n = e.Seq
	}
	return n
}

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
	s.ReadyTimeout = 2 * time.Second
	b := keep(t, s)
	b.serving()
	first := awaitAnswer(t, b.addr, "0")
	bad := []struct {
		what   string
		make   func()
		result control.Result
		exit   string
	}{
		{"exits 7 with a message", func() { install(t, program, []byte("#!/bin/sh\necho dear me >&2\nexit 7\n")) }, control.Failed, "exit status 7"},
		{"no program at all", func() { os.Remove(program) }, control.Failed, "no such file"},
		{"a directory", func() { os.Mkdir(program, 0o755) }, control.Failed, "directory"},
		{"not executable", func() { os.Remove(program); os.WriteFile(program, []byte("#!/bin/sh\n"), 0o644) }, control.Failed, "not executable"},
		{"garbage", func() { install(t, program, []byte("\x7fELFgarbage")) }, control.Failed, "exec format error"},
		{"an interpreter that is missing", func() { install(t, program, []byte("#!/no/such/thing\n")) }, control.Failed, "no such file"},
		{"killed by a signal", func() { install(t, program, []byte("#!/bin/sh\nkill -SEGV $$\n")) }, control.Failed, "segmentation fault"},
		{"never ready", func() { install(t, program, []byte("#!/bin/sh\nexec sleep 1000\n")) }, control.TimedOut, "killed"},
	}
	for _, x := range bad {
		x.make()
		o := b.upgrade(control.UpgradeRequest{})
		if o.Result != x.result || !strings.Contains(o.Exit, x.exit) || o.Generation != 1 {
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
		syscall.Kill(atoi(t, first), syscall.SIGKILL)
		first = awaitAnswer(t, b.addr, first)
	}
	// Nothing hinders the next upgrade.
	os.RemoveAll(program)
	copyOf(t, program)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Errorf("after all that: %+v", o)
	}
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
	syscall.Kill(was, syscall.SIGKILL)
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

// TestHardToEnd: programs that don't want to end are gone after the kill timeout,
// and nothing of them is left, which b.end sees to.
func TestHardToEnd(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"ignores", "stopped", "closes-stderr", "floods"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := keep(t, Service{Command: role(t, "deaf", what), KillTimeout: 100 * time.Millisecond, StopTimeout: 100 * time.Millisecond})
			first := b.await(control.EventReady, 0)
			if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
				t.Fatalf("%+v", o)
			}
			if e := b.await(control.EventKill, first.Seq); e.PID != first.PID {
				t.Errorf("killed %d, not %d", e.PID, first.PID)
			}
			b.await(control.EventGone, first.Seq)
			start := time.Now()
			b.end()
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("the stop took %v", took)
			}
		})
	}
}

func TestDescendantsThatHoldThePort(t *testing.T) {
	t.Parallel()
	b := keep(t, local(t, "children"))
	b.serving()
	proctest.Poll(t, "the beginning of its children", func() bool { return len(b.processes()) >= 5 })
	pid := b.worker()
	syscall.Kill(pid, syscall.SIGKILL)
	awaitAnswer(t, b.addr, fmt.Sprint(pid))
	b.end()
	if !closed(b.addr) {
		t.Error("somebody still listens")
	}
}

func TestACrashLoop(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "program")
	install(t, program, []byte("#!/bin/sh\nexit 1\n"))
	s := local(t)
	s.Command[0] = program
	s.MaxDeaths, s.GiveUpPause = 2, time.Hour
	b := keep(t, s)
	b.await(control.EventGiveUp, 0)
	st := b.status()
	if st.State != control.GaveUp || st.RetryAt == nil || st.Crashes != 3 {
		t.Fatalf("%+v", st)
	}
	_, addr, _ := strings.Cut(st.Listen[0], ":")
	answer := make(chan error, 1)
	go func() { // a connect waits, and is served in the end
		_, err := ask(addr)
		answer <- err
	}()
	cpu := func() time.Duration {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", b.cmd.Process.Pid))
		var ns int64
		fmt.Sscan(string(data), &ns)
		return time.Duration(ns)
	}
	before := cpu()
	time.Sleep(200 * time.Millisecond) // the time over which idleness is measured
	if used := cpu() - before; used > 20*time.Millisecond {
		t.Errorf("used %v of CPU in 200 ms of a pause", used)
	}
	copyOf(t, program)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	if err := <-answer; err != nil {
		t.Error(err)
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

// TestTheExitStatus is the program's.
func TestTheExitStatus(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		what   string
		s      Service
		code   int
		signal syscall.Signal
	}{
		{"no restart", Service{Command: role(t, "exit", "9"), Restart: RestartNever}, 9, 0},
		{"on failure", Service{Command: role(t, "exit", "0"), Restart: RestartOnFailure}, 0, 0},
		{"give up", Service{Command: role(t, "exit", "8"), MaxDeaths: 1, GiveUp: GiveUpExit}, 8, 0},
		{"not there", Service{Command: []string{"/no/such/program"}}, 127, 0},
		{"not executable", Service{Command: []string{"/etc/passwd"}}, 126, 0},
		{"killed", Service{Command: []string{"/bin/sh", "-c", "kill -KILL $$"}, Restart: RestartNever}, -1, syscall.SIGKILL},
		{"aborted", Service{Command: []string{"/bin/sh", "-c", "kill -ABRT $$"}, Restart: RestartNever, Limits: []string{"core=0"}}, 134, 0},
	} {
		t.Run(x.what, func(t *testing.T) {
			b := keep(t, x.s)
			<-b.waited
			ws := b.cmd.ProcessState.Sys().(syscall.WaitStatus)
			if b.cmd.ProcessState.ExitCode() != x.code || x.signal != 0 && ws.Signal() != x.signal {
				t.Errorf("%v", b.cmd.ProcessState)
			}
		})
	}
}

// TestPID1 runs a keeper as PID 1: orphans are reaped, SIGTERM ends all.
func TestPID1(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "root, to make a PID namespace", os.Getuid() == 0)
	unshare, err := exec.LookPath("unshare")
	testenv.Need(t, "unshare", err == nil)
	testenv.Need(t, "PID namespaces", exec.Command(unshare, "--pid", "--fork", "--mount-proc", "true").Run() == nil)
	n := soak(200, 1000)
	file := filepath.Join(t.TempDir(), "count")
	script := fmt.Sprintf(`i=0; while [ $i -lt %d ]; do (true &); i=$((i+1)); done
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	left=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c ' Z '); [ "$left" = 0 ] && break; sleep 0.1; done
echo "$left" > %s.tmp; mv %[2]s.tmp %[2]s; exec sleep 1000`, n, file)
	cmd := exec.Command(unshare, "--pid", "--fork", "--kill-child", "--mount-proc", self(t), "as-keeper",
		fmt.Sprintf(`{"Control":"none","Services":[{"Command":["/bin/sh","-c",%q],"Ready":"delay=0s"}]}`, script))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if left := strings.TrimSpace(proctest.Read(t, file)); left != "0" {
		t.Errorf("%s of %d orphans are zombies", left, n)
	}
	pid1 := 0
	for _, pid := range family(cmd.Process.Pid) {
		if pid != cmd.Process.Pid && pid1 == 0 {
			pid1 = pid
		}
	}
	syscall.Kill(pid1, syscall.SIGTERM)
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 143 { // sleep ended by the SIGTERM that was passed on
		t.Errorf("%v", err)
	}
}

// TestTheKeeperIsKilled: its worker logs while it drains, and lives through it;
// the next keeper binds as soon as it may, and passes on what was in the pipe.
func TestTheKeeperIsKilled(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{
		"127.0.0.77:0", // not where this machine's clients get their ports
		"unix:" + filepath.Join(t.TempDir(), "sock"),
	} {
		name, _, _ := strings.Cut(listen, ":")
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			end, may := filepath.Join(dir, "end"), filepath.Join(dir, "may")
			b := keep(t, Service{Command: role(t, "chatter", end, may), Listen: []string{listen}})
			b.await(control.EventReady, 0)
			b.conf.Services[0].Listen[0] = strings.TrimPrefix(b.status().Listen[0], "tcp:")
			b.conf.Services[0].Command = role(t, "serve")
			b.cmd.Process.Kill()
			<-b.waited
			started := make(chan struct{})
			go func() {
				defer close(started)
				b.start()
			}()
			b.logged("waiting for its end", 1)
			if err := os.WriteFile(may, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			<-started
			b.await(control.EventReady, 0)
			if data, err := os.ReadFile(end); err != nil || string(data) != "end" {
				t.Errorf("the worker didn't come to its end: %q, %v", data, err)
			}
			b.logged("the last line", 1)
		})
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

func TestThePanicIsInTheReport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := Service{Command: role(t, "panic"), MaxDeaths: 1, GiveUpPause: time.Hour,
		OnCrash: []string{"/bin/sh", "-c", "cat > " + dir + "/$$.tmp; mv " + dir + "/$$.tmp " + dir + "/report"}}
	b := keep(t, s)
	b.await(control.EventGiveUp, 0)
	c := b.status().LastCrash
	if c == nil || c.Error != "panic: as the test wants it" || !strings.Contains(c.Stack, "goroutine") || c.Exit != "exit status 2" {
		t.Errorf("%+v", c)
	}
	report := proctest.Read(t, dir+"/report")
	if !strings.Contains(report, `"service":"test"`) || !strings.Contains(report, "as the test wants it") {
		t.Errorf("report %s", report)
	}
}
