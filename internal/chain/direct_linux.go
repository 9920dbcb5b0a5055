//go:build linux && (amd64 || arm64)

package chain

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/chain/nofile"
)

const direct = true

// plan collects what the new process is to do, in the words of the kernel: it
// can do nothing but system calls.
type plan struct {
	calls []call
	steps []string
	keep  []any // what the calls point to
	files []int // to be closed in this process, whatever comes of it
}

// do adds a system call that must succeed.
func (p *plan) do(step string, nr uintptr, args ...uintptr) {
	p.steps = append(p.steps, step)
	c := call{nr: nr, step: int32(len(p.steps))}
	copy(c.args[:], args)
	p.calls = append(p.calls, c)
}

// try adds one that may fail.
func (p *plan) try(nr uintptr, args ...uintptr) {
	c := call{nr: nr}
	copy(c.args[:], args)
	p.calls = append(p.calls, c)
}

// address keeps v, which is not moved then.
func address[T any](p *plan, v *T) uintptr {
	p.keep = append(p.keep, v)
	return uintptr(unsafe.Pointer(v))
}

// above returns a duplicate of a descriptor that has another number than any of
// the new process's n.
func (p *plan) above(fd, n int) (int, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, max(n, 3))
	if err != nil {
		return -1, fmt.Errorf("duplicate descriptor %d: %w", fd, err)
	}
	p.files = append(p.files, dup)
	return dup, nil
}

func (p *plan) close() {
	for _, fd := range p.files {
		unix.Close(fd)
	}
}

// start starts the program without a loader: everything is done between
// clone(2) and execve(2).
func (s *Spec) start() (*Child, error) {
	p := new(plan)
	defer p.close()
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	failed := os.NewFile(uintptr(pipe[0]), "failed")
	p.files = append(p.files, pipe[1])
	pid, pidfd, err := s.launch(p, pipe[1])
	if err != nil {
		failed.Close()
		return nil, err
	}
	return &Child{PID: pid, Pidfd: pidfd, Failed: failed, steps: p.steps}, nil
}

func (s *Spec) launch(p *plan, report int) (pid, pidfd int, err error) {
	if report, err = p.above(report, len(s.Files)); err != nil {
		return 0, -1, err
	}
	p.try(unix.SYS_SETSID)
	if err := s.planFiles(p); err != nil {
		return 0, -1, err
	}
	if err := s.planRest(p); err != nil {
		return 0, -1, err
	}
	x, err := s.image(p)
	if err != nil {
		return 0, -1, err
	}
	x.report = uintptr(report)
	x.parent, x.death = uintptr(os.Getpid()), uintptr(s.DeathSig)
	x.calls = p.calls
	return x.clone(p)
}

// planFiles puts the descriptors in their places.
func (s *Spec) planFiles(p *plan) error {
	for i, fd := range s.Files {
		if fd < 0 {
			p.try(unix.SYS_CLOSE, uintptr(i))
			continue
		}
		from, err := p.above(fd, len(s.Files)) // none may be overwritten before its turn
		if err != nil {
			return err
		}
		p.do(fmt.Sprintf("make %d descriptor %d", fd, i), unix.SYS_DUP3, uintptr(from), uintptr(i), 0)
	}
	for i := len(s.Files); i < 3; i++ { // they are no more close-on-exec here than anywhere
		p.try(unix.SYS_CLOSE, uintptr(i))
	}
	return nil
}

