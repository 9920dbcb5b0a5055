//go:build linux

package upgrader

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/internal/pidfile"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// The service of these tests speaks lines: "who" is answered with generation,
// PID and version; "hold" never, until the process ends; "crash" reports a crash.
const (
	envSettings = "TABLECLOTH_TEST_SETTINGS"
	envControl  = "TABLECLOTH_TEST_CONTROL"
)

func init() { impersonations["service"] = impersonateService }

func impersonateService() error {
	s, err := readSettings(os.Getenv(envSettings))
	if err != nil {
		return err
	}
	if s.Misbehave == "exit before New" {
		os.Exit(7)
	}
	if s.Misbehave == "hang before New" {
		select {}
	}
	if s.Protocol != 0 {
		protocol, protocolOldest = s.Protocol, s.Protocol
	}
	generation := 1
	step = func(name string) {
		if name == s.Step && (s.StepGen == 0 || s.StepGen == generation) {
			takeStep(s.StepDo)
		}
	}
	if os.Getenv(sentinel) != "" {
		generation = 2 // until New has told
	}
	log := logrus.New()
	log.SetOutput(os.Stderr)
	u, err := New(Options{
		PIDFile: s.PIDFile, Control: os.Getenv(envControl), Log: log.WithField("pid", os.Getpid()),
		KillTimeout:  time.Duration(s.KillTimeout) * time.Millisecond,
		ReadyTimeout: time.Duration(s.Ready) * time.Millisecond,
		StopTimeout:  time.Duration(s.Stop) * time.Millisecond,
		MaxCrashes:   s.MaxCrashes,
		GiveUpPause:  time.Duration(s.GiveUpPause) * time.Millisecond,
		OnCrash:      func(_ context.Context, c Crash) { fmt.Fprintf(os.Stderr, "hook: crash %d: %v\n", c.Count, c.Err) },
	})
	if err != nil {
		return err
	}
	generation, stepping = u.Generation(), u
	switch s.Misbehave {
	case "exit after New":
		os.Exit(8)
	case "exit 0":
		os.Exit(0)
	case "panic":
		panic("misbehaving on purpose")
	case "hang":
		select {}
	}
	return serveLines(u, s)
}

// stepping is this process's Upgrader, once New has returned.
var stepping *Upgrader

func takeStep(what string) {
	switch what {
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "stop":
		stopSelf()
	case "term self":
		p, _ := os.FindProcess(os.Getpid())
		p.Signal(syscall.SIGTERM)
		<-stepping.Exit()
	case "term": // the generation that the PID file names
		s, _ := readSettings(os.Getenv(envSettings))
		if pid, err := pidfile.Read(s.PIDFile); err == nil {
			syscall.Kill(pid, syscall.SIGTERM)
		}
	}
}

func serveLines(u *Upgrader, s settings) error {
	var conns sync.WaitGroup
	for _, spec := range s.Listen {
		network, addr, _ := strings.Cut(spec, ":")
		ln, err := u.Listen(network, addr)
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				conns.Go(func() { answerLines(u, s, c) })
			}
		}()
	}
	if err := u.Ready(); err != nil {
		return err
	}
	for {
		<-u.Exit()
		d := u.Drain()
		if s.Misbehave == "deaf" {
			select {}
		}
		served := make(chan struct{})
		go func() { conns.Wait(); close(served) }()
		select {
		case <-served:
		case <-d.Expired:
		case <-d.Resumed:
			continue
		}
		if err := u.Close(); err != nil {
			return err
		}
		if d.Reason == Crashed {
			return errors.New("exit after a crash")
		}
		return nil
	}
}

func answerLines(u *Upgrader, s settings, c net.Conn) {
	defer c.Close()
	in := bufio.NewScanner(c)
	for in.Scan() {
		switch in.Text() {
		case "who":
			fmt.Fprintf(c, "%d %d %s\n", u.Generation(), os.Getpid(), s.Version)
			return
		case "crash":
			u.Crash(errors.New("asked to"))
			fmt.Fprintln(c, "crashed")
			return
		case "hold":
			fmt.Fprintln(c, "holding")
		}
	}
}

// service is a service under test, and the test its service manager.
type service struct {
	t       testing.TB
	dir     string
	bin     string // a symlink to the test binary
	control string
	pidfile string
	set     settings
	cmd     *exec.Cmd
	log     string
	notify  *sd.Receiver

	mu    sync.Mutex
	said  []said
	heard *sync.Cond
	store []stored // what a manager with a descriptor store would hold
}

// stored is a descriptor in the manager's store.
type stored struct {
	name string
	file *os.File
}

// said is a notification.
type said struct {
	pid int
	msg sd.Message
}

