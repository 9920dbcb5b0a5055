//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/cmd/internal/show"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// The test binary is the demo's service too, which no role reaches: a show gives
// its service a clean environment.
func init() {
	if len(os.Args) > 1 && os.Args[1] == demoService {
		main()
	}
}

func TestDemoKeepsTheScore(t *testing.T) {
	for acts, args := range map[int][]string{6: nil, 4: {"--alone"}} {
		c := startTablecloth(t, append([]string{"demo", "--json", "--duration", "1s", "--upgrades", "1"}, args...)...)
		r := c.waitFor(t, 4*proctest.Patience(t)) // each act has its own
		var sc show.Score
		if err := json.Unmarshal([]byte(r.stdout), &sc); err != nil {
			t.Fatalf("%v: %s%s", err, r.stdout, r.stderr)
		}
		if r.status != exitDone || !sc.OK || len(sc.Acts) != acts || sc.Report.Total.OK == 0 {
			t.Errorf("%v: exit status %d, score %+v, %v", args, r.status, sc, sc.Report.Err())
		}
	}
}

func TestDemoUsage(t *testing.T) {
	for _, args := range [][]string{{"--duration", "0s"}, {"--upgrades", "-1"}, {"now"}} {
		tablecloth(t, append([]string{"demo"}, args...)...).expect(t, exitUsage, "", "hint: see tablecloth demo --help")
	}
}

func TestDemoWhereNothingMayBeWritten(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	tablecloth(t, "demo").expect(t, exitFailed, "", "error: build the stage: ")
}

// However the demo ends, its service ends.
func TestDemoLeavesNoProcess(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			dir, err := os.MkdirTemp("", "demo")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			cmd := as(t, "tablecloth", "demo", "--duration", "1h")
			cmd.Env = append(cmd.Env, "TMPDIR="+dir)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			for lines.Scan() && !strings.Contains(lines.Text(), "Meanwhile") {
			}
			service := theOnlyService(t, dir)
			cmd.Process.Signal(sig)
			for lines.Scan() {
			}
			err = cmd.Wait()
			if sig != syscall.SIGKILL && cmd.ProcessState.ExitCode() != exitFailed {
				t.Errorf("ended with %v", err)
			}
			fds := []unix.PollFd{{Fd: int32(service), Events: unix.POLLIN}}
			if n, err := unix.Poll(fds, int(proctest.Patience(t)/time.Millisecond)); n != 1 {
				t.Errorf("the service lives on: %v", err)
			}
			if left, _ := filepath.Glob(dir + "/*"); sig != syscall.SIGKILL && len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// theOnlyService returns a pidfd of the process which serves in a demo's
// temporary directory.
func theOnlyService(t *testing.T, dir string) int {
	t.Helper()
	files, _ := filepath.Glob(dir + "/*/pid")
	if len(files) != 1 {
		t.Fatalf("PID files: %v", files)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}
