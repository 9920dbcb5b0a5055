//go:build linux

package keeper

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// TestSocketsThatCantBeHad: refused with what to do, and nothing is started.
func TestSocketsThatCantBeHad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	live, err := net.Listen("unix", filepath.Join(dir, "live"))
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	os.WriteFile(filepath.Join(dir, "file"), nil, 0o644)
	for _, x := range []struct{ listen, says string }{
		{"unix:" + dir, "no socket"},
		{"unix:" + filepath.Join(dir, "file"), "no socket"},
		{"unix:" + filepath.Join(dir, "live"), "somebody listens"},
		{taken.Addr().String(), "address already in use"},
		{"nonsense", "no port"},
		{"unix:/x?colour=red", "unknown setting"},
		{"192.0.2.1:80", "no interface"},
	} {
		b := keep(t, Service{Command: []string{"/bin/sleep", "1000"}, Listen: []string{x.listen}})
		<-b.waited
		if b.cmd.ProcessState.ExitCode() != 125 || !strings.Contains(b.log(), x.says) {
			t.Errorf("%s: %v: %s", x.listen, b.cmd.ProcessState, b.log())
		}
	}
	if c, err := net.Dial("unix", filepath.Join(dir, "live")); err != nil {
		t.Errorf("the live server's socket is gone: %v", err)
	} else {
		c.Close()
	}
}

func TestUnixSockets(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sock")
	if err := syscall.Mknod(path, syscall.S_IFSOCK|0o600, 0); err != nil { // what a dead server leaves
		t.Fatal(err)
	}
	s := local(t)
	s.Listen = []string{"unix:" + path + "?mode=0640"}
	b := keep(t, s)
	b.await(control.EventReady, 0)
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", fi, err)
	}
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	b.end()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the path is left")
	}
}
