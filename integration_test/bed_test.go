//go:build linux

package integration

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proc"
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

	cmd    *exec.Cmd
	notify *sd.Receiver
	gone   chan struct{} // closed: no process has the log open

	mu    sync.Mutex
	news  *sync.Cond // something was said, or has ended
	said  []said
	heard int // of said: what await has passed
	lines []string
	read  int // of lines: what logged has passed
	procs map[int]*process
}

// said is a notification.
type said struct {
	pid int
	sd.Message
}

func (s said) String() string {
	var parts []string
	for _, f := range s.Fields {
		parts = append(parts, f.Key+"="+f.Value)
	}
	return fmt.Sprintf("%d: %s", s.pid, strings.Join(parts, " "))
}

// process is one that has said something to the service manager.
type process struct {
	ended  chan struct{}
	status syscall.WaitStatus // when ended is closed,
	known  bool               // unless its parent had waited for it
}

func newBed(t *testing.T, m mode) *bed {
	t.Helper()
	// Paths of sockets must be short.
	dir, err := os.MkdirTemp("", "bed-")
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, mode: m, dir: dir, gone: make(chan struct{}), procs: map[int]*process{}}
	b.app, b.control, b.pidfile, b.unix = b.path("app"), b.path("control"), b.path("pid"), b.path("s")
	b.news = sync.NewCond(&b.mu)
	if b.notify, err = sd.NewReceiver(""); err != nil {
		t.Fatal(err)
	}
	go b.hear()
	t.Cleanup(b.close)
	return b
}

func (b *bed) path(name string) string { return filepath.Join(b.dir, name) }

// link switches the symlink that the service is started by.
func (b *bed) link(target string) {
	b.t.Helper()
	os.Remove(b.app + ".new")
	if err := os.Symlink(target, b.app+".new"); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(b.app+".new", b.app); err != nil {
		b.t.Fatal(err)
	}
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
	b.link(self(b.t))
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
	r, w, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	defer w.Close()
	b.cmd = b.command(b.app, args...)
	if b.mode == kept {
		run := []string{"run", "--control", b.control, "--worker-pidfile", b.pidfile, "--kill-timeout", "60s", "--", b.app}
		b.cmd = b.command(tablecloth(b.t), append(run, args...)...)
	}
	// A file, no buffer: Wait would wait for all generations.
	b.cmd.Stdout, b.cmd.Stderr = w, w
	if b.before != nil {
		b.before(b.cmd)
	}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	go b.readLog(r)
	b.watchFirst()
}

// command is one with what the service's environment is.
func (b *bed) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = []string{envBed + "=" + b.dir, "NOTIFY_SOCKET=" + b.notify.Address(), "GORACE=atexit_sleep_ms=0",
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}
	if _, err := os.Stat(b.path("settings")); err == nil {
		cmd.Env = append(cmd.Env, envSettings+"="+b.path("settings"))
	}
	return cmd
}

// envBed marks the processes of a service.
const envBed = "TABLECLOTH_TEST_BED"

func (b *bed) readLog(r *os.File) {
	defer r.Close()
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		b.mu.Lock()
		b.lines = append(b.lines, in.Text())
		b.mu.Unlock()
		b.news.Broadcast()
	}
	close(b.gone)
	b.news.Broadcast()
}

func (b *bed) hear() {
	for {
		m, err := b.notify.Recv()
		if err != nil {
			return
		}
		b.watch(m.PID)
		b.mu.Lock()
		if !m.IsBarrier() {
			b.said = append(b.said, said{m.PID, m.Message})
		}
		b.mu.Unlock()
		b.news.Broadcast()
		m.Done()
	}
}

func (b *bed) watchFirst() {
	p := &process{ended: make(chan struct{}), known: true}
	b.mu.Lock()
	b.procs[b.cmd.Process.Pid] = p
	b.mu.Unlock()
	go func() {
		b.cmd.Wait()
		p.status = b.cmd.ProcessState.Sys().(syscall.WaitStatus)
		close(p.ended)
		b.news.Broadcast()
	}()
}

// watch waits for a later generation, which is our child once its parent has
// ended.
func (b *bed) watch(pid int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.procs[pid] != nil || b.cmd != nil && b.cmd.Process != nil && b.cmd.Process.Pid == pid {
		return
	}
	p := &process{ended: make(chan struct{})}
	b.procs[pid] = p
	go func() {
		if h, err := proc.Open(pid); err == nil {
			<-h.Done()
			p.status, p.known = reap(h)
			h.Close()
		}
		close(p.ended)
		b.news.Broadcast()
	}()
}

// reap waits for a process that has ended, if nobody else does. It must not be
// known by its PID alone, which is another's once its parent has waited for it.
func reap(h *proc.Handle) (status syscall.WaitStatus, ours bool) {
	raw, err := h.SyscallConn()
	if err != nil {
		return 0, false
	}
	for {
		exists := false
		raw.Control(func(fd uintptr) {
			ours = unix.Waitid(unix.P_PIDFD, int(fd), nil, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil) == nil
			exists = unix.PidfdSendSignal(int(fd), 0, nil, 0) == nil
		})
		switch {
		case ours: // and its PID its own until we have waited
			_, err := syscall.Wait4(h.PID(), &status, 0, nil)
			return status, err == nil
		case !exists:
			return 0, false
		}
		time.Sleep(time.Millisecond) // its parent waits for it, or ends
	}
}

