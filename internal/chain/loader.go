//go:build linux

package chain

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

func init() {
	if len(os.Args) > 1 && os.Args[0] == Name {
		runtime.LockOSThread() // a parent-death signal is the thread's
		load(os.Args[1:])
	}
}

// loader is the new process, on its way to become the program.
type loader struct {
	report, pinned int
	path           string
	parent         int
}

// load does what the settings say, in their order, and never returns.
func load(args []string) {
	l := &loader{report: -1, pinned: -1}
	for i, a := range args {
		if a == "--" {
			l.exec(args[i+1:])
		}
		key, value, _ := strings.Cut(a, "=")
		l.set(key, value)
	}
	os.Exit(125)
}

func (l *loader) set(key, value string) {
	n, _ := strconv.Atoi(value)
	switch key {
	case "report":
		l.report = n
		syscall.CloseOnExec(n)
	case "pinned":
		if l.pinned = n; n >= 0 {
			syscall.CloseOnExec(n)
		}
	case "path":
		l.path = value
	case "parent":
		l.parent = n
	case "limit":
		l.limit(value)
	case "umask":
		syscall.Umask(n)
	case "groups":
		l.try("setgroups "+value, syscall.Setgroups(numbers(value, ",")))
	case "gid":
		l.try("setgid "+value, syscall.Setgid(n))
	case "uid":
		l.try("setuid "+value, syscall.Setuid(n))
	case "dir":
		l.try("change to directory "+value, syscall.Chdir(value))
	case "death":
		_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(n), 0)
		if errno != 0 {
			l.fail("prctl", errno)
		}
		if syscall.Getppid() != l.parent { // it died before it could be told
			syscall.Kill(syscall.Getpid(), syscall.Signal(n))
		}
	case "listen":
		os.Setenv("LISTEN_PID", strconv.Itoa(syscall.Getpid()))
	}
}

func numbers(s, sep string) []int {
	var out []int
	for f := range strings.SplitSeq(s, sep) {
		if n, err := strconv.Atoi(f); err == nil {
			out = append(out, n)
		}
	}
	return out
}

func (l *loader) limit(value string) {
	f := strings.Split(value, ":")
	if len(f) != 3 {
		return
	}
	resource, _ := strconv.Atoi(f[0])
	soft, _ := strconv.ParseUint(f[1], 10, 64)
	most, _ := strconv.ParseUint(f[2], 10, 64)
	l.try("setrlimit "+value, syscall.Setrlimit(resource, &syscall.Rlimit{Cur: soft, Max: most}))
}

// exec becomes the program: by its path where that leads to the file which is
// meant, as a process has its name from there.
func (l *loader) exec(args []string) {
	path := l.path
	if l.pinned >= 0 {
		var there, meant syscall.Stat_t
		if syscall.Fstat(l.pinned, &meant) == nil &&
			(syscall.Stat(path, &there) != nil || there.Dev != meant.Dev || there.Ino != meant.Ino) {
			path = "/proc/self/fd/" + strconv.Itoa(l.pinned)
		}
	}
	err := syscall.Exec(path, args, os.Environ())
	l.try("exec "+l.path, err)
}

func (l *loader) try(step string, err error) {
	if err == nil {
		return
	}
	errno, ok := err.(syscall.Errno)
	if !ok {
		errno = syscall.EINVAL
	}
	l.fail(step, errno)
}

// fail tells the parent, and ends as a shell would: 126 for what is there but
// can't be run, 127 for what isn't there.
func (l *loader) fail(step string, errno syscall.Errno) {
	if l.report >= 0 {
		syscall.Write(l.report, []byte(strconv.Itoa(int(errno))+" "+step))
	}
	if errno == syscall.ENOENT {
		os.Exit(127)
	}
	os.Exit(126)
}
