//go:build unix

package pidfile

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMain lets the test binary be the other processes of a service: "adopt"
// has its lock at descriptor 3, "acquire" comes from outside.
func TestMain(m *testing.M) {
	path := os.Getenv("PIDFILE_TEST_PATH")
	switch os.Getenv("PIDFILE_TEST_ROLE") {
	case "":
		os.Exit(m.Run())
	case "adopt":
		f, err := Adopt(path, os.NewFile(3, "lock"))
		report(f, err)
	case "acquire":
		f, err := Acquire(path)
		report(f, err)
	}
}

// report says how it went, and ends when stdin does.
func report(f *File, err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("ok")
	os.Stdin.Read(make([]byte, 1))
	if os.Getenv("PIDFILE_TEST_REMOVE") != "" {
		if err := f.Remove(); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	os.Exit(0)
}

type process struct {
	*exec.Cmd
	stdin interface{ Close() error }
	says  string
}

// start runs a role, and returns when it has said how it went.
func start(t *testing.T, role, path string, lock *os.File, env ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(append(os.Environ(), "PIDFILE_TEST_ROLE="+role, "PIDFILE_TEST_PATH="+path, "GORACE=atexit_sleep_ms=0"), env...)
	cmd.Stderr = os.Stderr
	if lock != nil {
		cmd.ExtraFiles = []*os.File{lock}
	}
	stdin, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	buf := make([]byte, 1024)
	n, _ := out.Read(buf)
	return &process{cmd, stdin, string(buf[:n])}
}

func (p *process) end(t *testing.T) {
	t.Helper()
	p.stdin.Close()
	if err := p.Wait(); err != nil && strings.HasPrefix(p.says, "ok") {
		t.Error(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
