//go:build linux

// Package chain starts a program for which something has to be done that can only
// be done in the new process itself: LISTEN_PID is that process's own PID; a
// parent-death signal must be set after a change of user.
//
// On the architectures where that was tried, it is done between clone(2) and
// execve(2). Elsewhere it takes two steps: this executable is run again as a
// loader, which then becomes the program. Importing the package is enough for an
// executable to be its own loader: see package loader.
package chain

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/tablecloth-go/tablecloth/internal/chain/loader"
)

// Spec is what to start. Its descriptors stay the caller's.
type Spec struct {
	// Path is the file that is executed: absolute. If Pinned, an O_PATH
	// descriptor, is another file than the one there now, Pinned is executed.
	Path   string
	Pinned int // -1: none
	Args   []string
	Env    []string
	// Files are the descriptors from 0 on; -1 leaves a gap.
	Files []int
	Dir   string // "": this process's

	UID, GID  int // -1: this process's
	Groups    []int
	Umask     int // -1: this process's
	Limits    []Limit
	DeathSig  syscall.Signal // when the thread that called Start ends; 0: none
	ListenPID bool           // set LISTEN_PID, which must not be in Env
}

// Limit is a resource limit (setrlimit(2)).
type Limit struct {
	Resource  int
	Soft, Max uint64
	Text      string // says it in an error: "nofile=65536"
}

// Error is why the program couldn't be started.
type Error struct {
	Step string // "exec /bin/x", "change to directory /y", "setuid 7", "limit nofile=65536"
	Err  syscall.Errno
}

func (e *Error) Error() string { return e.Step + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Child is a process that has been started, but may not be the program yet.
type Child struct {
	PID   int
	Pidfd int
	// Failed has the last words of a process that couldn't become the program:
	// see Wait.
	Failed *os.File
	steps  []string // what its words mean; nil: a loader's
}

// Wait blocks until the program runs, or can't; it must be called once. The
// process has to be waited for in either case.
func (c *Child) Wait() error {
	defer c.Failed.Close()
	var buf [512]byte
	n, _ := c.Failed.Read(buf[:])
	if n == 0 {
		return nil
	}
	if c.steps != nil {
		return said(buf[:n], c.steps)
	}
	number, step, _ := strings.Cut(string(buf[:n]), " ")
	errno, err := strconv.Atoi(number)
	if err != nil {
		return fmt.Errorf("loader: %q", buf[:n])
	}
	return &Error{step, syscall.Errno(errno)}
}

// evitable are errors which a loader may not meet: a sandbox may forbid what not
// every program does, and memory that is not overcommitted a copy of our own.
var evitable = []error{syscall.EPERM, syscall.ENOSYS, syscall.EINVAL, syscall.ENOMEM}

// Start starts a program as the leader of a session of its own. If DeathSig is
// set the caller must be locked to a thread which lives as long as the child
// should.
func Start(s Spec) (*Child, error) {
	if len(s.Args) == 0 {
		return nil, errors.New("no program")
	}
	if direct {
		c, err := s.start()
		if !slices.ContainsFunc(evitable, func(e error) bool { return errors.Is(err, e) }) {
			return c, err
		}
	}
	return s.load()
}

// load starts the program by way of a loader.
func (s *Spec) load() (*Child, error) {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	failed := os.NewFile(uintptr(p[0]), "loader")
	defer syscall.Close(p[1])
	var files []uintptr
	for _, fd := range s.Files {
		files = append(files, uintptr(fd))
	}
	report, pinned := len(files), -1
	files = append(files, uintptr(p[1]))
	if s.Pinned >= 0 {
		pinned = len(files)
		files = append(files, uintptr(s.Pinned))
	}
	pidfd := -1
	pid, err := syscall.ForkExec("/proc/self/exe", s.encode(report, pinned), &syscall.ProcAttr{
		Env:   append(s.Env[:len(s.Env):len(s.Env)], loader.Env+"=1"),
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	})
	if err != nil {
		failed.Close()
		return nil, fmt.Errorf("start the loader: %w", err)
	}
	return &Child{PID: pid, Pidfd: pidfd, Failed: failed}, nil
}

// encode makes the loader's arguments: settings, then "--", then the program's.
func (s *Spec) encode(report, pinned int) []string {
	args := []string{loader.Name, fmt.Sprintf("report=%d", report), fmt.Sprintf("pinned=%d", pinned),
		"path=" + s.Path, fmt.Sprintf("parent=%d", os.Getpid())}
	add := func(key string, value any) { args = append(args, fmt.Sprintf("%s=%v", key, value)) }
	for _, l := range s.Limits {
		add("limit", fmt.Sprintf("%d:%d:%d:%s", l.Resource, l.Soft, l.Max, l.Text))
	}
	if s.Umask >= 0 {
		add("umask", s.Umask)
	}
	if s.GID >= 0 {
		groups := make([]string, len(s.Groups))
		for i, g := range s.Groups {
			groups[i] = strconv.Itoa(g)
		}
		add("groups", strings.Join(groups, ","))
		add("gid", s.GID)
	}
	if s.UID >= 0 {
		add("uid", s.UID)
	}
	if s.Dir != "" {
		add("dir", s.Dir)
	}
	if s.DeathSig != 0 {
		add("death", int(s.DeathSig))
	}
	if s.ListenPID {
		add("listen", 1)
	}
	return append(append(args, "--"), s.Args...)
}
