//go:build linux

package upgrader

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
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

// A request that a generation reads last of all, when it has served all else, is
// its successor's: whoever sent it had been accepted.
func TestRequestThatIsReadLast(t *testing.T) {
	const bound = lastRequests - time.Second // what takes longer has another end
	for try := 1; ; try++ {
		s := newService(t, settings{}).start()
		first := s.pidInFile()
		began := time.Now()
		c := s.accepted()
		second := s.mustUpgrade().PID
		s.readyIs(second)
		proctest.Quiet(2 * lastAnswers) // the first one has nothing else to do
		o, err := askOn(c, "late")
		if time.Since(began) > bound && try < 20 {
			continue // the machine stood still
		}
		if err != nil || o.Result != control.Moved || o.PID != second || o.ID != "late" {
			t.Fatalf("%+v, %v; %d is there: %v", o, err, first, slices.Contains(s.processes(), first))
		}
		later := s.client()
		proctest.Poll(t, "the successor has heard of it", func() bool {
			o, err = later.Outcome(proctest.Context(t), "late")
			return err == nil && o.Result != control.Moved
		})
		if o.Result != control.Ready || o.Generation != 3 {
			t.Errorf("%+v", o)
		}
		return
	}
}

// accepted connects to the control socket, and returns when the generation that
// acts has accepted that.
func (s *service) accepted() net.Conn {
	s.t.Helper()
	c, err := net.Dial("unix", s.control)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	proctest.Status(s.t, s.client()) // asked by somebody who stood in line behind
	return c
}

// askOn asks for an upgrade on a connection that is there already.
func askOn(c net.Conn, id string) (o control.Outcome, err error) {
	body := fmt.Sprintf(`{"id":%q}`, id)
	if _, err := fmt.Fprintf(c, "POST /upgrade HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		return o, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return o, err
	}
	defer resp.Body.Close()
	return o, json.NewDecoder(resp.Body).Decode(&o)
}
