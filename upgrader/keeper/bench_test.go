//go:build linux

package keeper

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// BenchmarkNextAnswer compares the time from a worker's SIGKILL to the next answer
// with that from a plain start of the same program, by a shell, to its first one.
func BenchmarkNextAnswer(b *testing.B) {
	b.Run("started", func(b *testing.B) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer ln.Close()
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		for b.Loop() {
			cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" serve silent`, self(b))
			cmd.Env, cmd.ExtraFiles = append(os.Environ(), "LISTEN_FDS=1"), []*os.File{f}
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			if _, err := ask(ln.Addr().String()); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			cmd.Process.Kill()
			cmd.Wait()
			b.StartTimer()
		}
	})
	b.Run("kept", func(b *testing.B) {
		k := keepForBench(b)
		for b.Loop() {
			b.StopTimer()
			pid := k.renew(b)
			b.StartTimer()
			syscall.Kill(pid, syscall.SIGKILL)
			for answered := false; !answered; {
				_, err := ask(k.addr)
				answered = err == nil
			}
		}
	})
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

// renew returns a worker that is alone and whose death, however soon it comes, isn't
// waited for with: the count of those in a row begins anew with what an operator
// asks for.
func (k *benched) renew(b *testing.B) (pid int) {
	if o := proctest.Upgrade(b, k.client, control.UpgradeRequest{Restart: true}); o.Result != control.Ready {
		b.Fatalf("%+v", o)
	}
	proctest.Poll(b, "the end of the one before", func() bool {
		all := proctest.Status(b, k.client).Generations
		pid = all[0].Workers[0].PID
		return len(all) == 1
	})
	return pid
}
