//go:build linux

package integration

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
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

// client is one of the control socket.
func (b *bed) client() *control.Client {
	b.t.Helper()
	return proctest.Dial(b.t, b.control)
}

func (b *bed) status() control.Service {
	b.t.Helper()
	return proctest.Status(b.t, b.client())
}

// upgrade asks for an upgrade, and returns the outcome.
func (b *bed) upgrade() control.Outcome {
	b.t.Helper()
	return proctest.Upgrade(b.t, b.client(), control.UpgradeRequest{})
}

func (b *bed) mustUpgrade() control.Outcome {
	b.t.Helper()
	o := b.upgrade()
	if o.Result != control.Ready {
		b.t.Fatalf("upgrade: %+v", o)
	}
	return o
}

// hup is the other way to ask for one: to the process that the PID file names.
func (b *bed) hup() {
	b.t.Helper()
	if err := syscall.Kill(b.pidInFile(), syscall.SIGHUP); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) pidInFile() (pid int) {
	b.t.Helper()
	text, err := os.ReadFile(b.pidfile)
	if err != nil {
		b.t.Fatal(err)
	}
	fmt.Sscan(string(text), &pid)
	return pid
}

// stop ends the service, and checks what it leaves.
func (b *bed) stop() {
	b.t.Helper()
	syscall.Kill(b.pidInFile(), syscall.SIGTERM)
	proctest.NoneLeft(b.t, b.tag())
	for _, path := range []string{b.pidfile, b.control, b.unix} {
		if exists(path) {
			b.t.Errorf("%s was left behind", path)
		}
	}
}

// addr is the service's i'th address as it was bound.
func (b *bed) addr(i int) (network, addr string) {
	b.t.Helper()
	all := b.status().Listen
	if i >= len(all) {
		b.t.Fatalf("the service listens on %v", all)
	}
	spec := all[i]
	if _, after, named := strings.Cut(spec, "="); named {
		spec = after
	}
	network, addr, _ = strings.Cut(spec, ":")
	return network, addr
}

// tcp is the address of its first TCP socket.
func (b *bed) tcp() string {
	b.t.Helper()
	for i := range b.status().Listen {
		if n, addr := b.addr(i); n == "tcp" {
			return addr
		}
	}
	b.t.Fatal("no TCP socket")
	return ""
}

// answer is one by HTTP.
type answer struct {
	status, generation, pid int
	body                    string
}

// ask makes one request on a connection of its own.
func ask(ctx context.Context, network, addr, method, path string) (a answer, err error) {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://test"+path, nil)
	if err != nil {
		return a, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Sscan(resp.Header.Get("X-Generation"), &a.generation)
	fmt.Sscan(resp.Header.Get("X-Pid"), &a.pid)
	a.status, a.body = resp.StatusCode, string(body)
	return a, err
}

func (b *bed) get(addr, path string) answer {
	b.t.Helper()
	a, err := ask(b.t.Context(), "tcp", addr, "GET", path)
	if err != nil {
		b.t.Fatalf("GET %s: %v", path, err)
	}
	return a
}

// serves fails unless that process answers on all addresses, and is the one that
// the PID file names.
func (b *bed) serves(pid int) {
	b.t.Helper()
	for i := range b.status().Listen {
		network, addr := b.addr(i)
		a, err := ask(b.t.Context(), network, addr, "GET", "/pid")
		if err != nil || a.pid != pid {
			b.t.Errorf("%s %s: pid %d answers (%v), want %d", network, addr, a.pid, err, pid)
		}
	}
	if in := b.pidInFile(); in != pid {
		b.t.Errorf("the PID file names %d, want %d", in, pid)
	}
}

// poll waits for what nobody tells.
func (b *bed) poll(what string, done func() bool) {
	b.t.Helper()
	proctest.Poll(b.t, what, done)
}

// timeoutNever is longer than any test.
const timeoutNever = time.Hour

// slowRequest makes a request that takes an hour, and returns when it is being
// served.
func (b *bed) slowRequest(addr string) net.Conn {
	b.t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	before := b.active()
	fmt.Fprint(c, "GET /slow?ms=3600000 HTTP/1.1\r\nHost: test\r\n\r\n")
	b.poll("a request in flight", func() bool { return b.active() > before })
	return c
}

// active is how many requests the generation that acts is serving.
func (b *bed) active() int {
	b.t.Helper()
	gs := b.status().Generations
	if c := gs[len(gs)-1].Workers[0].Conns; c != nil {
		return c.Active
	}
	return 0
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
