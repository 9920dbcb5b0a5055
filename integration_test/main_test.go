//go:build linux

// Package integration holds the tests that take a whole service: real processes
// under real clients, the test being their shell, their service manager and
// their operator.
package integration

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(envSettings); path != "" {
		if err := serve(path); err != nil {
			fmt.Fprintln(os.Stderr, "service:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	flag.Parse()
	// Most of the time is spent waiting for the end of requests, not computing.
	if f := flag.Lookup("test.parallel"); f != nil && !given("test.parallel") {
		f.Value.Set("6")
	}
	// Generations whose parent has ended become children of the test, which
	// waits for every one.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "no subreaper:", err)
		return 1
	}
	var err error
	if programs.dir, err = os.MkdirTemp("", "tablecloth-integration-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(programs.dir)
	before := descriptors(os.Getpid())
	code := m.Run()
	for _, complaint := range []string{leftProcesses(), leftDescriptors(before)} {
		if complaint != "" && code == 0 {
			fmt.Fprintln(os.Stderr, complaint)
			code = 1
		}
	}
	return code
}

func given(name string) (yes bool) {
	flag.Visit(func(f *flag.Flag) { yes = yes || f.Name == name })
	return yes
}

// leftProcesses complains of children that no test has ended. Those whose parent
// was killed at the end of a test, before it could wait for them, are waited for
// here.
func leftProcesses() string {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case err == syscall.ECHILD:
			return ""
		case pid == 0:
			return "a process is left that no test has ended"
		}
	}
}

// leftDescriptors complains of descriptors that the tests have left open. A few
// are the runtime's own, and those which the first test happens to open.
func leftDescriptors(before int) string {
	const own = 4 // epoll, its eventfd, urandom, ...
	// Goroutines that are about to close some tell nobody.
	err := proctest.Settles(30*time.Second, func() error {
		if now := descriptors(os.Getpid()); now > before+own {
			return fmt.Errorf("%d descriptors are open, %d were before the tests", now, before)
		}
		return nil
	})
	if err == nil {
		return ""
	}
	text := err.Error() + ":"
	paths, _ := filepath.Glob("/proc/self/fd/*")
	for _, p := range paths {
		target, _ := os.Readlink(p)
		text += "\n  " + target
	}
	return text
}

// descriptors counts those of a process; -1: it is gone.
func descriptors(pid int) int {
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return -1
	}
	return len(names)
}