// patience bounds what should be immediate.
func patience(t *testing.T) time.Duration {
	d, ok := t.Deadline()
	if !ok {
		return time.Minute
	}
	return min(max(time.Until(d)/4, 5*time.Second), time.Minute)
}

// until waits for something that a process says or does.
func (b *bed) until(what string, done func() bool) {
	b.t.Helper()
	late := time.AfterFunc(patience(b.t), b.news.Broadcast)
	defer late.Stop()
	deadline := time.Now().Add(patience(b.t))
	b.mu.Lock()
	defer b.mu.Unlock()
	for !done() {
		if !time.Now().Before(deadline) {
			b.t.Errorf("waited in vain for %s", what)
			b.t.FailNow()
		}
		b.news.Wait()
	}
}

// await waits for a notification that fits, and passes it and those before it.
func (b *bed) await(what string, fits func(said) bool) (found said) {
	b.t.Helper()
	b.until(what, func() bool {
		for i, s := range b.said[b.heard:] {
			if fits(s) {
				b.heard += i + 1
				found = s
				return true
			}
		}
		return false
	})
	return found
}

// ready waits for READY=1, and returns whose it is.
func (b *bed) ready() int {
	b.t.Helper()
	return b.await("READY=1", func(s said) bool { return s.Has("READY") }).pid
}

// logged waits for a line of the log, passes it and those before it, and returns
// its last group.
func (b *bed) logged(pattern string) (found string) {
	b.t.Helper()
	re := regexp.MustCompile(pattern)
	b.until(fmt.Sprintf("the line %q", pattern), func() bool {
		for i, l := range b.lines[b.read:] {
			if m := re.FindStringSubmatch(l); m != nil {
				b.read += i + 1
				found = m[len(m)-1]
				return true
			}
		}
		return false
	})
	return found
}

// count is how many lines of the log fit so far.
func (b *bed) count(pattern string) (n int) {
	re := regexp.MustCompile(pattern)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.lines {
		if re.MatchString(l) {
			n++
		}
	}
	return n
}

// ended waits for the end of a process, and returns how it was.
func (b *bed) ended(pid int) syscall.WaitStatus {
	b.t.Helper()
	b.mu.Lock()
	p := b.procs[pid]
	b.mu.Unlock()
	if p == nil {
		b.t.Fatalf("%d is no process of the service", pid)
	}
	b.until(fmt.Sprintf("the end of %d", pid), func() bool { return isClosed(p.ended) })
	return p.status
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// close ends every process of the service.
func (b *bed) close() {
	defer os.RemoveAll(b.dir)
	defer b.notify.Close()
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
	select {
	case <-b.gone:
	case <-time.After(20 * time.Second):
		b.t.Error("a process of the service has its log open, and can't be found")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	log := strings.Join(b.lines, "\n")
	if strings.Contains(log, "DATA RACE") {
		b.t.Error("data race in the service")
	}
	if b.t.Failed() {
		b.t.Logf("notifications:\n%v\nlog of the service:\n%s", b.said, log)
	}
}

// kill ends all processes at once. Those that appear meanwhile are next.
func (b *bed) kill() {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		pids := b.processes()
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
			b.watch(pid)
		}
		for _, pid := range pids {
			b.mu.Lock()
			p := b.procs[pid]
			b.mu.Unlock()
			if p != nil {
				<-p.ended
			}
		}
		if len(pids) == 0 {
			break
		}
	}
	b.mu.Lock()
	procs := slices.Collect(maps.Values(b.procs))
	b.mu.Unlock()
	for _, p := range procs {
		<-p.ended
	}
}

// processes returns the PIDs of all generations; zombies are not among them.
func (b *bed) processes() (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !strings.Contains(string(env), envBed+"="+b.dir+"\x00") {
			continue
		}
		var pid int
		fmt.Sscan(filepath.Base(dir), &pid)
		pids = append(pids, pid)
	}
	return pids
}

// client is one of the control socket.
func (b *bed) client() *control.Client {
	b.t.Helper()
	c, err := control.Dial(b.control)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *bed) status() control.Service {
	b.t.Helper()
	st, err := b.client().Status(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return st.Services[0]
}

// upgrade asks for an upgrade, and returns the outcome.
func (b *bed) upgrade() control.Outcome {
	b.t.Helper()
	o, err := b.client().Upgrade(b.t.Context(), control.UpgradeRequest{})
	if err != nil {
		b.t.Fatalf("upgrade: %v", err)
	}
	return o
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
	b.until("the service's end", func() bool { return isClosed(b.gone) })
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

// poll is until, for what nobody tells.
func (b *bed) poll(what string, done func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(patience(b.t)); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// soon reports whether something becomes true within a moment.
func (b *bed) soon(done func() bool) bool {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if done() {
			return true
		}
	}
	return false
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
