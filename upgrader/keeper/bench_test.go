//go:build linux

package keeper

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// BenchmarkNextAnswer compares the time from a worker's SIGKILL to the next answer
// with that from a plain start of the same program, by a shell, to its first one.
// They take turns, as the machine may be busy with other things, and the medians
// are told.
func BenchmarkNextAnswer(b *testing.B) {
	k, p := keepForBench(b), startForBench(b)
	var kept, started []time.Duration
	for b.Loop() {
		started = append(started, p.firstAnswer(b))
		kept = append(kept, k.nextAnswer(b))
	}
	s, n := median(started), median(kept)
	b.ReportMetric(float64(s.Microseconds())/1000, "started-ms")
	b.ReportMetric(float64(n.Microseconds())/1000, "kept-ms")
	b.ReportMetric(float64(n)/float64(s), "kept/started")
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// unkept is this binary's server without a keeper, and the socket that it is given.
type unkept struct {
	addr   string
	socket *os.File
}

func startForBench(b *testing.B) *unkept {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return &unkept{ln.Addr().String(), f}
}

func (p *unkept) firstAnswer(b *testing.B) time.Duration {
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" serve silent`, self(b))
	cmd.Env, cmd.ExtraFiles = append(os.Environ(), "LISTEN_FDS=1"), []*os.File{p.socket}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if _, err := ask(p.addr); err != nil {
		b.Fatal(err)
	}
	took := time.Since(begun)
	cmd.Process.Kill()
	cmd.Wait()
	return took
}

// benched is a keeper with this binary's server.
type benched struct {
	client *control.Client
	addr   string
}

func keepForBench(b *testing.B) *benched {
	path := filepath.Join(b.TempDir(), "control")
	conf, err := json.Marshal(Config{Control: path, Services: []Service{
		{Command: role(b, "serve"), Listen: []string{"127.0.0.1:0"}, MaxDeaths: -1}}})
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self(b), "as-keeper", string(conf))
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	waited := proctest.Waited(cmd)
	b.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-waited
	})
	k := &benched{client: proctest.DialWhenThere(path, waited)}
	if k.client == nil {
		b.Fatal("the keeper has ended")
	}
	proctest.Event(b, k.client, control.EventReady, 0)
	k.addr = strings.TrimPrefix(proctest.Status(b, k.client).Listen[0], "tcp:")
	return k
}

// nextAnswer kills a worker that is alone. Its death isn't backed off from, however
// soon it comes: the count of those in a row begins anew with what an operator asks
// for.
func (k *benched) nextAnswer(b *testing.B) time.Duration {
	if o := proctest.Upgrade(b, k.client, control.UpgradeRequest{Restart: true}); o.Result != control.Ready {
		b.Fatalf("%+v", o)
	}
	pid := 0
	proctest.Poll(b, "the end of the one before", func() bool {
		all := proctest.Status(b, k.client).Generations
		pid = all[0].Workers[0].PID
		return len(all) == 1
	})
	begun := time.Now()
	proctest.Kill(pid, syscall.SIGKILL)
	for {
		if _, err := ask(k.addr); err == nil {
			return time.Since(begun)
		}
	}
}
