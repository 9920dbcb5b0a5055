//go:build linux

package keeper

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

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
		addr := keepForBench(b)
		for b.Loop() {
			b.StopTimer()
			time.Sleep(quickDeath + 100*time.Millisecond) // a quicker death would be backed off from
			body, err := ask(addr)
			if err != nil {
				b.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.Fields(body)[0])
			if err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			syscall.Kill(pid, syscall.SIGKILL)
			for answered := false; !answered; {
				_, err := ask(addr)
				answered = err == nil
			}
		}
	})
}

// keepForBench keeps this binary's server, and returns its address.
func keepForBench(b *testing.B) string {
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
	b.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
	for {
		c, err := control.Dial(path)
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		st, err := c.Status(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if st.Services[0].State == control.Serving {
			return strings.TrimPrefix(st.Services[0].Listen[0], "tcp:")
		}
		time.Sleep(time.Millisecond)
	}
}
