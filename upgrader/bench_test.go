//go:build linux

package upgrader

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// BenchmarkUpgrade compares an upgrade with a bare start of the same program,
// turn by turn, so that what else the machine does meets both. Medians:
//
//	start-ms    a bare start, from fork to the first answer
//	first-ms    an upgrade, from the trigger to the first answer of the new process
//	outcome-ms  an upgrade, from the trigger until whoever asked knows
//	×start      first-ms / start-ms: what an upgrade costs
//
// On a machine with 2 CPUs: a start takes 4.3 ms, an upgrade 5.3 ms to the first
// answer and 6.2 ms to the outcome, its PID file on a disk: 1.2 × start.
func BenchmarkUpgrade(b *testing.B) {
	s := newService(b, settings{}).start()
	n, addr := s.addr(0)
	var start, first, outcome []time.Duration
	for b.Loop() {
		start = append(start, bareStart(b))
		f, o := s.timedUpgrade(n, addr)
		first, outcome = append(first, f), append(outcome, o)
		proctest.Poll(b, "the old one ends", func() bool { return len(s.processes()) == 1 })
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(start), "start-ms")
	b.ReportMetric(median(first), "first-ms")
	b.ReportMetric(median(outcome), "outcome-ms")
	b.ReportMetric(median(first)/median(start), "×start")
}

// median returns milliseconds.
func median(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2]) / float64(time.Millisecond)
}

// pollEvery is how often a benchmark asks who answers: not so often that the
// asking is what it measures.
const pollEvery = 200 * time.Microsecond

// timedUpgrade returns the times from the trigger to the first answer of the new
// process, and to the outcome.
func (s *service) timedUpgrade(network, addr string) (first, outcome time.Duration) {
	s.t.Helper()
	before := s.who(network, addr).pid
	c := s.client()
	type result struct {
		took time.Duration
		o    control.Outcome
		err  error
	}
	done := make(chan result, 1)
	began := time.Now()
	go func() {
		o, err := c.Upgrade(s.t.Context(), control.UpgradeRequest{})
		done <- result{time.Since(began), o, err}
	}()
	for {
		if a, err := who(network, addr); err == nil && a.pid != before {
			break
		}
		proctest.Pace(pollEvery)
	}
	first = time.Since(began)
	r := <-done
	if r.err != nil || r.o.Result != control.Ready {
		s.t.Fatalf("upgrade: %+v, %v; log:\n%s", r.o, r.err, s.logText())
	}
	return first, r.took
}

// bareStart returns the time from a start of the service to its first answer.
func bareStart(b *testing.B) time.Duration {
	s := newService(b, settings{Listen: []string{"tcp:" + proctest.FreeAddr(b)}})
	_, addr, _ := strings.Cut(s.set.Listen[0], ":")
	began := time.Now()
	s.startQuietly()
	for {
		if _, err := who("tcp", addr); err == nil {
			break
		}
		proctest.Pace(pollEvery)
	}
	took := time.Since(began)
	s.cmd.Process.Kill()
	s.cmd.Wait()
	return took
}

// startQuietly starts the service without a manager that waits.
func (s *service) startQuietly() {
	s.cmd = exec.Command(s.bin)
	s.cmd.Env = s.environment()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}
