//go:build linux

package upgrader

import (
	"path/filepath"
	"testing"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func TestUpgradeKeepsSocketsAndTellsEverybody(t *testing.T) {
	dir := t.TempDir()
	s := newService(t, settings{Version: "a", Listen: []string{"tcp:127.0.0.1:0", "tcp:127.0.0.1:0", "unix:" + filepath.Join(dir, "s")}}).start()
	n, tcp0 := s.addr(0)
	_, tcp1 := s.addr(1)
	first := s.who(n, tcp0)
	if first.generation != 1 || first.version != "a" || s.pidInFile() != first.pid {
		t.Fatalf("first: %+v, pid file %d", first, s.pidInFile())
	}
	for i := 2; i < 5; i++ {
		s.change(func(set *settings) { set.Version = string(rune('a' + i)) })
		o := s.mustUpgrade()
		for _, at := range [][2]string{{n, tcp0}, {n, tcp1}, {"unix", filepath.Join(dir, "s")}} {
			a := s.who(at[0], at[1])
			if a.generation != i || a.pid != o.PID || a.version != s.set.Version || s.pidInFile() != o.PID {
				t.Fatalf("%s: %+v; outcome %+v; pid file %d", at[1], a, o, s.pidInFile())
			}
		}
	}
}

func TestBadBinariesNeverTakeOver(t *testing.T) {
	for _, what := range []string{"exit before New", "exit after New", "exit 0", "panic", "hang before New", "hang"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newService(t, settings{Ready: 30000}).start()
			n, addr := s.addr(0)
			first := s.who(n, addr)
			if what == "hang" || what == "hang before New" {
				// Only the old generation's own setting counts.
				s.change(func(set *settings) { set.Ready = 3000 })
				s.mustUpgrade()
				first = s.who(n, addr)
			}
			s.change(func(set *settings) { set.Misbehave = what })
			o := s.upgrade()
			if o.Result != control.Failed && o.Result != control.TimedOut || o.Reason == "" {
				t.Fatalf("outcome: %+v", o)
			}
			t.Logf("%s; exit %q; output %q", o.Reason, o.Exit, o.Output)
			if a := s.who(n, addr); a != first || s.pidInFile() != a.pid {
				t.Fatalf("%+v serves, was %+v; pid file %d", a, first, s.pidInFile())
			}
			s.change(func(set *settings) { set.Misbehave = "" })
			s.mustUpgrade()
			if a := s.who(n, addr); a.generation != first.generation+1 {
				t.Fatalf("after a good upgrade: %+v", a)
			}
		})
	}
}
