package diag

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

var states = map[byte]string{'R': "running", 'S': "sleeping", 'D': "waiting for a disk", 'T': "stopped", 't': "stopped by a debugger",
	'Z': "dead", 'X': "dead", 'I': "idle"}

// Look looks at a process. It takes the right to: root's, or that of its user.
func Look(pid int) (*Process, error) {
	p := &Process{Inodes: map[uint64]bool{}}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	if _, after, ok := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " "); ok && after != "" {
		p.State = states[after[0]]
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(limits)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			p.Limit, _ = strconv.Atoi(strings.Fields(rest)[0]) // 0: unlimited
		}
	}
	return p, p.descriptors(pid, func(inode uint64) { p.Inodes[inode] = true })
}

func (p *Process) descriptors(pid int, socket func(uint64)) error {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	p.Descriptors = len(names)
	for _, name := range names {
		target, err := os.Readlink(dir + "/" + name)
		if s, ok := strings.CutPrefix(target, "socket:["); ok && err == nil {
			if inode, err := strconv.ParseUint(strings.TrimSuffix(s, "]"), 10, 64); err == nil {
				socket(inode)
			}
		}
	}
	return nil
}

// Owners finds for each socket a process that has it, as far as this user may
// look.
func Owners() map[uint64]int {
	owners := map[uint64]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			var p Process
			p.descriptors(pid, func(inode uint64) { owners[inode] = pid })
		}
	}
	return owners
}

// Name is what a process calls itself; "": it has gone.
func Name(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(b))
}