// planRest adds what the program inherits besides; the user comes late, as not
// everything is another user's right.
func (s *Spec) planRest(p *plan) error {
	if soft, hard, raised := originalNofile(); raised {
		p.try(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, address(p, &unix.Rlimit{Cur: soft, Max: hard}), 0)
	}
	for _, l := range s.Limits {
		p.do("limit "+l.Text, unix.SYS_PRLIMIT64, 0, uintptr(l.Resource),
			address(p, &unix.Rlimit{Cur: l.Soft, Max: l.Max}), 0)
	}
	if s.Umask >= 0 {
		p.try(unix.SYS_UMASK, uintptr(s.Umask))
	}
	if s.GID >= 0 {
		groups := make([]uint32, len(s.Groups)+1)
		for i, g := range s.Groups {
			groups[i] = uint32(g)
		}
		p.do(fmt.Sprint("setgroups ", s.Groups), unix.SYS_SETGROUPS, uintptr(len(s.Groups)), address(p, &groups[0]))
		p.do(fmt.Sprint("setgid ", s.GID), unix.SYS_SETGID, uintptr(s.GID))
	}
	if s.UID >= 0 {
		p.do(fmt.Sprint("setuid ", s.UID), unix.SYS_SETUID, uintptr(s.UID))
	}
	if s.Dir != "" {
		dir, err := syscall.BytePtrFromString(s.Dir)
		if err != nil {
			return fmt.Errorf("directory: %w", err)
		}
		p.do("change to directory "+s.Dir, unix.SYS_CHDIR, address(p, dir))
	}
	if s.DeathSig != 0 { // a change of user takes it back
		p.do("prctl", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(s.DeathSig))
	}
	p.steps = append(p.steps, "exec "+s.Path)
	return nil
}

// originalNofile returns the limits that this process was started with, if
// package syscall has changed them since.
func originalNofile() (soft, hard uint64, raised bool) {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil || nofile.Hard == 0 {
		return 0, 0, false
	}
	return nofile.Soft, nofile.Hard, now.Max == nofile.Hard && now.Cur == now.Max-1 && now.Cur != nofile.Soft
}

// image prepares what execve(2) needs.
func (s *Spec) image(p *plan) (*image, error) {
	env := s.Env[:len(s.Env):len(s.Env)]
	if s.ListenPID {
		env = append(env, listenPID)
	}
	argv, err := syscall.SlicePtrFromStrings(s.Args)
	if err != nil {
		return nil, fmt.Errorf("arguments: %w", err)
	}
	envp, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return nil, fmt.Errorf("environment: %w", err)
	}
	x := &image{argv: address(p, &argv[0]), envp: address(p, &envp[0]), step: int32(len(p.steps))}
	if s.ListenPID {
		entry := unsafe.Slice(envp[len(env)-1], len(listenPID))
		x.digits = (*[pidDigits]byte)(entry[len(listenPID)-pidDigits:])
	}
	paths, err := s.paths(p)
	if err != nil {
		return nil, err
	}
	for i, path := range paths {
		b, err := syscall.BytePtrFromString(path)
		if err != nil {
			return nil, fmt.Errorf("path: %w", err)
		}
		x.paths[i] = address(p, b)
	}
	return x, nil
}

// paths returns what to execute, and what else if that is not found: the path
// where it leads to the file which is meant, as a process has its name from
// there.
func (s *Spec) paths(p *plan) ([]string, error) {
	if s.Pinned < 0 {
		return []string{s.Path}, nil
	}
	fd, err := p.above(s.Pinned, len(s.Files))
	if err != nil {
		return nil, err
	}
	pinned := "/proc/self/fd/" + strconv.Itoa(fd)
	var there, meant unix.Stat_t
	if unix.Fstat(fd, &meant) == nil &&
		(unix.Stat(s.Path, &there) != nil || there.Dev != meant.Dev || there.Ino != meant.Ino) {
		return []string{pinned}, nil
	}
	return []string{s.Path, pinned}, nil
}

// cloning: there is one child at a time.
var cloning sync.Mutex

func (x *image) clone(p *plan) (pid, pidfd int, err error) {
	cloning.Lock()
	defer cloning.Unlock()
	child = *x
	child.pidfd = -1
	syscall.ForkLock.Lock()
	runtime.LockOSThread() // its signal mask is changed
	n, errno := launch()
	runtime.UnlockOSThread()
	syscall.ForkLock.Unlock()
	pidfd = int(child.pidfd)
	child = image{}
	runtime.KeepAlive(p)
	if errno != 0 {
		return 0, -1, fmt.Errorf("clone: %w", error(errno))
	}
	return int(n), pidfd, nil
}

// said turns the new process's last words into an error.
func said(words []byte, steps []string) error {
	if len(words) != int(unsafe.Sizeof(child.words)) {
		return errors.New("garbled last words")
	}
	errno, step := syscall.Errno(binary.NativeEndian.Uint32(words)), int(binary.NativeEndian.Uint32(words[4:]))
	if step < 1 || step > len(steps) {
		return fmt.Errorf("step %d: %w", step, errno)
	}
	return &Error{steps[step-1], errno}
}
