package keeper

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/chain"
	"github.com/tablecloth-go/tablecloth/internal/output"
	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// host starts processes, and waits for all that are its children.
type host struct {
	mu      sync.Mutex // held from a fork until its child is in leaders
	leaders map[int]bool
	vaults  map[int]bool    // of our children, those that a vault.Vault waits for
	marks   map[string]bool // of leaders that live
	wishes  chan func()
	sweep   chan struct{} // something may have become an orphan
	null    *os.File
	logs    *output.Logs
	id      string // in every worker's marker
}

const markerKey = "TABLECLOTH_PROCESS"

func newHost(id string, l *output.Logs) (*host, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	h := &host{leaders: map[int]bool{}, vaults: map[int]bool{}, marks: map[string]bool{}, wishes: make(chan func()), sweep: make(chan struct{}, 1), null: null, logs: l, id: id}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become a subreaper: %w", err)
	}
	go h.forks()
	go h.reap()
	return h, nil
}

// forks is the only thread that starts anything: a parent-death signal comes when
// the thread that forked ends, so it must live as long as the keeper.
func (h *host) forks() {
	runtime.LockOSThread()
	for f := range h.wishes {
		f()
	}
}

// offspring is a process that was started: the leader of a session of its own.
type offspring struct {
	handle *proc.Handle
	tail   *output.Tail
	probed *os.File // read end of the readiness pipe; nil: none
}

func (w *offspring) PID() int { return w.handle.PID() }

func (w *offspring) Signal(sig syscall.Signal) error { return w.handle.Kill(sig) }

func (w *offspring) Output() []string { return w.tail.Lines() }

// start does the blocking part of a start elsewhere.
func (h *host) start(l *launch) {
	done := use(l.sockets)
	go func() {
		err := h.launch(l)
		done()
		if err != nil {
			l.ended(end{failed: err})
		}
	}()
}

func (h *host) launch(l *launch) error {
	w := &offspring{}
	c, err := h.begin(w, l)
	if err != nil {
		w.discard()
		return err
	}
	w.tail.Started(c.PID)
	failed := c.Wait()
	if failed == nil {
		l.started(w)
	}
	go h.await(w, mark(l.env), failed, l)
	return nil
}

// begin makes what a process has beside itself, and forks it.
func (h *host) begin(w *offspring, l *launch) (*chain.Child, error) {
	spec, err := h.spec(l)
	if err != nil {
		return nil, err
	}
	if w.tail, err = h.tail(l); err != nil {
		return nil, err
	}
	spec.Files = []int{int(h.null.Fd()), w.tail.Stdout(), w.tail.Stderr()}
	for _, s := range l.sockets {
		spec.Files = append(spec.Files, s.fd)
	}
	probed, closeTheirs, err := readyPipe(spec, l.readyFD)
	if err != nil {
		return nil, err
	}
	defer closeTheirs()
	w.probed = probed
	c, err := h.fork(spec, mark(l.env))
	if err != nil {
		return nil, err
	}
	w.handle, err = proc.FromPidfd(c.PID, c.Pidfd)
	return c, err
}

// discard is for a process that never was.
func (w *offspring) discard() {
	if w.tail != nil {
		w.tail.Close()
	}
	if w.probed != nil {
		w.probed.Close()
	}
}

func mark(env []string) string {
	for _, e := range env {
		if len(e) > len(markerKey) && e[:len(markerKey)+1] == markerKey+"=" {
			return e
		}
	}
	return ""
}

// spec is the launch in the loader's words.
func (h *host) spec(l *launch) (*chain.Spec, error) {
	s := &chain.Spec{Path: l.program.path, Pinned: -1, Args: l.program.args, Dir: l.conf.Directory,
		UID: -1, GID: -1, Umask: -1, DeathSig: l.conf.stopSignal(), ListenPID: len(l.sockets) > 0}
	if l.program.pinned != nil {
		s.Pinned = int(l.program.pinned.Fd())
	}
	s.Env = unique(append(append(s.Env, l.program.env...), l.env...))
	if len(l.sockets) > 0 {
		var names []string
		for _, k := range l.sockets {
			names = append(names, k.name)
		}
		env, err := sd.ListenEnv(names)
		if err != nil {
			return nil, err
		}
		s.Env = append(s.Env, env...)
	}
	if l.conf.Umask != nil {
		s.Umask = *l.conf.Umask
	}
	if l.conf.User != "" || l.conf.Group != "" {
		id, err := lookup(l.conf.User, l.conf.Group)
		if err != nil {
			return nil, err
		}
		s.UID, s.GID, s.Groups = id.uid, id.gid, id.groups
		s.Env = unique(append(append(s.Env, id.env...), l.conf.Environment...))
	}
	var err error
	s.Limits, err = parseLimits(l.conf.Limits)
	return s, err
}

// readyPipe puts the write end of a pipe at descriptor n of the process.
func readyPipe(spec *chain.Spec, n int) (*os.File, func(), error) {
	if n == 0 {
		return nil, func() {}, nil
	}
	if n < len(spec.Files) {
		return nil, nil, hinted(fmt.Errorf("ready fd=%d: that descriptor is taken", n), "the first free one is "+itoa(len(spec.Files)))
	}
	for len(spec.Files) < n {
		spec.Files = append(spec.Files, -1)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	spec.Files = append(spec.Files, int(w.Fd()))
	return r, func() { w.Close() }, nil
}

// fork starts the loader, and knows its process before anybody can reap it.
func (h *host) fork(spec *chain.Spec, mark string) (*chain.Child, error) {
	type result struct {
		c   *chain.Child
		err error
	}
	done := make(chan result, 1)
	h.wishes <- func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		c, err := chain.Start(*spec)
		if err == nil {
			h.leaders[c.PID] = true
			h.marks[mark] = true
		}
		done <- result{c, err}
	}
	r := <-done
	return r.c, r.err
}

// await sees a process to its end. The order matters:
//
//  1. it is dead, but still holds its PID, and with it the number of its group;
//  2. what can be rescued from it is, and its vault killed: from here on nothing
//     that it had open is;
//  3. what is left of its group is killed;
//  4. it is waited for;
//  5. what has escaped from the group is killed;
//  6. whoever starts a successor hears of it.
func (h *host) await(w *offspring, mark string, failed error, l *launch) {
	<-w.handle.Done()
	pid := w.PID()
	e := end{failed: failed}
	if l.dead != nil {
		e.left = l.dead()
	}
	unix.Kill(-pid, unix.SIGKILL)
	h.mu.Lock()
	for {
		_, err := syscall.Wait4(pid, &e.status, 0, nil)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	delete(h.leaders, pid)
	delete(h.marks, mark)
	h.mu.Unlock()
	h.reapGroup(pid)
	e.output = w.tail.Finish()
	if w.probed != nil {
		w.probed.Close()
	}
	w.handle.Close()
	l.ended(e)
}

func (h *host) kick() {
	select {
	case h.sweep <- struct{}{}:
	default:
	}
}

// execStatus is what a shell's exit status would be for a program that couldn't
// be started.
func execStatus(err error) int {
	var chained *chain.Error
	switch {
	case isEnvFileError(err):
		return 126
	case errors.As(err, &chained) && chained.Err == syscall.ENOENT, errors.Is(err, os.ErrNotExist):
		return 127
	case errors.As(err, &chained), errors.Is(err, os.ErrPermission), errors.Is(err, syscall.ENOEXEC):
		return 126
	}
	return 125
}
