//go:build linux

package rescue

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

// asBare is the worker's program without this library, on the socket that it gets
// as descriptor 3.
func asBare() {
	ln, err := net.FileListener(os.NewFile(3, "listener"))
	check(err)
	check(http.Serve(ln, strict.Handler(1)))
}

// bare starts that program.
func bare(b *testing.B, ln *net.TCPListener) *exec.Cmd {
	b.Helper()
	f, err := ln.File()
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(self(b), "as-bare")
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return cmd
}

func listen(b *testing.B) *net.TCPListener {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

// variant is one of several servers which take turns, so that whatever else the
// machine does hits all of them.
type variant struct {
	name string
	bed  *bed
	pid  int
	cpu  []float64 // of the server's process, in microseconds for a request
}

// variants are bare net/http, this library's server kept without rescue, and with.
func variants(b *testing.B) []*variant {
	ln := listen(b)
	cmd := bare(b, ln)
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	all := []*variant{{name: "bare", bed: &bed{t: b, network: "tcp", addr: ln.Addr().String()}, pid: cmd.Process.Pid}}
	for _, rescue := range []keeper.Switch{"off", "on"} {
		kept := newBed(b)
		kept.service().Rescue = rescue
		kept.start()
		all = append(all, &variant{name: "rescue-" + string(rescue), bed: kept, pid: kept.worker(0)})
	}
	return all
}

// measure takes the time on the processor that n requests cost.
func (v *variant) measure(b *testing.B, n int, do func()) {
	before := cpu(b, v.pid)
	for range n {
		do()
	}
	v.cpu = append(v.cpu, float64((cpu(b, v.pid)-before).Nanoseconds())/1000/float64(n))
}

// cpu is what a process has used, by the scheduler's own count.
func cpu(b *testing.B, pid int) time.Duration {
	b.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	sum := time.Duration(0)
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended
		}
		var ran int64
		fmt.Sscan(string(data), &ran)
		sum += time.Duration(ran)
	}
	return sum
}

func report(b *testing.B, all []*variant) {
	b.ReportMetric(0, "ns/op") // of several things at once: says nothing
	for _, v := range all {
		slices.Sort(v.cpu)
		b.ReportMetric(v.cpu[len(v.cpu)/2], v.name+"-µs")
	}
}

// BenchmarkRequest is what one on a kept-alive connection costs the server: the
// median of rounds in which the variants take turns.
func BenchmarkRequest(b *testing.B) {
	all := variants(b)
	conns := make([]*raw, len(all))
	for i, v := range all {
		conns[i] = v.bed.raw()
		conns[i].SetDeadline(time.Time{})
	}
	for b.Loop() {
		for i, v := range all {
			v.measure(b, 1000, func() { conns[i].works() })
		}
	}
	report(b, all)
}

// BenchmarkConnection is the same with a connection for each request.
func BenchmarkConnection(b *testing.B) {
	all := variants(b)
	for b.Loop() {
		for _, v := range all {
			v.measure(b, 200, func() {
				c, err := v.bed.dial()
				if err != nil {
					b.Fatal(err)
				}
				(&raw{b, c, bufio.NewReader(c)}).works()
				c.Close()
			})
		}
	}
	report(b, all)
}

// BenchmarkNextAnswer is the time from a worker's SIGKILL to the next answer on a
// connection that it had, among many idle ones; and, to compare, from the plain
// start of a program to its first answer.
func BenchmarkNextAnswer(b *testing.B) {
	b.Run("started", func(b *testing.B) {
		ln := listen(b)
		bed := &bed{t: b, network: "tcp", addr: ln.Addr().String()}
		for b.Loop() {
			cmd := bare(b, ln)
			bed.raw().works()
			b.StopTimer()
			cmd.Process.Kill()
			cmd.Wait()
			b.StartTimer()
		}
	})
	b.Run("idle=350", func(b *testing.B) { nextAnswer(b, 350) })
	b.Run("idle=10000", func(b *testing.B) { nextAnswer(b, 10000) })
}

func nextAnswer(b *testing.B, idle int) {
	var lim unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &lim)
	if uint64(idle)*3/2 > lim.Max {
		b.Skipf("RLIMIT_NOFILE is %d", lim.Max)
	}
	bed := newBed(b)
	bed.start()
	c := bed.raw()
	c.SetDeadline(time.Time{})
	c.works()
	many(bed, idle)
	var seq uint64
	took := 0
	for b.Loop() {
		b.StopTimer()
		proctest.Pace(1100 * time.Millisecond) // a quicker death would be backed off from
		pid := bed.worker(0)
		b.StartTimer()
		proctest.Kill(pid, syscall.SIGKILL)
		c.works()
		b.StopTimer()
		e := bed.await(control.EventRescue, seq)
		seq, took = e.Seq, took+e.Counts["took_us"]
		if e.Counts["idle"] < idle {
			b.Fatalf("%+v", e)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(took)/float64(b.N)/1000, "rescue-ms/op")
	b.StopTimer()
	bed.reportMemory(b)
}

// many opens idle connections that have had an answer.
func many(bed *bed, n int) {
	var wg sync.WaitGroup
	turns := make(chan struct{}, 16)
	for range n {
		turns <- struct{}{}
		wg.Go(func() {
			c := bed.raw()
			c.SetDeadline(time.Time{})
			c.works()
			<-turns
		})
	}
	wg.Wait()
}

// reportMemory tells what belongs to nobody but the vault, and the keeper's share.
func (b *bed) reportMemory(bench *testing.B) {
	st, err := b.client.Status(b.ctx())
	if err != nil {
		bench.Fatal(err)
	}
	bench.ReportMetric(float64(st.Keeper.Memory)/(1<<20), "keeper-MB")
	for _, pid := range b.named("tc-vault") {
		if m, err := proc.Memory(pid); err == nil {
			bench.ReportMetric(float64(m)/(1<<20), "vault-MB")
		}
	}
}
