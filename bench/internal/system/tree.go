package system

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Adopt makes orphans of what this process starts its own children, so that none
// is lost sight of.
func Adopt() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// stat is what /proc/PID/stat tells, see proc(5).
type stat struct {
	pid, parent int
	zombie      bool
	memory      int64 // bytes, resident
}

func readStat(pid int) (stat, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, false
	}
	// The name in parentheses may contain anything.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 22 {
		return stat{}, false
	}
	n := func(i int) int64 { v, _ := strconv.ParseInt(f[i], 10, 64); return v }
	return stat{
		pid:    pid,
		parent: int(n(1)),
		zombie: f[0] == "Z" || f[0] == "X",
		memory: n(21) * int64(os.Getpagesize()),
	}, true
}

func everyone() []stat {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var all []stat
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if s, ok := readStat(pid); ok {
				all = append(all, s)
			}
		}
	}
	return all
}

// descendants are those of this process that live.
func descendants() []int {
	children := map[int][]stat{}
	for _, s := range everyone() {
		children[s.parent] = append(children[s.parent], s)
	}
	var found []int
	var walk func(int)
	walk = func(pid int) {
		for _, s := range children[pid] {
			if !s.zombie {
				found = append(found, s.pid)
			}
			walk(s.pid)
		}
	}
	walk(os.Getpid())
	return found
}

// Usage sums CPU time since their starts, and resident memory, of the system's
// processes. Shared pages count for each.
func (i *Instance) Usage() (cpu time.Duration, memory int64) {
	for _, pid := range i.Processes() {
		if s, ok := readStat(pid); ok {
			cpu, memory = cpu+used(pid), memory+s.memory
		}
	}
	return cpu, memory
}

// used is the CPU time of a process, in ns where /proc counts ticks of 10 ms; see
// clock_getcpuclockid(3).
func used(pid int) time.Duration {
	const sched = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|sched), &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// Stop ends the system, and kills everything that descends from this process.
func (i *Instance) Stop() error {
	if i.stop != nil {
		if err := i.stop(i); err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		pids := descendants()
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL)
		}
		reap()
		if len(pids) == 0 {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return errors.New("processes that don't die")
}

// reap waits for all children that have ended. Nothing else may wait for
// children at that time.
func reap() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
	}
}

// AwaitDeath blocks until all of these processes have ended, or for d. It
// reports whether they have.
func AwaitDeath(pids []int, d time.Duration) bool {
	deadline := time.Now().Add(d)
	for _, pid := range pids {
		if !awaitOne(pid, deadline) {
			return false
		}
	}
	return true
}

func awaitOne(pid int, deadline time.Time) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return true // it was waited for already
	}
	defer unix.Close(fd)
	for {
		left := time.Until(deadline)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, max(0, int(left.Milliseconds())))
		if n > 0 {
			return true
		}
		if err != unix.EINTR && left <= 0 {
			return false
		}
	}
}
