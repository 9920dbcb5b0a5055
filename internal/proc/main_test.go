//go:build linux

package proc

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the processes that the tests look at.
func TestMain(m *testing.M) {
	switch os.Getenv("PROC_TEST_ROLE") {
	case "":
		os.Exit(m.Run())
	case "wait": // until stdin ends
		fmt.Println("here")
	case "busy": // uses a good deal of processor time and memory first
		data := make([]byte, 32<<20)
		for start := cpuSelf(); cpuSelf()-start < 50*time.Millisecond; {
			for i := range data {
				data[i]++
			}
		}
		fmt.Println("here")
		defer fmt.Println(len(data))
	case "listen":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			os.Exit(1)
		}
		defer l.Close()
		fmt.Println(l.Addr())
	case "supervisor": // runs a process that asks who its parent is
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "PROC_TEST_ROLE=supervised")
		cmd.Stdout = os.Stdout
		if cmd.Run() != nil {
			os.Exit(1)
		}
	case "supervised":
		fmt.Printf("%q\n", Supervised())
	}
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func cpuSelf() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// child is a process that ends with its stdin.
type child struct {
	*exec.Cmd
	stdin io.Closer
	says  string // its first line
}

func start(t *testing.T, role, exe string) *child {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), "PROC_TEST_ROLE="+role, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	c := &child{Cmd: cmd, stdin: stdin}
	t.Cleanup(c.end)
	if c.says, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%s said %q: %v", role, c.says, err)
	}
	c.says = c.says[:len(c.says)-1]
	return c
}

func (c *child) end() {
	c.stdin.Close()
	if c.ProcessState == nil {
		c.Wait()
	}
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	return exe
}

// copyOf returns another file with the same program in it.
func copyOf(t *testing.T, exe, path string) string {
	t.Helper()
	data, err := os.ReadFile(exe)
	must(t, err)
	must(t, os.WriteFile(path+".new", data, 0o755))
	must(t, os.Rename(path+".new", path))
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func tempExe(t *testing.T, name string) string {
	t.Helper()
	return copyOf(t, self(t), filepath.Join(t.TempDir(), name))
}
