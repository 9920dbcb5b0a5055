//go:build linux

package upgrader

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// prober connects again and again, and counts those connects that were refused.
type prober struct {
	refused, connected atomic.Int64
	stop               chan struct{}
	wg                 sync.WaitGroup
}

func probe(t *testing.T, network, addr string) *prober {
	p := &prober{stop: make(chan struct{})}
	p.wg.Go(func() {
		for {
			select {
			case <-p.stop:
				return
			default:
			}
			c, err := net.Dial(network, addr)
			if err != nil {
				p.refused.Add(1)
				continue
			}
			p.connected.Add(1)
			c.(*net.TCPConn).SetLinger(0) // thousands of them leave no ports behind
			c.Close()
		}
	})
	t.Cleanup(p.end)
	return p
}

func (p *prober) end() {
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
	p.wg.Wait()
}

// trigger sends SIGHUP to the generation that the PID file names.
func (s *service) hup() {
	s.t.Helper()
	if err := proctest.Kill(s.pidInFile(), syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
}

// ready waits until somebody says READY=1, and returns who.
func (s *service) ready() int {
	s.t.Helper()
	return s.await("READY=1", func(m said) bool { return m.Has("READY") }).PID
}

// readyIs waits until that process says so.
func (s *service) readyIs(pid int) {
	s.t.Helper()
	s.await(fmt.Sprintf("READY=1 of %d", pid), func(m said) bool { return m.Has("READY") && m.PID == pid })
}

func TestDeathAtEachStep(t *testing.T) {
	type step struct {
		name string
		gen  int // who dies
	}
	steps := []step{{"before hello", 2}, {"after hello", 2}, {"before ready", 2}, {"after ready", 2}, {"after go", 2},
		{"before acting", 2}, {"ready heard", 1}, {"before commit", 1}, {"before go", 1}, {"go sent", 1}, {"go said", 1}}
	for _, st := range steps {
		t.Run(fmt.Sprintf("generation %d %s", st.gen, st.name), func(t *testing.T) {
			t.Parallel()
			s := newService(t, settings{Step: st.name, StepDo: "kill", StepGen: st.gen}).start()
			n, addr := s.addr(0)
			first := s.who(n, addr)
			p := probe(t, n, addr)
			s.hup()
			survivor := st.gen == 2
			pid := s.await("READY=1 of whoever survives", func(m said) bool {
				return m.Has("READY") && survivor == (m.PID == first.pid)
			}).PID
			p.end()
			if p.refused.Load() > 0 || p.connected.Load() == 0 {
				t.Errorf("%d connects, %d refused", p.connected.Load(), p.refused.Load())
			}
			if a := s.who(n, addr); a.pid != pid || s.pidInFile() != pid {
				t.Errorf("%+v answers, %d acts, pid file %d", a, pid, s.pidInFile())
			}
			s.change(func(set *settings) { set.Step = "" })
			o := s.mustUpgrade()
			if a := s.who(n, addr); a.pid != o.PID {
				t.Errorf("%+v answers after a good upgrade to %d", a, o.PID)
			}
		})
	}
}

// A generation that dies before it has said all that the next one needs leaves
// nobody: half of its sockets would be worse.
func TestDeathBeforeAllIsQueued(t *testing.T) {
	s := newService(t, settings{Step: "started", StepDo: "kill", StepGen: 1}).start()
	s.hup()
	s.cmd.Wait()
	proctest.NoneLeft(t, s.tag())
}

// The successor dies when the old generation drains already: it serves again.
func TestServiceIsTakenBack(t *testing.T) {
	s := newService(t, settings{KillTimeout: 60000}).start()
	n, addr := s.addr(0)
	first := s.who(n, addr)
	held := s.hold(n, addr)
	for range 2 { // a service that was taken back is as good as before
		o := s.mustUpgrade()
		if a := s.who(n, addr); a.pid != o.PID {
			t.Fatalf("%+v answers, want %d", a, o.PID)
		}
		p := probe(t, n, addr)
		proctest.Kill(o.PID, syscall.SIGKILL)
		s.await("the taken-back service", func(m said) bool {
			main, _ := m.Get("MAINPID")
			return m.Has("READY") && main == fmt.Sprint(first.pid)
		})
		p.end()
		if p.refused.Load() > 0 {
			t.Errorf("%d connects refused", p.refused.Load())
		}
		if a := s.who(n, addr); a.pid != first.pid || s.pidInFile() != first.pid {
			t.Fatalf("%+v answers, pid file %d, want %d", a, s.pidInFile(), first.pid)
		}
	}
	held.Close()
}

// An old generation that doesn't end is killed by its successor.
func TestHungGenerationIsKilled(t *testing.T) {
	for _, how := range []string{"go sent", "go said", "deaf"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			set := settings{KillTimeout: 100}
			if how == "deaf" {
				set.Misbehave = "deaf"
			} else {
				set.Step, set.StepDo, set.StepGen = how, "stop", 1
			}
			s := newService(t, set).start()
			n, addr := s.addr(0)
			first := s.who(n, addr)
			s.change(func(set *settings) { set.Misbehave = "" })
			s.hup()
			s.ready()
			err := s.cmd.Wait()
			if ws := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
				t.Fatalf("the old generation ended with %v", err)
			}
			if a := s.who(n, addr); a.pid == first.pid {
				t.Fatalf("%+v answers", a)
			}
			s.mustUpgrade()
		})
	}
}

