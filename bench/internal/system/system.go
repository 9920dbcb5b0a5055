// Package system starts, upgrades and watches what is measured.
package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/tablecloth-go/tablecloth/bench/internal/serve"
)

// System is one way to run and replace a service.
type System struct {
	Name  string // short, for commands and files
	Title string // for readers
	Setup string // how it is run and upgraded, one line
	Ours  bool
	// Delay is how long the supervisor, which is this program, waits before it starts
	// the system again when nothing of it lives.
	Delay time.Duration
	// Tail is how much longer than others it is watched after an event, as its old
	// process lives on so long.
	Tail time.Duration
	// Supervised: somebody else starts it again.
	Supervised bool
	// NoUpgrade: it has no connections that become something other than HTTP.
	NoUpgrade bool
	// Events that are left out, and why.
	Skip map[string]string

	version func(*Bed) (string, error)
	start   func(*Instance) (*exec.Cmd, error)
	upgrade func(*Instance) error
	prepare func(*Instance) error // once, before the first start
	stop    func(*Instance) error // nil: its processes are killed
	// processes that live; nil: those that descend from this one.
	processes func(*Instance) []int
}

// Bed is what all systems share.
type Bed struct {
	Self       string // this program
	Tablecloth string // the command
	Dir        string // for files; each instance has a directory in it
	NodeDir    string // with node_modules; "": not needed
}

// Instance is a System that runs.
type Instance struct {
	*System
	Bed     *Bed
	Addr    string
	Backend string // of a proxy
	Dir     string

	number   int    // of configurations written
	daemon   string // nginx's, on or off
	leader   int    // pid of what was started
	aside    []int  // helpers which are no part of the system
	serving  func() int
	answered func(generation int) <-chan struct{}
}

// Version tells the version, or why the system can't be measured here.
func (s *System) Version(b *Bed) (string, error) {
	if s.version == nil {
		return "", nil
	}
	return s.version(b)
}

// Launch starts s, without waiting until it serves.
func (s *System) Launch(b *Bed, addr string) (*Instance, error) {
	dir, err := os.MkdirTemp(b.Dir, s.Name+"-")
	if err != nil {
		return nil, err
	}
	i := &Instance{System: s, Bed: b, Addr: addr, Dir: dir}
	if s.prepare != nil {
		if err := s.prepare(i); err != nil {
			return nil, err
		}
	}
	return i, i.Start()
}

// Start starts it, again after a death.
func (i *Instance) Start() error {
	cmd, err := i.start(i)
	if err != nil {
		return err
	}
	i.leader, err = i.spawn(cmd)
	return err
}

func (i *Instance) spawn(cmd *exec.Cmd) (int, error) {
	log, err := os.OpenFile(i.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "BENCH_ADDR="+i.Addr, "BENCH_COUNTER="+i.counter())
	cmd.Env = append(cmd.Env, "PYTHONPATH="+i.Dir, "PYTHONDONTWRITEBYTECODE=1")
	// As a service manager would: who is in the session of its clients shares their
	// scheduling group, and pays less for switching between them (autogroup, sched(7)).
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	// Not waited for here: Reap does, of whatever became a child of ours.
	pid := cmd.Process.Pid
	return pid, cmd.Process.Release()
}

// Log is the path of what it wrote.
func (i *Instance) Log() string { return filepath.Join(i.Dir, "log") }

func (i *Instance) counter() string { return filepath.Join(i.Dir, "generation") }

// Watch tells who serves, which some upgrades need to know.
func (i *Instance) Watch(serving func() int, answered func(int) <-chan struct{}) {
	i.serving, i.answered = serving, answered
}

// Upgrade triggers one, and returns when nothing more is to be done for it.
func (i *Instance) Upgrade() error { return i.upgrade(i) }

// Processes are those of the system that live.
func (i *Instance) Processes() []int {
	if i.processes != nil {
		return i.processes(i)
	}
	return slices.DeleteFunc(descendants(), func(pid int) bool { return slices.Contains(i.aside, pid) })
}

// Find returns the systems of these names; of none: all.
func Find(names ...string) ([]*System, error) {
	all := Catalogue()
	if len(names) == 0 {
		return all, nil
	}
	var found []*System
	for _, n := range names {
		k := slices.IndexFunc(all, func(s *System) bool { return s.Name == n })
		if k < 0 {
			return nil, fmt.Errorf("no system %q", n)
		}
		found = append(found, all[k])
	}
	return found, nil
}

// Generation is the number of the newest process, or of the newest configuration
// of a server that has no number of its own.
func (i *Instance) Generation() int { return serve.Generation(i.counter()) }
