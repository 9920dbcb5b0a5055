package output

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
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
	// hush is the silence after which a line without an end is passed on: it may be
	// the last thing that a program says before it hangs.
	hush = time.Second
)

// Tail passes on what a worker writes, and holds the last lines of it.
//
// The worker's end of the pipe is open for reading too. So it never gets SIGPIPE
// or EPIPE when the keeper is killed while it drains: there is still a reader,
// itself. What it writes then stays in the pipe, which is made 1 MiB for that; if
// there is a next keeper, it finds the pipe and passes on what is in it.
type Tail struct {
	pipes []*stream

	mu    sync.Mutex
	ring  [][]byte
	bytes int
	spare []byte // of a line that is not held any more: a flood makes no garbage
}

// stream is one of stdout and stderr.
type stream struct {
	flow
	logs   *Logs
	t      *Tail
	n      int      // of the descriptor in the worker
	in     *os.File // our end
	theirs *os.File // closed once the worker has it
	held   bool     // for reports
	done   chan struct{}
	last   []byte // a line that has no end yet, for reports
}

func newStream(n int) (*stream, error) {
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
	return &stream{n: n, in: os.NewFile(uintptr(p[0]), "tail"), theirs: os.NewFile(uintptr(theirs), "theirs"),
		done: make(chan struct{})}, nil
}

// Stdout is the descriptor that the worker is to have as its standard output: the
// keeper's own where nothing is done to it.
func (t *Tail) Stdout() int { return t.end(1) }

// Stderr is the same for its standard error.
func (t *Tail) Stderr() int { return t.end(2) }

// end is what a worker gets as its descriptor n: ours as it is, unless it is piped.
func (t *Tail) end(n int) int {
	for _, s := range t.pipes {
		if s.n == n {
			return int(s.theirs.Fd())
		}
	}
	return n
}

// Started closes the worker's ends here, and begins to read. pid is the worker's.
func (t *Tail) Started(pid int) {
	for _, s := range t.pipes {
		s.pid = pid
		s.theirs.Close()
		go s.copy()
	}
}

// Close is for a worker that never was.
func (t *Tail) Close() {
	for _, s := range t.pipes {
		s.logs.forget(s)
		s.theirs.Close()
		s.in.Close()
		close(s.done)
	}
}

// copy goes on until nobody has the worker's end any more.
func (s *stream) copy() {
	defer s.logs.forget(s)
	defer close(s.done)
	defer s.in.Close()
	buf := make([]byte, flowRead)
	for {
		n, err := s.read(buf)
		if n > 0 {
			s.flow.write(buf[:n])
			s.hold(buf[:n])
		}
		if err != nil {
			s.flow.end()
			return
		}
	}
}

// read also ends a wait for the rest of a line.
func (s *stream) read(buf []byte) (int, error) {
	if !s.pending() {
		return s.in.Read(buf)
	}
	s.in.SetReadDeadline(time.Now().Add(hush))
	n, err := s.in.Read(buf)
	s.in.SetReadDeadline(time.Time{})
	if os.IsTimeout(err) {
		s.hush()
		return n, nil
	}
	return n, err
}

// hold cuts what was written into lines.
func (s *stream) hold(b []byte) {
	if !s.held {
		return
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte{'\n'})
		if room := lineBytes - len(s.last); len(line) > room {
			line = line[:room]
		}
		if s.last == nil {
			s.last, s.t.spare = s.t.spare, nil
		}
		s.last = append(s.last, line...)
		if ended {
			s.t.push(s.last)
			s.last = nil
		}
		b = rest
	}
}

func (t *Tail) push(line []byte) {
	t.ring = append(t.ring, line)
	t.bytes += len(line)
	for len(t.ring) > tailLines || t.bytes > tailBytes {
		t.bytes -= len(t.ring[0])
		t.spare = t.ring[0][:0]
		t.ring[0] = nil
		t.ring = t.ring[1:]
	}
}

// Lines returns the last lines.
func (t *Tail) Lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, l := range t.ring {
		out = append(out, string(bytes.ToValidUTF8(l, []byte("\uFFFD"))))
	}
	for _, s := range t.pipes {
		if len(s.last) > 0 {
			out = append(out, string(bytes.ToValidUTF8(s.last, []byte("\uFFFD"))))
		}
	}
	return out
}

// Finish returns the last lines of a process that is dead. It waits until what is
// in the pipe has been read, but not for descendants that still write.
func (t *Tail) Finish() []string {
	deadline := time.NewTimer(lastWords)
	defer deadline.Stop()
	for _, s := range t.pipes {
		select {
		case <-s.done:
		case <-deadline.C:
			return t.Lines()
		}
	}
	return t.Lines()
}

// Orphan passes on what a worker of a keeper that was killed still writes: nobody
// else reads its pipe, and once that is full the worker would hang in a write,
// instead of ending.
func (l *Logs) Orphan(pid int) {
	for _, n := range []int{1, 2} {
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
		s := &stream{t: &Tail{}, n: n, in: os.NewFile(uintptr(fd), target), done: make(chan struct{})}
		s.pid = pid
		l.connect(s, whose(pid))
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

// whose worker a process is, by its environment.
func whose(pid int) (s Source) {
	env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	for e := range bytes.SplitSeq(env, []byte{0}) {
		key, value, _ := bytes.Cut(e, []byte{'='})
		switch string(key) {
		case "TABLECLOTH_SERVICE":
			s.Service = string(value)
		case "TABLECLOTH_GENERATION":
			s.Generation, _ = strconv.Atoi(string(value))
		case "TABLECLOTH_WORKER":
			s.Worker, _ = strconv.Atoi(string(value))
		}
	}
	return s
}