// While the old generation drains, an upgrade waits; those who ask it for one
// reach its successor.
func TestTriggersDuringADrain(t *testing.T) {
	s := newService(t, settings{KillTimeout: 60000}).start()
	n, addr := s.addr(0)
	first := s.who(n, addr)
	held := s.hold(n, addr)
	s.mustUpgrade()
	proctest.Kill(first.pid, syscall.SIGHUP) // the wrong one
	outcome := make(chan control.Outcome, 1)
	go func() { outcome <- s.upgrade() }()
	select {
	case o := <-outcome:
		t.Fatalf("an upgrade ended while the last one drains: %+v", o)
	case <-time.After(100 * time.Millisecond): // too short to fail wrongly
	}
	held.Close()
	if o := <-outcome; o.Result != control.Ready || o.Generation < 3 {
		t.Fatalf("%+v", o)
	}
	s.cmd.Wait()
}

func TestUpgradeNowEndsADrain(t *testing.T) {
	s := newService(t, settings{KillTimeout: 60000}).start()
	s.hold(s.addr(0))
	s.mustUpgrade()
	o, err := s.client().Upgrade(t.Context(), control.UpgradeRequest{Now: true})
	if err != nil || o.Result != control.Ready || o.Generation != 3 {
		t.Fatalf("%+v, %v", o, err)
	}
}

// 200 signals in a burst lead to few upgrades, and the last state wins.
func TestSignalStorm(t *testing.T) {
	s := newService(t, settings{}).start()
	n, addr := s.addr(0)
	for i := range 200 {
		if i == 199 {
			s.change(func(set *settings) { set.Version = "last" })
		}
		s.hup()
	}
	for s.who(n, addr).version != "last" {
		s.ready()
	}
	if a := s.who(n, addr); a.generation > 50 {
		t.Errorf("200 signals led to %d upgrades", a.generation-1)
	}
}

func TestStopDuringAnUpgrade(t *testing.T) {
	for _, step := range []string{"before hello", "before ready", "ready heard", "before go", "go said"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			gen := 2
			if !strings.HasPrefix(step, "before h") && step != "before ready" {
				gen = 1
			}
			s := newService(t, settings{Step: step, StepDo: "term", StepGen: gen}).start()
			s.hup()
			s.await("STOPPING=1", func(m said) bool { return m.Has("STOPPING") })
			s.cmd.Wait()
			s.gone()
		})
	}
}

// A stop while the generation before still drains: that one ends first, within
// the stop timeout, though its own would have been longer.
func TestStopDuringADrain(t *testing.T) {
	for _, end := range []string{"drained", "stop timeout", "hangs"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			set := settings{KillTimeout: 60000, Stop: 60000}
			if end != "drained" {
				set.Stop = 100
			}
			if end == "hangs" {
				set.Misbehave = "deaf"
			}
			s := newService(t, set).start()
			n, addr := s.addr(0)
			held := s.hold(n, addr)
			s.change(func(set *settings) { set.Misbehave = "" })
			s.mustUpgrade()
			second := s.who(n, addr).pid
			proctest.Kill(second, syscall.SIGTERM)
			s.await("STOPPING=1", func(m said) bool { return m.Has("STOPPING") })
			if end == "drained" {
				proctest.Quiet(50 * time.Millisecond)
				if len(s.processes()) != 2 {
					t.Error("the successor ended before its predecessor")
				}
				held.Close()
			}
			s.cmd.Wait()
			s.gone()
		})
	}
}

// gone waits until no process of the service is left, and checks what it leaves.
func (s *service) gone() {
	s.t.Helper()
	proctest.NoneLeft(s.t, s.tag())
	for _, path := range []string{s.pidfile, s.control} {
		if exists(path) {
			s.t.Errorf("%s was left behind", path)
		}
	}
}

// A candidate that is told to end is a failed upgrade, and no end of the service:
// what belongs to the service stays.
func TestStoppedCandidateIsNoEnd(t *testing.T) {
	s := newService(t, settings{Step: "before ready", StepDo: "term self", StepGen: 2}).start()
	n, addr := s.addr(0)
	first := s.who(n, addr)
	if o := s.upgrade(); o.Result != control.Failed {
		t.Fatalf("%+v", o)
	}
	if a := s.who(n, addr); a != first || s.pidInFile() != first.pid || !exists(s.control) {
		t.Fatalf("%+v answers, was %+v; pid file %d; control socket there: %v", a, first, s.pidInFile(), exists(s.control))
	}
	for _, m := range s.manager.Rest() {
		if m.Has("STOPPING") {
			t.Errorf("the manager was told %v", m)
		}
	}
	s.change(func(set *settings) { set.Step = "" })
	s.mustUpgrade()
}
