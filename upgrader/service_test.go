//go:build linux

package upgrader

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// service is a service under test, and the test its service manager.
type service struct {
	t       testing.TB
	dir     string
	bin     string // a symlink to the test binary
	control string
	pidfile string
	set     settings
	cmd     *exec.Cmd
	log     proctest.Log
	manager *proctest.Manager
	// watchdog is the manager's; 0: it has none.
	watchdog time.Duration

	mu    sync.Mutex
	store []stored // what a manager with a descriptor store would hold
}

// stored is a descriptor in the manager's store.
type stored struct {
	name string
	file *os.File
}

type said = proctest.Said

// newService prepares a service; start starts it.
func newService(t testing.TB, set settings) *service {
	t.Helper()
	if set.Version == "" {
		set.Version = "v"
	}
	if set.Listen == nil {
		set.Listen = []string{"tcp:127.0.0.1:0"}
	}
	dir := t.TempDir()
	s := &service{t: t, dir: dir, bin: filepath.Join(dir, "service"), control: filepath.Join(dir, "control"),
		pidfile: filepath.Join(dir, "pid"), set: set}
	s.link(proctest.Self(t))
	if set.PIDFile == "" {
		s.set.PIDFile = s.pidfile
	}
	s.write()
	s.manager = proctest.NewManager(t, s.keep)
	t.Cleanup(s.cleanup)
	return s
}

func (s *service) link(target string) {
	s.t.Helper()
	proctest.Link(s.t, s.bin, target)
}

// change changes what the generations to come are like.
func (s *service) change(f func(*settings)) {
	s.t.Helper()
	f(&s.set)
	s.write()
}

func (s *service) write() {
	s.t.Helper()
	if err := s.set.write(filepath.Join(s.dir, "settings")); err != nil {
		s.t.Fatal(err)
	}
}

func (s *service) start() *service {
	s.t.Helper()
	if err := proctest.Adopt(); err != nil {
		s.t.Fatal(err)
	}
	s.run()
	s.ready()
	return s
}

// run starts the first generation, without waiting for it.
func (s *service) run() {
	s.t.Helper()
	cmd := exec.Command(s.bin)
	s.mu.Lock()
	if len(s.store) > 0 {
		// LISTEN_PID must be the process's own, which only the process knows.
		cmd = exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, s.bin)
		var names []string
		for _, f := range s.store {
			names = append(names, f.name)
			cmd.ExtraFiles = append(cmd.ExtraFiles, f.file)
		}
		cmd.Env = []string{"LISTEN_FDS=" + fmt.Sprint(len(names)), "LISTEN_FDNAMES=" + strings.Join(names, ":")}
	}
	s.mu.Unlock()
	cmd.Env = append(append(cmd.Env, s.environment()...), s.manager.Environment())
	s.log.Start(s.t, cmd)
	s.cmd = cmd
}

func (s *service) environment() []string {
	env := os.Environ()
	if s.watchdog > 0 {
		env = append(env, fmt.Sprintf("WATCHDOG_USEC=%d", s.watchdog.Microseconds()))
	}
	return append(env, impersonate+"=service", s.tag(), envControl+"="+s.control, "GORACE=atexit_sleep_ms=0")
}

// tag is what the environment of all generations has.
func (s *service) tag() string { return envSettings + "=" + filepath.Join(s.dir, "settings") }

// keep does what a manager with a descriptor store does.
func (s *service) keep(m *sd.Received) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, _ := m.Get("FDNAME")
	switch {
	case m.Has("FDSTORE"):
		for _, fd := range m.TakeFiles() {
			s.store = append(s.store, stored{name, os.NewFile(uintptr(fd), name)})
		}
	case m.Has("FDSTOREREMOVE"):
		s.store = slices.DeleteFunc(s.store, func(f stored) bool {
			if f.name != name {
				return false
			}
			f.file.Close()
			return true
		})
	}
}

// storeNames returns what the store holds.
func (s *service) storeNames() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, f := range s.store {
		names = append(names, f.name)
	}
	return names
}

// await waits for a notification that fits, and passes it and those before it.
func (s *service) await(what string, fits func(said) bool) said {
	s.t.Helper()
	return s.manager.Await(s.t, what, fits)
}

func (s *service) logText() string { return s.log.Text() }

// cleanup ends every process of the service, and fails the test if the log tells
// of a data race.
func (s *service) cleanup() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	s.cmd.Wait()
	proctest.KillTagged(s.tag())
	if s.log.Raced() {
		s.t.Error("data race in the service")
	}
	s.log.Report(s.t)
}

// processes returns the PIDs of the service's generations.
func (s *service) processes() []int { return proctest.Tagged(s.tag()) }

// client returns a client of the control socket.
func (s *service) client() *control.Client {
	s.t.Helper()
	return proctest.Dial(s.t, s.control)
}

// upgrade asks for an upgrade, and returns the outcome.
func (s *service) upgrade() control.Outcome {
	s.t.Helper()
	return proctest.Upgrade(s.t, s.client(), control.UpgradeRequest{})
}

// mustUpgrade is upgrade, and waits for the end of the old generation, so that
// the next one can follow at once.
func (s *service) mustUpgrade() control.Outcome {
	s.t.Helper()
	o := s.upgrade()
	if o.Result != control.Ready {
		s.t.Fatalf("upgrade: %+v", o)
	}
	return o
}

type answer struct {
	generation, pid int
	version         string
}

// addr returns the i'th address of the service as it was really bound.
func (s *service) addr(i int) (network, addr string) {
	s.t.Helper()
	network, addr, _ = strings.Cut(proctest.Status(s.t, s.client()).Listen[i], ":")
	return network, addr
}

func who(network, addr string) (a answer, err error) {
	c, err := net.Dial(network, addr)
	if err != nil {
		return a, err
	}
	defer c.Close()
	io.WriteString(c, "who\n")
	_, err = fmt.Fscan(c, &a.generation, &a.pid, &a.version)
	return a, err
}

func (s *service) who(network, addr string) answer {
	s.t.Helper()
	a, err := who(network, addr)
	if err != nil {
		s.t.Fatalf("who %s %s: %v", network, addr, err)
	}
	return a
}

// hold opens a connection that keeps a generation from ending.
func (s *service) hold(network, addr string) net.Conn {
	s.t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	io.WriteString(c, "hold\n")
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *service) pidInFile() int {
	s.t.Helper()
	b, err := os.ReadFile(s.pidfile)
	if err != nil {
		s.t.Fatal(err)
	}
	var pid int
	fmt.Sscan(string(b), &pid)
	return pid
}
