//go:build linux

package integration

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// mode is how a service is run.
type mode string

const (
	alone mode = "alone"
	kept  mode = "kept" // by `tablecloth run`
)

// everyMode is what a scenario runs in that says nothing else.
var everyMode = []mode{alone}

// bothModes is for scenarios that look at clients only.
var bothModes = []mode{alone, kept}

// run is a scenario in each of the modes, beside others.
func run(t *testing.T, modes []mode, scenario func(*testing.T, *bed)) {
	t.Parallel()
	for _, m := range modes {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			scenario(t, newBed(t, m))
		})
	}
}

// bed is a service under test and everything around it.
//
//	app -> the program   what the service starts; the symlink is switched
//	control, pid, s      its control socket, PID file, unix socket
//	settings             of the test's own service
type bed struct {
	t       *testing.T
	mode    mode
	dir     string
	app     string
	control string
	pidfile string
	unix    string
	before  func(*exec.Cmd) // start: last changes to the first process; may be nil

	cmd     *exec.Cmd
	log     proctest.Log
	manager *proctest.Manager

	mu    sync.Mutex
	procs map[int]*process
}

type said = proctest.Said

// process is one that has said something to the service manager.
type process struct {
	ended  chan struct{}
	status syscall.WaitStatus // when ended is closed,
	known  bool               // unless its parent had waited for it
}

func newBed(t *testing.T, m mode) *bed {
	t.Helper()
	b := &bed{t: t, mode: m, dir: proctest.Dir(t), procs: map[int]*process{}}
	b.app, b.control, b.pidfile, b.unix = b.path("app"), b.path("control"), b.path("pid"), b.path("s")
	b.manager = proctest.NewManager(t, func(m *sd.Received) { b.watch(m.PID) })
	t.Cleanup(b.close)
	return b
}

func (b *bed) path(name string) string { return filepath.Join(b.dir, name) }

// link switches the symlink that the service is started by.
func (b *bed) link(target string) {
	b.t.Helper()
	proctest.Link(b.t, b.app, target)
}

// demo starts the demo on a TCP and a unix socket, and waits until it is ready.
func (b *bed) demo(args ...string) {
	b.t.Helper()
	b.link(demo(b.t))
	b.start(append(b.demoArgs(), args...)...)
}

func (b *bed) demoArgs() []string {
	return []string{"--web", "127.0.0.1:0", "--api", "", "--unix", b.unix, "--pidfile", b.pidfile, "--control", b.control}
}

// serve starts the test's own service, and waits until it is ready.
func (b *bed) serve(set settings) {
	b.t.Helper()
	b.set(set)
	b.link(proctest.Self(b.t))
	b.start()
}

// set is for the generations to come.
func (b *bed) set(set settings) {
	b.t.Helper()
	set.PIDFile, set.Control = b.pidfile, b.control
	if set.Web == nil {
		set.Web = []string{"127.0.0.1:0", "unix:" + b.unix}
	}
	set.write(b.t, b.path("settings"))
}

func (b *bed) start(args ...string) {
	b.t.Helper()
	b.launch(args...)
	b.ready()
}

// launch starts what the symlink names, without waiting for it.
func (b *bed) launch(args ...string) {
	b.t.Helper()
	cmd := b.command(b.app, args...)
	if b.mode == kept {
		run := []string{"run", "--control", b.control, "--worker-pidfile", b.pidfile, "--kill-timeout", "60s", "--", b.app}
		cmd = b.command(tablecloth(b.t), append(run, args...)...)
	}
	if b.before != nil {
		b.before(cmd)
	}
	b.watchFirst(cmd)
}

// command is one with what the service's environment is.
func (b *bed) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = []string{b.tag(), b.manager.Environment(), "GORACE=atexit_sleep_ms=0",
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}
	if _, err := os.Stat(b.path("settings")); err == nil {
		cmd.Env = append(cmd.Env, envSettings+"="+b.path("settings"))
	}
	return cmd
}

// tag is what the environment of all processes of the service has.
func (b *bed) tag() string { return "TABLECLOTH_TEST_BED=" + b.dir }

// watchFirst starts cmd. What it tells its manager waits until it is known.
func (b *bed) watchFirst(cmd *exec.Cmd) {
	p := &process{ended: make(chan struct{}), known: true}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cmd = cmd
	b.log.Start(b.t, cmd)
	b.procs[cmd.Process.Pid] = p
	go func() {
		cmd.Wait()
		p.status = cmd.ProcessState.Sys().(syscall.WaitStatus)
		close(p.ended)
	}()
}

// watch waits for a later generation, which is our child once its parent has
// ended.
func (b *bed) watch(pid int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.procs[pid] != nil {
		return
	}
	p := &process{ended: make(chan struct{})}
	b.procs[pid] = p
	go func() {
		p.status, p.known = proctest.Wait(pid)
		close(p.ended)
	}()
}

func patience(t *testing.T) time.Duration { return proctest.Patience(t) }

// await waits for a notification that fits, and passes it and those before it.
func (b *bed) await(what string, fits func(said) bool) said {
	b.t.Helper()
	return b.manager.Await(b.t, what, fits)
}

// ready waits for READY=1, and returns whose it is.
func (b *bed) ready() int {
	b.t.Helper()
	return b.await("READY=1", func(s said) bool { return s.Has("READY") }).PID
}

// logged waits for a line of the log, passes it and those before it, and returns
// its last group.
func (b *bed) logged(pattern string) string {
	b.t.Helper()
	return b.log.Next(b.t, pattern)
}

// count is how many lines of the log fit so far.
func (b *bed) count(pattern string) int { return b.log.Count(pattern) }

// ended waits for the end of a process, and returns how it was.
func (b *bed) ended(pid int) syscall.WaitStatus {
	b.t.Helper()
	b.mu.Lock()
	p := b.procs[pid]
	b.mu.Unlock()
	if p == nil {
		b.t.Fatalf("%d is no process of the service", pid)
	}
	proctest.Await(b.t, fmt.Sprintf("the end of %d", pid), p.ended)
	return p.status
}

// close ends every process of the service.
func (b *bed) close() {
	if b.cmd == nil || b.cmd.Process == nil {
		return
	}
	if b.mode == kept { // which sees to it that none of its processes is left
		b.cmd.Process.Signal(syscall.SIGTERM)
		b.mu.Lock()
		keeper := b.procs[b.cmd.Process.Pid]
		b.mu.Unlock()
		<-keeper.ended
	}
	b.kill()
	if b.log.Raced() {
		b.t.Error("data race in the service")
	}
	if b.t.Failed() {
		b.t.Logf("notifications:\n%v", b.manager.Said())
	}
	b.log.Report(b.t)
}

// kill ends all processes at once.
func (b *bed) kill() {
	b.cmd.Process.Kill()
	b.mu.Lock()
	first := b.procs[b.cmd.Process.Pid]
	b.mu.Unlock()
	<-first.ended
	proctest.KillTagged(b.tag())
	b.mu.Lock()
	all := slices.Collect(maps.Values(b.procs))
	b.mu.Unlock()
	for _, p := range all {
		<-p.ended
	}
}

// processes returns the PIDs of all generations; zombies are not among them.
func (b *bed) processes() []int { return proctest.Tagged(b.tag()) }
