//go:build linux

// Package loader is the second step of package chain: the new process, on its way
// to become the program. It does its work in its init function, and imports
// nothing but syscall: so it comes before the initialisation of almost everything
// else in the executable, which would be done for nothing.
package loader

import "syscall"

const (
	// Name is the loader's os.Args[0].
	Name = "tablecloth-loader"
	// Env is set to 1 for the loader alone.
	Env = "TABLECLOTH_LOADER"
)

func init() {
	if v, _ := syscall.Getenv(Env); v != "1" {
		return
	}
	if args := arguments(); len(args) > 1 && args[0] == Name {
		load(args[1:]) // a parent-death signal is the thread's: init functions stay on one
	}
}

// arguments reads what will be os.Args.
func arguments() []string {
	fd, err := syscall.Open("/proc/self/cmdline", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	var all []byte
	buf := make([]byte, 16<<10)
	for {
		n, err := syscall.Read(fd, buf)
		if err == syscall.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			break
		}
		all = append(all, buf[:n]...)
	}
	if len(all) > 0 {
		all = all[:len(all)-1]
	}
	return split(string(all), 0)
}

// loader is the process, and what it knows of its task so far.
type loader struct {
	report, pinned int
	path           string
	parent         int
	listens        bool
}

// load does what the settings say, in their order, and never returns.
func load(args []string) {
	l := &loader{report: -1, pinned: -1}
	for i, a := range args {
		if a == "--" {
			l.exec(args[i+1:])
		}
		key, value := cut(a, '=')
		l.set(key, value)
	}
	syscall.Exit(125)
}

func (l *loader) set(key, value string) {
	n := int(number(value))
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
		var groups []int
		for _, g := range split(value, ',') {
			groups = append(groups, int(number(g)))
		}
		l.try("setgroups "+value, syscall.Setgroups(groups))
	case "gid":
		l.try("setgid "+value, syscall.Setgid(n))
	case "uid":
		l.try("setuid "+value, syscall.Setuid(n))
	case "dir":
		l.try("change to directory "+value, syscall.Chdir(value))
	case "death":
		l.dieWithParent(syscall.Signal(n))
	case "listen":
		l.listens = true
	}
}

// dieWithParent comes after a change of user, which takes it back.
func (l *loader) dieWithParent(sig syscall.Signal) {
	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(sig), 0)
	if errno != 0 {
		l.fail("prctl", errno)
	}
	if syscall.Getppid() != l.parent { // it died before it could be told
		syscall.Kill(syscall.Getpid(), sig)
	}
}

func (l *loader) limit(value string) {
	if f := split(value, ':'); len(f) > 3 {
		text := value[len(f[0])+len(f[1])+len(f[2])+3:]
		l.try("limit "+text, syscall.Setrlimit(int(number(f[0])), &syscall.Rlimit{Cur: number(f[1]), Max: number(f[2])}))
	}
}

// exec becomes the program: by its path where that leads to the file which is
// meant, as a process has its name from there.
func (l *loader) exec(args []string) {
	path := l.path
	if l.pinned >= 0 {
		var there, meant syscall.Stat_t
		if syscall.Fstat(l.pinned, &meant) == nil &&
			(syscall.Stat(path, &there) != nil || there.Dev != meant.Dev || there.Ino != meant.Ino) {
			path = "/proc/self/fd/" + decimal(l.pinned)
		}
	}
	l.try("exec "+l.path, syscall.Exec(path, args, l.environment()))
}

func (l *loader) environment() []string {
	var env []string
	for _, e := range syscall.Environ() {
		if key, _ := cut(e, '='); key != Env {
			env = append(env, e)
		}
	}
	if l.listens {
		env = append(env, "LISTEN_PID="+decimal(syscall.Getpid()))
	}
	return env
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
		syscall.Write(l.report, []byte(decimal(int(errno))+" "+step))
	}
	if errno == syscall.ENOENT {
		syscall.Exit(127)
	}
	syscall.Exit(126)
}

// What strings and strconv would do, were they initialised.

func cut(s string, sep byte) (before, after string) {
	for i := range len(s) {
		if s[i] == sep {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func split(s string, sep byte) []string {
	var all []string
	start := 0
	for i := range len(s) {
		if s[i] == sep {
			all = append(all, s[start:i])
			start = i + 1
		}
	}
	return append(all, s[start:])
}

// number reads a decimal number; "-1" too, as the largest.
func number(s string) uint64 {
	var n uint64
	if s == "-1" {
		return ^n
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			break
		}
		n = n*10 + uint64(s[i]-'0')
	}
	return n
}

func decimal(n int) string {
	var buf [20]byte
	i := len(buf)
	for {
		i--
		buf[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(buf[i:])
		}
	}
}
