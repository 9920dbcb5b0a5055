//go:build linux

package rescue

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
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

// BenchmarkRequest is the cost of one on a kept-alive connection, with that of the
// client: bare net/http in a process of its own, this library's server kept
// without rescue, and with.
func BenchmarkRequest(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		ln := listen(b)
		cmd := bare(b, ln)
		defer cmd.Wait()
		defer cmd.Process.Kill()
		requests(b, &bed{t: b, addr: ln.Addr().String()})
	})
	for _, rescue := range []string{"off", "on"} {
		b.Run("rescue="+rescue, func(b *testing.B) {
			bed := newBed(b)
			bed.conf.Services[0].Rescue = "off"
			if rescue == "on" {
				bed.conf.Services[0].Rescue = "on"
			}
			bed.start()
			requests(b, bed)
		})
	}
}

func requests(b *testing.B, bed *bed) {
	c := bed.raw()
	c.SetDeadline(time.Time{})
	for b.Loop() {
		c.works()
	}
}

// BenchmarkNextAnswer is the time from a worker's SIGKILL to the next answer on a
// connection that it had, among many idle ones; and, to compare, from the plain
// start of a program to its first answer.
func BenchmarkNextAnswer(b *testing.B) {
	b.Run("started", func(b *testing.B) {
		ln := listen(b)
		bed := &bed{t: b, addr: ln.Addr().String()}
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
		time.Sleep(1100 * time.Millisecond) // a quicker death would be backed off from
		pid := bed.worker(0)
		b.StartTimer()
		syscall.Kill(pid, syscall.SIGKILL)
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
		if m, err := proc.MemoryOf(pid); err == nil {
			bench.ReportMetric(float64(m.PSS)/(1<<20), "vault-MB")
		}
	}
}
