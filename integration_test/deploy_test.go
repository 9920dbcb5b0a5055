//go:build linux

package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
)

// A release is put in place by switching a symlink.
func TestSymlinkIsSwitched(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		releases := []string{copyOf(t, b.path("release-1"), demo(t)), copyOf(t, b.path("release-2"), demo(t))}
		b.link(releases[0])
		b.start(b.demoArgs()...)
		for i := range 4 {
			b.link(releases[(i+1)%2])
			o := b.mustUpgrade()
			if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", o.PID)); exe != releases[(i+1)%2] {
				t.Errorf("%s runs (%v), want %s", exe, err, releases[(i+1)%2])
			}
			b.serves(o.PID)
		}
	})
}

// Or by renaming the new one over the old one, which runs.
func TestBinaryIsReplacedByRename(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		target := copyOf(t, b.path("binary"), demo(t))
		b.link(target)
		b.start(b.demoArgs()...)
		for range 3 {
			copyOf(t, target, demo(t))
			file, err := os.Stat(target)
			if err != nil {
				t.Fatal(err)
			}
			o := b.mustUpgrade()
			runs, err := os.Stat(fmt.Sprintf("/proc/%d/exe", o.PID))
			if err != nil || !os.SameFile(file, runs) {
				t.Errorf("the new process doesn't run the new file (%v)", err)
			}
			b.serves(o.PID)
		}
	})
}

// Arguments and the port that the kernel chose are kept.
func TestArgumentsAndPortAreKept(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		const version = "a b'\"$HOME\\ ünï"
		b.demo("--version-string", version)
		first := b.status().Listen
		addr := b.tcp()
		for g := 2; g <= 4; g++ {
			b.mustUpgrade()
			var index struct {
				Version    string
				Generation int
			}
			a := b.get(addr, "/")
			if err := json.Unmarshal([]byte(a.body), &index); err != nil {
				t.Fatalf("%v: %s", err, a.body)
			}
			if index.Version != version || index.Generation != g {
				t.Errorf("%+v", index)
			}
			if now := b.status().Listen; !slices.Equal(now, first) {
				t.Errorf("listens on %v, it was %v", now, first)
			}
		}
	})
}

// The new generation listens elsewhere: what is new works with it, what stays
// goes on, what it dropped is refused at once.
func TestListenAddressesChange(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		set := settings{Web: []string{"127.0.0.1:0", "unix:" + b.unix}, API: []string{"127.0.0.1:0"}}
		b.serve(set)
		_, stays := b.addr(0)
		_, dropped := b.addr(2)
		old := b.pidInFile()

		t.Log("api is dropped, a unix socket added")
		set.Web, set.API = append(set.Web, "unix:"+b.path("s2")), nil
		b.set(set)
		b.serves(b.mustUpgrade().PID)
		b.ended(old)
		refused(t, "tcp", dropped)
		if got := b.tcp(); got != stays {
			t.Errorf("the address that stays was %s and is %s", stays, got)
		}

		t.Log("a unix socket is dropped, an address changed")
		set.Web = []string{"127.0.0.1:0", dropped, "unix:" + b.unix}
		old = b.pidInFile()
		b.set(set)
		b.serves(b.mustUpgrade().PID)
		b.ended(old)
		b.poll("the end of the path that nobody listens on", func() bool { return !exists(b.path("s2")) })

		t.Log("a unix socket is another one")
		set.Web = []string{"127.0.0.1:0", "unix:" + b.path("s3")}
		old = b.pidInFile()
		b.set(set)
		b.serves(b.mustUpgrade().PID)
		refused(t, "tcp", dropped)
		b.ended(old)
		b.poll("the end of the path that nobody listens on", func() bool { return !exists(b.unix) })
		b.stop()
		if exists(b.path("s3")) {
			t.Error("its path was left behind")
		}
	})
}

// refused: nobody listens there, though the old generation may still drain.
func refused(t *testing.T, network, addr string) {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ENOENT) {
		t.Errorf("connect to %s %s: %v; want refused", network, addr, err)
	}
}

// A dropped address is refused while requests of the old generation still run.
func TestDroppedAddressIsRefusedDuringTheDrain(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.serve(settings{API: []string{"127.0.0.1:0"}, KillTimeout: timeoutNever})
		_, api := b.addr(2)
		held := b.slowRequest(api)
		old := b.pidInFile()
		b.set(settings{})
		b.mustUpgrade()
		refused(t, "tcp", api)
		held.Close()
		b.ended(old)
		refused(t, "tcp", api)
	})
}
