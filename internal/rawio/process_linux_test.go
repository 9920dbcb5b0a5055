//go:build !race && (amd64 || arm64)

package rawio

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// The test binary, started again with this variable, plays a part of its own.
const roleVariable = "RAWIO_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVariable); role {
	case "":
		os.Exit(m.Run())
	case "filtered":
		filtered()
	default:
		computes(role == "computes")
	}
}

// play starts a role, and returns connections to it.
func play(t *testing.T, role string, n int) []net.Conn {
	t.Helper()
	cmd := exec.Command(proctest.Self(t))
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waited := proctest.Waited(cmd)
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-waited
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s says nothing: %v", role, err)
	}
	var all []net.Conn
	for range n {
		c, err := net.Dial("tcp", strings.TrimSpace(addr))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(proctest.Patience(t)))
		all = append(all, c)
	}
	return all
}

// accept says where, and accepts n connections.
func accept(n int) (all []Socket) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(ln.Addr())
	for range n {
		c, err := ln.Accept()
		if err != nil {
			panic(err)
		}
		all = append(all, c.(Socket))
	}
	return all
}

// computes serves two connections with one processor. To "p" on the first it says
// whether the watch is on; from "h" on it computes until something comes on the
// second, or too long. watched: else nothing wakes the monitor.
func computes(watched bool) {
	runtime.GOMAXPROCS(1)
	all := accept(2)
	var released atomic.Bool
	go func() {
		var c Conn
		if _, err := c.Read(all[1], make([]byte, 1)); err == nil {
			released.Store(true)
		}
	}()
	var c Conn
	p := make([]byte, 1)
	for {
		if _, err := c.Read(all[0], p); err != nil {
			panic(err)
		}
		if p[0] == 'h' {
			break
		}
		if !watched && trafficWatch.on.Load() {
			trafficWatch.timer.Stop() // stays on
		}
		c.Write(all[0], []byte(map[bool]string{true: "1", false: "0"}[trafficWatch.on.Load()]))
	}
	c.Write(all[0], []byte("h"))
	limit := time.Second
	if watched {
		limit = 20 * time.Second // of a test that fails
	}
	for start := time.Now(); !released.Load() && time.Since(start) < limit; {
	}
	c.Write(all[0], []byte(map[bool]string{true: "r", false: "s"}[released.Load()]))
	select {}
}

// others returns "r" if another connection was served while one request computed,
// on one processor, else "s".
func others(t *testing.T, role string) string {
	t.Helper()
	c := play(t, role, 2)
	hears := func(n int) string {
		t.Helper()
		p := make([]byte, n)
		if _, err := io.ReadFull(c[0], p); err != nil {
			t.Fatal(err)
		}
		return string(p[n-1:])
	}
	says := func(what string, times int) string {
		t.Helper()
		if _, err := io.WriteString(c[0], strings.Repeat(what, times)); err != nil {
			t.Fatal(err)
		}
		return hears(times)
	}
	for says("p", enough) != "1" {
	}
	for range 20 { // the monitor sleeps in between
		proctest.Pace(3 * time.Millisecond)
		says("p", rest)
	}
	says("h", 1)
	io.WriteString(c[1], "x")
	return hears(1)
}

// TestOthersAreServedBesideWhoComputes: the scheduler isn't told of a request, and
// yet interrupts it.
func TestOthersAreServedBesideWhoComputes(t *testing.T) {
	if others(t, "computes") != "r" {
		t.Error("nobody was served while one request computed")
	}
	// Without the watch nobody is, unless something else wakes the monitor.
	for range 10 {
		if others(t, "computes unwatched") == "s" {
			return
		}
	}
	t.Error("this test can't fail: without the watch others were served, too")
}

// TestRefusedCalls: a filter that knows only what net calls.
func TestRefusedCalls(t *testing.T) {
	c := play(t, "filtered", 1)[0]
	for range 3 {
		if _, err := io.WriteString(c, "to and fro"); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 10)
		if _, err := io.ReadFull(c, p); string(p) != "to and fro" {
			t.Errorf("%q, %v", p, err)
		}
	}
}

// filtered is an echo.
func filtered() {
	all := accept(1)
	trafficWatch.on.Store(true)
	refuse(unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_SENDTO)
	var c Conn
	p, first := make([]byte, 100), make([]byte, 4)
	read := func() (int, error) { return c.ReadScattered(all[0], first, p) }
	for {
		n, err := read()
		if err != nil {
			panic(err)
		}
		read = func() (int, error) { return c.Read(all[0], p) }
		refused.Store(false) // each way finds out by itself
		if _, err := c.Write(all[0], p[:n]); err != nil {
			panic(err)
		}
		if !refused.Swap(false) {
			panic("nothing was refused")
		}
	}
}

// refuse makes system calls of this process fail with EPERM, by seccomp(2).
func refuse(calls ...uint32) {
	const number = 0 // of the call, in struct seccomp_data
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number}}
	for _, nr := range calls {
		program = append(program,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	f := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&f))); errno != 0 {
		panic(errno)
	}
}
