package vault

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// clientsMain holds connections which the tester has no descriptors for.
func clientsMain() {
	n, err := strconv.Atoi(os.Args[2])
	check(err)
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i], err = net.Dial("tcp", os.Args[1])
		check(err)
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	for _, c := range conns {
		c.SetReadDeadline(time.Now())
		if _, err := c.Read(make([]byte, 1)); !os.IsTimeout(err) {
			check(fmt.Errorf("connection ended: %w", err))
		}
	}
}

func hold(b *testing.B, addr string, n int) (release func()) {
	b.Helper()
	cmd := exec.Command("/proc/self/exe", addr, strconv.Itoa(n))
	cmd.Env = append(os.Environ(), roleVariable+"=clients")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(b, err)
	out, err := cmd.StdoutPipe()
	must(b, err)
	must(b, cmd.Start())
	if _, err := fmt.Fscanln(out, new(string)); err != nil {
		b.Fatal(err)
	}
	return func() {
		in.Close()
		must(b, cmd.Wait())
	}
}

// BenchmarkRescue measures from the death to the vault's, and until the next
// worker serves. None of the connections may end.
func BenchmarkRescue(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			s := newService(b, nil)
			release := hold(b, s.ln.Addr().String(), n)
			for accepted := 0; accepted < n; { // the others still wait in the backlog
				lines, err := s.now.vault.view.Lines()
				must(b, err)
				accepted = len(lines)
			}
			b.ResetTimer()
			for range b.N {
				s.crash("kill")
			}
			b.StopTimer()
			var sum time.Duration
			for _, took := range s.took {
				sum += took
			}
			b.ReportMetric(float64(sum.Microseconds())/1000/float64(b.N), "ms/rescue")
			if s.sum.Idle != n*b.N {
				b.Errorf("%+v", s.sum)
			}
			release()
		})
	}
}

// BenchmarkMemory reports what the vault adds to the machine's memory.
func BenchmarkMemory(b *testing.B) {
	s := newService(b, nil)
	for b.Loop() {
		f, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.now.vaultPID))
		must(b, err)
		for line := range strings.Lines(string(f)) {
			if f := strings.Fields(line); len(f) == 3 && (f[0] == "Pss:" || f[0] == "Rss:" || f[0] == "Private_Dirty:") {
				kb, _ := strconv.Atoi(f[1])
				b.ReportMetric(float64(kb), strings.TrimSuffix(f[0], ":")+"-kB")
			}
		}
	}
}
