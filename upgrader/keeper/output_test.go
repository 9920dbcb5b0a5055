//go:build linux

package keeper

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return atoi(t, strings.Fields(rest)[0]) << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// A reader who stops reading blocks neither the worker nor the keeper, costs no
// memory, and what he misses is counted to the line.
func TestFlood(t *testing.T) {
	for _, o := range []Output{{}, {Prefix: true}, {Format: FormatJSON}} {
		t.Run(fmt.Sprintf("%s prefix=%v", o.Format, o.Prefix), func(t *testing.T) { testFlood(t, o) })
	}
}

func testFlood(t *testing.T, o Output) {
	lines := testenv.Count(64<<20, 1<<30) / floodLine
	said := filepath.Join(t.TempDir(), "said")
	s := speak(t, Config{Output: o, Services: []Service{{Name: "flood", Command: role(t, "flood", strconv.Itoa(lines), said)}}})
	began := time.Now()
	proctest.Poll(t, "half of it to be written", func() bool { return exists(said + ".half") })
	half := peakMemory(t, s.cmd.Process.Pid)
	proctest.Poll(t, "all of it to be written", func() bool { return exists(said + ".all") })
	took := time.Since(began)
	grown := peakMemory(t, s.cmd.Process.Pid) - half
	if grown > 16<<20 { // at least twice that has passed
		t.Errorf("the keeper's memory has grown by %d KiB", grown>>10)
	}
	proctest.Poll(t, "all of it to be seen", func() bool { return s.status().Output.Lines >= int64(lines) })
	seen := s.status().Output
	if seen.Lines != int64(lines) || seen.Bytes != int64(lines)*floodLine || seen.DroppedLines == 0 {
		t.Errorf("%+v of %d lines", seen, lines)
	}
	// The keeper itself doesn't hang, though its log has no reader either.
	if o := s.upgrade(control.UpgradeRequest{Args: []string{"exit", "7"}}); o.Exit != "exit status 7" {
		t.Errorf("an upgrade: %+v", o)
	}
	text := s.rest()
	whole := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, "line ") && strings.Count(line, "x") >= floodLine-20 && strings.HasSuffix(line, "\n") {
			whole++
		}
	}
	if got := int64(whole) + seen.DroppedLines; got != int64(lines) {
		t.Errorf("%d lines came out whole and %d were dropped: %d of %d", whole, seen.DroppedLines, got, lines)
	}
	testenv.Result(t, "%d MiB in %v with nobody reading: %d lines passed, %d dropped and counted, memory grew by %d KiB",
		lines*floodLine>>20, took.Round(time.Millisecond), whole, seen.DroppedLines, grown>>10)
}

// Without the keeper in between, the worker does block.
func TestFloodBlocks(t *testing.T) {
	said := filepath.Join(t.TempDir(), "said")
	s := speak(t, Config{Services: []Service{{Name: "flood", Capture: "none", Command: role(t, "flood", "10000", said)}}})
	pid := s.status().Generations[0].Workers[0].PID
	proctest.Poll(t, "it to hang in a write", func() bool { return writes(pid) })
	if exists(said + ".all") {
		t.Error("all was written, and nobody has read it")
	}
	if s.status().Output != nil {
		t.Errorf("counted: %+v", s.status().Output)
	}
	s.rest()
}

// writes reports whether a thread of a process is in a write(2) to its stderr.
func writes(pid int) bool {
	all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	for _, path := range all {
		b, _ := os.ReadFile(path)
		if f := strings.Fields(string(b)); len(f) > 1 && f[0] == strconv.Itoa(unix.SYS_WRITE) && f[1] == "0x2" {
			return true
		}
	}
	return false
}

// What is told to stdout and stderr is in the file, in order, and in one of two
// files at a rotation.
func TestLogFile(t *testing.T) {
	for _, forward := range []bool{false, true} {
		t.Run(fmt.Sprintf("forward=%v", forward), func(t *testing.T) { testLogFile(t, forward) })
	}
}

