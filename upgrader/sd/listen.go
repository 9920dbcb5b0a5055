package sd

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// FirstFD is the number of the first descriptor that a manager passes.
const FirstFD = 3 // SD_LISTEN_FDS_START

// Socket is a descriptor that the manager has passed: mostly a listening
// socket, but any kind of file can come from the descriptor store.
type Socket struct {
	FD   int    // close-on-exec; whoever asked for it owns it
	Name string // not necessarily unique; "": the manager gave no names
}

// File returns the descriptor as a file, which owns it from then on. It doesn't
// change O_NONBLOCK, which may be shared with other processes.
func (s Socket) File() *os.File { return os.NewFile(uintptr(s.FD), s.Name) }

// Listen returns the sockets that the manager has passed to this process, and
// removes LISTEN_* from the environment; none without a manager. For a program
// that has no use for the rest of Environment; call it once.
func Listen() ([]Socket, error) { return takeListen().Sockets() }

// Sockets returns the descriptors that the manager has passed to this process,
// in its order, and makes all of them close-on-exec; none if LISTEN_PID names
// another process (sd_listen_fds(3)). They are the same ones at each call.
//
// An error means that the variables make no sense, or promise descriptors that
// aren't there; those that are stay open, and are close-on-exec.
func (e Environment) Sockets() ([]Socket, error) {
	n, err := e.listenCount(os.Getpid())
	if err != nil || n == 0 {
		return nil, err
	}
	missing := closeOnExec(n)
	names, err := e.listenNames(n)
	if err != nil {
		return nil, err
	}
	if missing != nil {
		return nil, fmt.Errorf("sd: LISTEN_FDS=%d: %w", n, missing)
	}
	sockets := make([]Socket, n)
	for i := range sockets {
		sockets[i] = Socket{FD: FirstFD + i, Name: names[i]}
	}
	return sockets, nil
}

// maxListenFDs is far above what any process may have open, and keeps a
// nonsensical LISTEN_FDS from costing memory and time.
const maxListenFDs = 1 << 20

// listenCount returns how many descriptors are passed to the process pid.
func (e Environment) listenCount(pid int) (int, error) {
	if e.ListenPID == "" || e.ListenFDs == "" {
		return 0, nil
	}
	listenPID, err := parsePID(e.ListenPID)
	if err != nil {
		return 0, fmt.Errorf("sd: LISTEN_PID=%q: %w", e.ListenPID, err)
	}
	if listenPID != pid {
		return 0, nil
	}
	n, err := strconv.Atoi(e.ListenFDs)
	if err != nil || n < 0 || n > maxListenFDs {
		return 0, fmt.Errorf("sd: LISTEN_FDS=%q: not a number of descriptors", e.ListenFDs)
	}
	return n, nil
}

func (e Environment) listenNames(n int) ([]string, error) {
	if e.ListenFDNames == nil {
		return make([]string, n), nil
	}
	names := strings.Split(*e.ListenFDNames, ":")
	if len(names) != n {
		return nil, fmt.Errorf("sd: LISTEN_FDNAMES=%q has %d names for %d descriptors", *e.ListenFDNames, len(names), n)
	}
	return names, nil
}

func closeOnExec(n int) error {
	var missing error
	for fd := FirstFD; fd < FirstFD+n; fd++ {
		if err := setCloseOnExec(fd); err != nil {
			if missing == nil {
				missing = fmt.Errorf("descriptor %d: %w", fd, err)
			}
			if fd-FirstFD > 1<<16 { // the rest won't be there either
				break
			}
		}
	}
	return missing
}

// ListenEnv returns the environment variables that tell a child of the
// descriptors which it gets from FirstFD on, by their names: LISTEN_FDS and
// LISTEN_FDNAMES. LISTEN_PID is the child's own PID, and must be set by what
// runs in the child before the program does.
func ListenEnv(names []string) ([]string, error) {
	for _, name := range names {
		if !ValidName(name) {
			return nil, fmt.Errorf("sd: descriptor name %q: %w", name, errName)
		}
	}
	return []string{
		"LISTEN_FDS=" + strconv.Itoa(len(names)),
		"LISTEN_FDNAMES=" + strings.Join(names, ":"),
	}, nil
}
