package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// TestDoctorSeesTheBacklog: a real one, of a socket that nobody accepts from.
func TestDoctorSeesTheBacklog(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 4); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	status := control.Status{Keeper: &control.Process{PID: os.Getpid()}, Services: []control.Service{{Name: "web", State: control.Serving, Listen: []string{"tcp:" + addr}}}}
	if all := newWard(status).examine(nil); len(all) != 0 {
		t.Errorf("an empty one: %+v", all)
	}
	for range 4 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	proctest.Poll(t, "a full backlog", func() bool {
		all := newWard(status).examine(nil)
		return len(all) == 1 && all[0].ID == "backlog" && strings.Contains(all[0].Problem, "4 of 4 connects that may wait at "+addr)
	})
}

// TestDoctorSeesWhoIsWaitedFor: a real connection of a process that says nothing.
func TestDoctorSeesWhoIsWaitedFor(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	w := control.Worker{Process: control.Process{PID: os.Getpid(), Started: time.Now()}, State: control.Draining, Since: time.Now()}
	st := control.Status{Services: []control.Service{{Name: "web", State: control.Serving, Generations: []control.Generation{
		{Number: 1, State: control.Draining, Workers: []control.Worker{w}}}}}}
	all := newWard(st).examine(nil)
	want := fmt.Sprintf("pid %d has %s (pid %d, ", os.Getpid(), c.LocalAddr(), os.Getpid())
	if len(all) != 1 || all[0].ID != "drain" || !strings.Contains(strings.Join(all[0].Details, "\n"), want) {
		t.Errorf("%+v, want %s", all, want)
	}
}