func testLogFile(t *testing.T, forward bool) {
	dir := t.TempDir()
	path, told := filepath.Join(dir, "log"), filepath.Join(dir, "told")
	c := Config{Output: Output{File: path}, Services: []Service{{Name: "count", Command: role(t, "count", told)}}}
	if forward {
		t.Setenv("TEST_FORWARD", "USR1")
	}
	s := speak(t, c)
	rotations := testenv.Count(3, 50)
	for i := range rotations {
		proctest.Poll(t, "something in the log", func() bool { fi, err := os.Stat(path); return err == nil && fi.Size() > 0 })
		if err := os.Rename(path, fmt.Sprintf("%s.%03d", path, i)); err != nil {
			t.Fatal(err)
		}
		s.cmd.Process.Signal(syscall.SIGUSR1)
	}
	proctest.Poll(t, "the last file", func() bool { return exists(path) })
	if forward {
		proctest.Poll(t, "the worker to be told too", func() bool { return exists(told) })
	}
	if text := s.rest(); text != "" {
		t.Errorf("beside the file: %s", text)
	}
	if !forward && exists(told) {
		t.Error("the worker was given the signal that is for the log file")
	}
	files, _ := filepath.Glob(path + ".*")
	var all []byte
	for _, f := range append(files, path) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	if torn := bytes.Count(all, []byte("\n")); torn != whole(all) {
		t.Errorf("%d lines, %d of them whole", torn, whole(all))
	}
	requireCount(t, all, "out")
	requireCount(t, all, "err")
	if !bytes.Contains(all, []byte("log file opened anew")) {
		t.Error("the keeper's own log isn't there")
	}
	if fi, _ := os.Stat(path); fi.Mode().Perm()&^0o640 != 0 {
		t.Error(fi.Mode())
	}
}

var written = regexp.MustCompile(`^(out \d+|err \d+|time=.*)\n$`)

// whole counts lines that are what somebody wrote.
func whole(text []byte) (n int) {
	for line := range bytes.Lines(text) {
		if written.Match(line) {
			n++
		}
	}
	return n
}

func requireCount(t *testing.T, text []byte, name string) {
	t.Helper()
	next := 0
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		if n, ok := strings.CutPrefix(sc.Text(), name+" "); ok {
			if n != strconv.Itoa(next) {
				t.Fatalf("%s %s where %d was to come", name, n, next)
			}
			next++
		}
	}
	if next == 0 {
		t.Errorf("no line of %s", name)
	}
}

// What can't be written is counted too, and nobody hangs.
func TestLogFileFull(t *testing.T) {
	s := speak(t, Config{Output: Output{File: "/dev/full"}, Services: []Service{{Name: "count", Command: role(t, "count", "")}}})
	proctest.Poll(t, "lines that are missing", func() bool { o := s.status().Output; return o != nil && o.DroppedLines > 100 })
	notes := strings.Join(s.status().Notes, "\n")
	if !strings.Contains(notes, "were dropped") {
		t.Errorf("notes: %s", notes)
	}
	s.rest()
}

func TestLogFileRefused(t *testing.T) {
	c := Config{Output: Output{File: "/nowhere/log"}, Services: []Service{{Command: []string{"true"}}}}
	if err := (&keeper{conf: &c}).openLogs(); err == nil || !strings.Contains(err.Error(), "/nowhere/log") {
		t.Error(err)
	}
}

func TestOutputChecked(t *testing.T) {
	for _, c := range []struct {
		o    Output
		want string
	}{
		{Output{}, ""},
		{Output{Format: FormatText, Prefix: true}, ""},
		{Output{Format: "xml"}, `log format "xml"`},
		{Output{Format: FormatJSON, Prefix: true}, "prefix"},
	} {
		err := c.o.fill()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
}
