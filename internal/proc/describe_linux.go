package proc

import (
	"fmt"
	"os"
	"strings"
)

// describe returns the kernel's name for a process, and its command line.
func describe(pid int) (name string, args []string) {
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if len(cmdline) > 0 {
		args = strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")
	}
	return strings.TrimSuffix(string(comm), "\n"), args
}
