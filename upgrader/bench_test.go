//go:build linux

package upgrader

import (
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// BenchmarkUpgrade is the time from the trigger to the first answer of the new
// process, BenchmarkBareStart that from a start of the same program to its first
// answer, without any handoff: the ratio of the two is what an upgrade costs.
func BenchmarkUpgrade(b *testing.B) {
	s := newService(b, settings{}).start()
	n, addr := s.addr(0)
	for b.Loop() {
		before := s.who(n, addr).pid
		if s.mustUpgrade(); s.who(n, addr).pid == before {
			b.Fatal("the old process answered")
		}
		b.StopTimer()
		for len(s.processes()) > 1 {
			time.Sleep(time.Millisecond) // the old one ends
		}
		b.StartTimer()
	}
}

func BenchmarkBareStart(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s := newService(b, settings{Listen: []string{"tcp:" + freePort(b)}})
		_, addr, _ := strings.Cut(s.set.Listen[0], ":")
		b.StartTimer()
		s.startQuietly()
		for {
			if _, err := who("tcp", addr); err == nil {
				break
			}
			time.Sleep(50 * time.Microsecond)
		}
		b.StopTimer()
		s.cmd.Process.Kill()
		s.cmd.Wait()
		b.StartTimer()
	}
}

func freePort(b *testing.B) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// startQuietly starts the service without a manager that waits.
func (s *service) startQuietly() {
	s.cmd = exec.Command(s.bin)
	s.cmd.Env = s.environment()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}
