//go:build linux

package upgrader

import (
	"syscall"
	"testing"
	"time"
)

// The manager's watchdog hears of whoever acts as soon as it does, not half a
// watchdog's time later: the last word of the generation before may be that old.
func TestWatchdogHearsOfEachTurn(t *testing.T) {
	s := newService(t, settings{KillTimeout: 600000})
	s.watchdog = time.Hour // no second word of anybody
	s.start()
	alive := func(who string, pid int) {
		t.Helper()
		s.await("WATCHDOG=1 of "+who, func(m said) bool { return m.Has("WATCHDOG") && m.PID == pid })
	}
	n, addr := s.addr(0)
	first := s.who(n, addr).pid
	alive("the first generation", first)
	held := s.hold(n, addr)
	defer held.Close()
	second := s.mustUpgrade().PID
	alive("the second", second)
	syscall.Kill(second, syscall.SIGKILL)
	alive("the first, which serves again", first)
}
