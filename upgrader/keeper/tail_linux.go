package keeper

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	tailLines = 200
	tailBytes = 64 << 10
	lineBytes = 4 << 10
	lastWords = 20 * time.Millisecond // a successor waits for them
	pipeBytes = 1 << 20
)

// tail passes on what a worker writes, and holds the last lines of it.
//
// The worker's end of the pipe is open for reading too. So it never gets SIGPIPE
// or EPIPE when the keeper is killed while it drains: there is still a reader,
// itself. What it writes then stays in the pipe, which is made 1 MiB for that; if
// there is a next keeper, it finds the pipe and passes on what is in it.
type tail struct {
	pipes []*stream

	mu    sync.Mutex
	ring  [][]byte
	bytes int
}

// stream is one of stdout and stderr.
type stream struct {
	t      *tail
	in     *os.File // our end
	theirs *os.File // closed once the worker has it
	out    *os.File
	done   chan struct{}
	part   []byte // a line that has no end yet
}

func newTail(capture string) (*tail, error) {
	t := &tail{}
	if capture == "none" {
		return t, nil
	}
	outs := []*os.File{os.Stderr}
	if capture == "all" {
		outs = append(outs, os.Stdout)
	}
	for _, out := range outs {
		s, err := newStream(t, out)
		if err != nil {
			t.close()
			return nil, err
		}
		t.pipes = append(t.pipes, s)
	}
	for _, s := range t.pipes {
		go s.copy()
	}
	return t, nil
}

func newStream(t *tail, out *os.File) (*stream, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, pipeBytes)
	// Opened anew: an open file of its own, blocking, for reading and writing.
	theirs, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", p[1]), unix.O_RDWR|unix.O_CLOEXEC, 0)
	unix.Close(p[1])
	if err != nil {
		unix.Close(p[0])
		return nil, fmt.Errorf("open a pipe anew: %w", err)
	}
	return &stream{t: t, in: os.NewFile(uintptr(p[0]), "tail"), theirs: os.NewFile(uintptr(theirs), "theirs"), out: out,
		done: make(chan struct{})}, nil
}

func (t *tail) stderr() int { return t.end(0, 2) }
func (t *tail) stdout() int { return t.end(1, 1) }

func (t *tail) end(i, otherwise int) int {
	if i < len(t.pipes) {
		return int(t.pipes[i].theirs.Fd())
	}
	return otherwise
}

// started closes the worker's ends here.
func (t *tail) started() {
	for _, s := range t.pipes {
		s.theirs.Close()
	}
}

func (t *tail) close() {
	for _, s := range t.pipes {
		s.theirs.Close()
		s.in.Close()
	}
}

// copy goes on until nobody has the worker's end any more.
func (s *stream) copy() {
	defer close(s.done)
	defer s.in.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := s.in.Read(buf)
		if n > 0 {
			s.out.Write(buf[:n])
			s.hold(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// hold cuts what was written into lines.
func (s *stream) hold(b []byte) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte{'\n'})
		if room := lineBytes - len(s.part); len(line) > room {
			line = line[:room]
		}
		s.part = append(s.part, line...)
		if ended {
			s.t.push(s.part)
			s.part = nil
		}
		b = rest
	}
}

func (t *tail) push(line []byte) {
	t.ring = append(t.ring, line)
	t.bytes += len(line)
	for len(t.ring) > tailLines || t.bytes > tailBytes {
		t.bytes -= len(t.ring[0])
		t.ring[0] = nil
		t.ring = t.ring[1:]
	}
}

// lines returns the last lines.
func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, l := range t.ring {
		out = append(out, string(bytes.ToValidUTF8(l, []byte("\uFFFD"))))
	}
	for _, s := range t.pipes {
		if len(s.part) > 0 {
			out = append(out, string(bytes.ToValidUTF8(s.part, []byte("\uFFFD"))))
		}
	}
	return out
}

// finish returns the last lines of a process that is dead. It waits until what is
// in the pipe has been read, but not for descendants that still write.
func (t *tail) finish() []string {
	deadline := time.NewTimer(lastWords)
	defer deadline.Stop()
	for _, s := range t.pipes {
		select {
		case <-s.done:
		case <-deadline.C:
			return t.lines()
		}
	}
	return t.lines()
}

// drainOrphan passes on what a worker of a keeper that was killed still writes:
// nobody else reads its pipe, and once that is full the worker would hang in a
// write, instead of ending.
func drainOrphan(pid int) {
	for n, out := range map[int]*os.File{1: os.Stdout, 2: os.Stderr} {
		path := fmt.Sprintf("/proc/%d/fd/%d", pid, n)
		target, err := os.Readlink(path)
		var st unix.Stat_t
		if err != nil || unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO || !isOrphaned(pid, n) {
			continue
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		s := &stream{t: &tail{}, in: os.NewFile(uintptr(fd), target), out: out, done: make(chan struct{})}
		go s.copy()
	}
}

// isOrphaned reports whether a descriptor is a worker's end of a tail: it can be
// read by the worker that writes to it.
func isOrphaned(pid, n int) bool {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, n))
	for line := range bytes.Lines(data) {
		if flags, ok := bytes.CutPrefix(line, []byte("flags:")); ok {
			var f int
			fmt.Sscanf(string(flags), "%o", &f)
			return f&unix.O_ACCMODE == unix.O_RDWR
		}
	}
	return false
}