func (s said) String() string {
	var parts []string
	for _, f := range s.msg.Fields {
		parts = append(parts, f.Key+"="+f.Value)
	}
	return fmt.Sprintf("%d: %s", s.pid, strings.Join(parts, " "))
}

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
		pidfile: filepath.Join(dir, "pid"), log: filepath.Join(dir, "log"), set: set}
	s.heard = sync.NewCond(&s.mu)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.link(exe)
	if set.PIDFile == "" {
		s.set.PIDFile = s.pidfile
	}
	s.write()
	return s
}

func (s *service) link(target string) {
	s.t.Helper()
	os.Remove(s.bin + ".new")
	if err := os.Symlink(target, s.bin+".new"); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(s.bin+".new", s.bin); err != nil {
		s.t.Fatal(err)
	}
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
	becomeSubreaper(s.t)
	var err error
	if s.notify, err = sd.NewReceiver(""); err != nil {
		s.t.Fatal(err)
	}
	go s.listen()
	s.run()
	s.await("READY=1", func(m said) bool { return m.msg.Has("READY") })
	return s
}

// run starts the first generation, without waiting for it.
func (s *service) run() {
	s.t.Helper()
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
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
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(append(cmd.Env, s.environment()...), "NOTIFY_SOCKET="+s.notify.Address())
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.cmd = cmd
	s.t.Cleanup(s.cleanup)
}

func (s *service) environment() []string {
	return append(os.Environ(), impersonate+"=service", envSettings+"="+filepath.Join(s.dir, "settings"),
		envControl+"="+s.control, "GORACE=atexit_sleep_ms=0")
}

func (s *service) listen() {
	for {
		m, err := s.notify.Recv()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.keep(m)
		if !m.IsBarrier() {
			s.said = append(s.said, said{m.PID, m.Message})
		}
		s.heard.Broadcast()
		s.mu.Unlock()
		m.Done()
	}
}

// keep does what a manager with a descriptor store does.
func (s *service) keep(m *sd.Received) {
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

// await waits for a notification that fits, and forgets it and those before it.
func (s *service) await(what string, fits func(said) bool) said {
	s.t.Helper()
	late := time.AfterFunc(patience(s.t), func() { s.mu.Lock(); s.heard.Broadcast(); s.mu.Unlock() })
	defer late.Stop()
	deadline := time.Now().Add(patience(s.t))
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for i, m := range s.said {
			if fits(m) {
				s.said = s.said[i+1:]
				return m
			}
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the manager never heard %s; log:\n%s", what, s.logText())
		}
		s.heard.Wait()
	}
}

func (s *service) logText() string {
	b, _ := os.ReadFile(s.log)
	return string(b)
}

// patience bounds what should be immediate.
func patience(t testing.TB) time.Duration {
	limited, ok := t.(interface{ Deadline() (time.Time, bool) })
	if !ok {
		return time.Minute
	}
	d, ok := limited.Deadline()
	if !ok {
		return time.Minute
	}
	return max(time.Until(d)/4, 5*time.Second)
}

// cleanup ends every process of the service, and fails the test if the log tells
// of a data race.
func (s *service) cleanup() {
	for _, pid := range s.processes() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	s.cmd.Wait()
	for _, pid := range s.processes() {
		syscall.Kill(pid, syscall.SIGKILL)
		waitFor(pid)
	}
	s.notify.Close()
	if text := s.logText(); strings.Contains(text, "DATA RACE") {
		s.t.Errorf("data race in the service:\n%s", text)
	}
	if s.t.Failed() {
		s.t.Logf("log of the service:\n%s", s.logText())
	}
}

// processes returns the PIDs of the service's generations, zombies not
// included: they are those with its settings in their environment.
func (s *service) processes() []int {
	var pids []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !strings.Contains(string(env), envSettings+"="+filepath.Join(s.dir, "settings")+"\x00") {
			continue
		}
		var pid int
		fmt.Sscan(filepath.Base(dir), &pid)
		pids = append(pids, pid)
	}
	return pids
}

// client returns a client of the control socket.
func (s *service) client() *control.Client {
	s.t.Helper()
	c, err := control.Dial(s.control)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// upgrade asks for an upgrade, and returns the outcome.
func (s *service) upgrade() control.Outcome {
	s.t.Helper()
	o, err := s.client().Upgrade(s.t.Context(), control.UpgradeRequest{})
	if err != nil {
		s.t.Fatalf("upgrade: %v; log:\n%s", err, s.logText())
	}
	return o
}

// mustUpgrade is upgrade, and waits for the end of the old generation, so that
// the next one can follow at once.
func (s *service) mustUpgrade() control.Outcome {
	s.t.Helper()
	o := s.upgrade()
	if o.Result != control.Ready {
		s.t.Fatalf("upgrade: %+v; log:\n%s", o, s.logText())
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
	st, err := s.client().Status(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	network, addr, _ = strings.Cut(st.Services[0].Listen[i], ":")
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
		s.t.Fatalf("who %s %s: %v; log:\n%s", network, addr, err, s.logText())
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
