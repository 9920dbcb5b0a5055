package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// userHZ is the unit of times in /proc: the same on every architecture that Go
// has for Linux.
const userHZ = 100

// stat is a part of /proc/PID/stat (proc_pid_stat(5)).
type stat struct {
	comm  string
	state byte
	ppid  int
	cpu   time.Duration // user and system
	start time.Duration // after boot
}

func readStat(pid int) (stat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, gone(err)
	}
	s, err := parseStat(data)
	if err != nil {
		return stat{}, fmt.Errorf("proc: /proc/%d/stat: %w", pid, err)
	}
	return s, nil
}

// gone turns the errors of a process that isn't there, or that ends while its
// file is being read, into one.
func gone(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

func parseStat(data []byte) (stat, error) {
	// The name may have anything in it, parentheses and newlines included.
	from, to := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if from < 0 || to < from {
		return stat{}, errors.New("no name")
	}
	s := stat{comm: string(data[from+1 : to])}
	f := strings.Fields(string(data[to+1:])) // f[0] is field 3
	if len(f) < 20 || len(f[0]) != 1 {
		return stat{}, errors.New("too few fields")
	}
	s.state = f[0][0]
	var err error
	number := func(field int) int64 {
		n, e := strconv.ParseInt(f[field-3], 10, 64)
		err = errors.Join(err, e)
		return n
	}
	s.ppid = int(number(4))
	s.cpu = ticks(number(14) + number(15))
	s.start = ticks(number(22))
	return s, err
}

func ticks(n int64) time.Duration { return time.Duration(n) * (time.Second / userHZ) }

// Children returns the PIDs of the processes whose parent is pid, in ascending
// order, zombies included. It is a snapshot that takes a moment: one that is
// born meanwhile may be missing.
func Children(pid int) ([]int, error) {
	if children, err := childrenOfTasks(pid); err == nil {
		return children, nil
	}
	all, err := pids()
	if err != nil {
		return nil, err
	}
	var children []int
	for _, p := range all {
		if s, err := readStat(p); err == nil && s.ppid == pid {
			children = append(children, p)
		}
	}
	slices.Sort(children)
	return children, nil
}

// childrenOfTasks is quick. It fails on a kernel without CONFIG_PROC_CHILDREN.
func childrenOfTasks(pid int) ([]int, error) {
	dir := fmt.Sprintf("/proc/%d/task/", pid)
	if _, err := os.Stat(dir + strconv.Itoa(pid) + "/children"); err != nil {
		return nil, err
	}
	tasks, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var children []int
	for _, t := range tasks {
		data, _ := os.ReadFile(dir + t.Name() + "/children") // the thread may have ended
		for f := range bytes.FieldsSeq(data) {
			if p, err := strconv.Atoi(string(f)); err == nil {
				children = append(children, p)
			}
		}
	}
	slices.Sort(children)
	return children, nil
}

func pids() ([]int, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	var all []int
	for _, name := range names {
		if p, err := strconv.Atoi(name); err == nil {
			all = append(all, p)
		}
	}
	return all, err
}

// Zombie reports whether pid has ended and is not waited for yet.
func Zombie(pid int) bool {
	s, err := readStat(pid)
	return err == nil && s.state == 'Z'
}

// CPU returns the processor time that a process has used, with all its threads,
// to 10 ms.
func CPU(pid int) (time.Duration, error) {
	s, err := readStat(pid)
	return s.cpu, err
}

// StartTime returns when a process was started, to 10 ms. It moves when
// somebody sets the clock.
func StartTime(pid int) (time.Time, error) {
	s, err := readStat(pid)
	if err != nil {
		return time.Time{}, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return time.Time{}, err
	}
	return time.Now().Add(s.start - time.Duration(now.Nano())), nil
}

// Resident returns how much of a process is in memory, in bytes.
func Resident(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, gone(err)
	}
	f := strings.Fields(string(data))
	if len(f) < 2 {
		return 0, fmt.Errorf("proc: /proc/%d/statm: too few fields", pid)
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("proc: /proc/%d/statm: %w", pid, err)
	}
	return pages * int64(os.Getpagesize()), nil
}

// costly is from where on a process is too large to be asked for its share: the
// kernel looks at each of its pages, some 10 ms for each GiB, and meanwhile the
// process can't map memory.
const costly = 1 << 30

// Memory returns the memory of a process in bytes. What it shares with others counts
// in parts (PSS), unless the kernel doesn't tell, or the process is of more than a
// GiB.
func Memory(pid int) (int64, error) {
	resident, err := Resident(pid)
	if err != nil || resident > costly {
		return resident, err
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return resident, nil
	}
	if share := parsePSS(string(data)); share > 0 {
		return share, nil
	}
	return resident, nil
}

func parsePSS(rollup string) int64 {
	for line := range strings.SplitSeq(rollup, "\n") {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kB, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			return kB << 10
		}
	}
	return 0
}
