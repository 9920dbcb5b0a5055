//go:build linux

package upgrader

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// What passes from generation to generation doesn't grow: neither memory nor
// descriptors.
func TestGenerationsDoNotGrow(t *testing.T) {
	s := newService(t, settings{}).start()
	n, addr := s.addr(0)
	for range 5 { // caches fill
		s.readyIs(s.mustUpgrade().PID)
	}
	before, early := s.size(n, addr)
	for range testenv.Count(10, 500) {
		s.readyIs(s.mustUpgrade().PID)
	}
	memory, files := s.size(n, addr)
	testenv.Result(t, "memory %d KiB after 5 upgrades, %d KiB at the end; %d and %d descriptors", before>>10, memory>>10, len(early), len(files))
	if memory > before+before/2+8<<20 {
		t.Errorf("memory grew from %d to %d bytes", before, memory)
	}
	if len(files) > len(early)+3 {
		t.Errorf("descriptors grew from %q to %q", early, files)
	}
}

// size returns what the generation that serves takes, and the descriptors that it
// has open, once it has let go of what it shared with the one before.
func (s *service) size(network, addr string) (memory int64, files []string) {
	s.t.Helper()
	pid := s.who(network, addr).pid
	proctest.Poll(s.t, "the generation before has ended", func() bool { return len(s.processes()) == 1 })
	c := s.client()
	proctest.Poll(s.t, "its successor knows", func() bool { return len(proctest.Status(s.t, c).Generations) == 1 })
	// The pidfd of the one that has ended, and what the control client had.
	proctest.Poll(s.t, "what that took is closed", func() bool {
		files = s.descriptors(pid)
		return !slices.Contains(files, "anon_inode:[pidfd]")
	})
	memory, err := proc.Memory(pid)
	if err != nil {
		s.t.Fatal(err)
	}
	return memory, files
}

// descriptors returns what a process has open.
func (s *service) descriptors(pid int) (links []string) {
	s.t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	list, err := os.ReadDir(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range list {
		if l, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil { // else closed meanwhile
			links = append(links, l)
		}
	}
	return links
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
			proctest.Kill(second, syscall.SIGSTOP)
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
			proctest.Kill(second, sig)
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

// Nor does a generation grow by the successors that it survives: it lets go of their
// processes. (What tableflip holds of them goes with the garbage.)
func TestDeadSuccessorsLeaveNothing(t *testing.T) {
	s := newService(t, settings{KillTimeout: 60000}).start()
	n, addr := s.addr(0)
	first := s.who(n, addr).pid
	held := s.hold(n, addr)
	defer held.Close()
	for range 3 {
		next := s.mustUpgrade().PID
		s.readyIs(next)
		proctest.Kill(next, syscall.SIGKILL)
		s.readyIs(first)
	}
	proctest.Check(t, func() error {
		if all := s.descriptors(first); slices.Contains(all, "anon_inode:[pidfd]") {
			return fmt.Errorf("open after the death of three successors: %q", all)
		}
		return nil
	})
}

// Whoever was told that an upgrade is done finds the new generation serving.
func TestServingOnceUpgraded(t *testing.T) {
	s := newService(t, settings{}).start()
	for range testenv.Count(20, 300) {
		s.mustUpgrade()
		if st := proctest.Status(t, s.client()); st.State != control.Serving {
			t.Fatalf("%q", st.State)
		}
	}
}
