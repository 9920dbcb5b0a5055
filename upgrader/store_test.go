//go:build linux

package upgrader

import (
	"bufio"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// With a descriptor store the port outlives the sudden death of the only
// process, and so does what the service remembers.
func TestStoreOutlivesDeath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := newService(t, settings{Listen: []string{"tcp:127.0.0.1:0", "tcp:127.0.0.1:0", "unix:" + path}}).start()
	n, addr := s.addr(0)
	_, second := s.addr(1)
	if names := s.storeNames(); len(names) != 4 { // and the memory
		t.Fatalf("the store holds %q", names)
	}
	for i := range 3 {
		if i == 1 { // forgets crashes; what is inherited isn't pushed again
			s.readyIs(s.mustUpgrade().PID) // by then it has left what it knows in the store
		}
		a := s.who(n, addr)
		p := probe(t, n, addr)
		syscall.Kill(a.pid, syscall.SIGKILL)
		s.cmd.Wait()
		s.run()
		s.readyIs(s.cmd.Process.Pid)
		p.end()
		if p.refused.Load() > 0 {
			t.Errorf("%d connects refused", p.refused.Load())
		}
		for _, at := range [][2]string{{n, addr}, {n, second}, {"unix", path}} {
			if b := s.who(at[0], at[1]); b.generation != a.generation+1 || b.pid != s.cmd.Process.Pid {
				t.Fatalf("%s: %+v answers after %+v died", at[1], b, a)
			}
		}
		if names := s.storeNames(); len(names) != 4 {
			t.Fatalf("the store holds %q", names)
		}
		st, err := s.client().Status(t.Context())
		if err != nil || st.Services[0].Crashes != []int{1, 1, 2}[i] || st.Services[0].LastCrash == nil {
			t.Fatalf("%v, %+v", err, st.Services)
		}
	}
	s.change(func(set *settings) { set.Listen = set.Listen[:1] })
	s.readyIs(s.mustUpgrade().PID)
	if names := s.storeNames(); len(names) != 2 {
		t.Errorf("after a change to one address the store holds %q", names)
	}
}

func TestTooManyDeathsAreRemembered(t *testing.T) {
	s := newService(t, settings{MaxCrashes: 2, GiveUpPause: 3600_000}).start()
	for range 3 {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.run()
		s.readyIs(s.cmd.Process.Pid)
	}
	st, err := s.client().Status(t.Context())
	if err != nil || st.Services[0].State != control.GaveUp {
		t.Fatalf("%v, %+v", err, st.Services)
	}
	n, addr := s.addr(0)
	c := s.hold(n, addr)
	fmt.Fprintln(c, "crash") // answered, and nothing is replaced
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if a := s.who(n, addr); a.pid != s.cmd.Process.Pid {
		t.Fatalf("%+v answers", a)
	}
	s.mustUpgrade() // an operator's wish counts
	if st, err = s.client().Status(t.Context()); err != nil || st.Services[0].State == control.GaveUp || st.Services[0].Crashes != 0 {
		t.Fatalf("%v, %+v", err, st.Services)
	}
	if !strings.Contains(s.logText(), "giveup") {
		t.Error("no word of giving up in the log")
	}
}
