//go:build linux

package keeper

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// managed is a keeper below a service manager, which stores its socket.
type managed struct {
	*bed
	*proctest.Manager
	store *os.File
}

func keepManaged(t *testing.T) *managed {
	t.Helper()
	stored := make(chan int, 1)
	m := proctest.NewManager(t, func(got *sd.Received) {
		if name, _ := got.Get("FDNAME"); got.Has("FDSTORE") && name == "web" {
			stored <- got.TakeFiles()[0]
		}
	})
	b := keep(t, local(t), func(b *bed) {
		b.conf.Services[0].Listen = []string{"web=127.0.0.1:0"}
		b.before = func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, m.Environment()) }
	})
	b.serving()
	k := &managed{b, m, os.NewFile(uintptr(proctest.Await(t, "the socket to be stored", stored)), "stored")}
	t.Cleanup(func() { k.store.Close() })
	return k
}

// hears waits for a notification that has a key.
func (k *managed) hears(key string) proctest.Said {
	k.t.Helper()
	return k.Await(k.t, key+"=", func(s proctest.Said) bool { return s.Has(key) })
}

// restart starts the next keeper as a service manager does that holds a socket.
func (k *managed) restart() {
	k.t.Helper()
	k.passed = []*os.File{k.store}
	k.start("LISTEN_FDS=1", "LISTEN_FDNAMES=web")
	k.passed = nil
}

// TestTheManagerAbove is told what it needs to know, by the keeper alone.
func TestTheManagerAbove(t *testing.T) {
	t.Parallel()
	k := keepManaged(t)
	k.hears("READY")
	if o := k.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	k.hears("RELOADING")
	k.hears("READY")
	if o := k.upgrade(control.UpgradeRequest{Args: []string{"exit", "1"}}); o.Result != control.Failed {
		t.Fatalf("%+v", o)
	}
	k.hears("RELOADING")
	if s, _ := k.hears("READY").Get("STATUS"); !strings.Contains(s, "failed") {
		t.Errorf("status after a failure: %q", s)
	}
	k.cmd.Process.Signal(syscall.SIGTERM)
	k.hears("STOPPING")
	<-k.waited
	for _, s := range k.Said() {
		if s.PID != k.cmd.Process.Pid {
			t.Errorf("%d speaks, not the keeper", s.PID)
		}
	}
}

// TestTheStoreBringsTheSocketsBack after the keeper's kill, under load: never refused.
// It may die alone, or with its worker in the same moment, whichever is first.
func TestTheStoreBringsTheSocketsBack(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		what string
		kill func(keeper, worker int)
	}{
		{"the keeper", func(keeper, _ int) { proctest.Kill(keeper, syscall.SIGKILL) }},
		{"the keeper and its worker", func(keeper, worker int) {
			proctest.Kill(keeper, syscall.SIGKILL)
			proctest.Kill(worker, syscall.SIGKILL)
		}},
		{"the worker and its keeper", func(keeper, worker int) {
			proctest.Kill(worker, syscall.SIGKILL)
			proctest.Kill(keeper, syscall.SIGKILL)
		}},
	} {
		t.Run(x.what, func(t *testing.T) {
			t.Parallel()
			k := keepManaged(t)
			l := startLoad(k.addr, 2)
			var took []time.Duration
			for range soak(2, 20) {
				was, begun := awaitAnswer(t, k.addr, "0"), time.Now()
				x.kill(k.cmd.Process.Pid, atoi(t, was))
				<-k.waited
				k.restart()
				awaitAnswer(t, k.addr, was)
				took = append(took, time.Since(begun))
			}
			l.end()
			if l.refused.Load() > 0 || l.answers.Load() == 0 {
				t.Error(l)
			}
			slices.Sort(took)
			testenv.Result(t, "%s killed: median %v to the next answer; %v", x.what, took[len(took)/2].Round(time.Millisecond), l)
		})
	}
}
