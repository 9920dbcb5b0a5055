//go:build linux

package keeper

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func TestACrashLoop(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "program")
	install(t, program, []byte("#!/bin/sh\nexit 1\n"))
	s := local(t)
	s.Command[0] = program
	s.MaxDeaths, s.GiveUpPause = 2, time.Hour
	b := keep(t, s)
	b.await(control.EventGiveUp, 0)
	st := b.status()
	if st.State != control.GaveUp || st.RetryAt == nil || st.Crashes != 3 {
		t.Fatalf("%+v", st)
	}
	_, addr, _ := strings.Cut(st.Listen[0], ":")
	answer := make(chan error, 1)
	go func() { // a connect waits, and is served in the end
		_, err := ask(addr)
		answer <- err
	}()
	proctest.Check(t, func() error { // once it has done what there was to do
		before := cpuOf(t, b.cmd.Process.Pid)
		proctest.Quiet(200 * time.Millisecond)
		if used := cpuOf(t, b.cmd.Process.Pid) - before; used > 20*time.Millisecond {
			return fmt.Errorf("used %v of CPU in 200 ms of a pause", used)
		}
		return nil
	})
	copyOf(t, program)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

// cpuOf is what all threads of a process have used, more finely than in ticks.
func cpuOf(t *testing.T, pid int) (used time.Duration) {
	t.Helper()
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, path := range threads {
		data, _ := os.ReadFile(path)
		var ns int64
		fmt.Sscan(string(data), &ns)
		used += time.Duration(ns)
	}
	if used == 0 {
		t.Fatal("nothing is known of its CPU time")
	}
	return used
}

func TestThePanicIsInTheReport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := Service{Command: role(t, "panic"), MaxDeaths: 1, GiveUpPause: time.Hour,
		OnCrash: []string{"/bin/sh", "-c", "cat > " + dir + "/$$.tmp; mv " + dir + "/$$.tmp " + dir + "/report"}}
	b := keep(t, s)
	b.await(control.EventGiveUp, 0)
	c := b.status().LastCrash
	if c == nil || c.Error != "panic: as the test wants it" || !strings.Contains(c.Stack, "goroutine") || c.Exit != "exit status 2" {
		t.Errorf("%+v", c)
	}
	report := proctest.Read(t, dir+"/report")
	if !strings.Contains(report, `"service":"test"`) || !strings.Contains(report, "as the test wants it") {
		t.Errorf("report %s", report)
	}
}
