//go:build linux

package upgrader

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// What passes from generation to generation doesn't grow: neither memory nor
// descriptors.
func TestGenerationsDoNotGrow(t *testing.T) {
	s := newService(t, settings{}).start()
	n, addr := s.addr(0)
	for range 5 { // caches fill
		s.readyIs(s.mustUpgrade().PID)
	}
	earlyPSS, earlyFiles := s.size(n, addr)
	for range testenv.Count(10, 500) {
		s.readyIs(s.mustUpgrade().PID)
	}
	pss, files := s.size(n, addr)
	testenv.Result(t, "PSS %d KiB after 5 upgrades, %d KiB at the end; %d and %d descriptors", earlyPSS>>10, pss>>10, earlyFiles, files)
	if pss > earlyPSS+earlyPSS/2+8<<20 {
		t.Errorf("PSS grew from %d to %d bytes", earlyPSS, pss)
	}
	if files > earlyFiles+3 {
		t.Errorf("descriptors grew from %d to %d", earlyFiles, files)
	}
}

// size returns what the generation that serves takes, once it is alone.
func (s *service) size(network, addr string) (pss int64, files int) {
	s.t.Helper()
	pid := s.who(network, addr).pid
	proctest.Poll(s.t, "the generation before has ended", func() bool { return len(s.processes()) == 1 })
	m, err := proc.MemoryOf(pid)
	if err != nil {
		s.t.Fatal(err)
	}
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		s.t.Fatal(err)
	}
	return m.PSS, len(list)
}

// A successor that is stopped once it acts keeps the service, as its
// predecessor has handed it over: connections wait, none is refused. When it goes
// on they are answered; when it dies instead, the predecessor serves again while
// it still drains.
func TestStoppedSuccessor(t *testing.T) {
	for _, end := range []string{"goes on", "dies"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			s := newService(t, settings{KillTimeout: 60000}).start()
			n, addr := s.addr(0)
			first := s.who(n, addr)
			held := s.hold(n, addr)
			second := s.mustUpgrade().PID
			s.readyIs(second)
			syscall.Kill(second, syscall.SIGSTOP)
			p := probe(t, n, addr)
			answered := make(chan answer, 1)
			go func() {
				a, _ := who(n, addr) // waits in the backlog
				answered <- a
			}()
			want, sig := second, syscall.SIGCONT
			if end == "dies" {
				want, sig = first.pid, syscall.SIGKILL
			}
			syscall.Kill(second, sig)
			if end == "dies" {
				s.readyIs(first.pid)
			}
			p.end()
			if a := s.who(n, addr); a.pid != want {
				t.Errorf("%+v answers, want %d", a, want)
			}
			<-answered
			if p.refused.Load() > 0 {
				t.Errorf("%d connects refused", p.refused.Load())
			}
			held.Close()
		})
	}
}
