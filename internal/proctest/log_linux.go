package proctest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Logs names a directory for the whole logs of tests that have failed.
const Logs = "TABLECLOTH_TEST_LOGS"

// Log is what processes, and those that they start, have written to their
// standard output and error. The zero value is ready, and for any number of
// processes.
//
// What a process has written before anything else became known of it (its end,
// an answer) is in the log by then.
type Log struct {
	news  bell
	mu    sync.Mutex
	text  []byte
	read  int // what Next has passed
	pipes []*pipe
}

// pipe that processes write to.
type pipe struct {
	end  syscall.RawConn
	gone chan struct{} // closed: nobody has it open
}

// Start starts a command with its output captured. The returned channel is closed
// when no process has the output open any more, no descendant either.
func (l *Log) Start(t testing.TB, cmd *exec.Cmd) (gone <-chan struct{}) {
	t.Helper()
	// No buffer: Wait would wait for all generations.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		r.Close()
		t.Fatal(err)
	}
	end, err := r.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	p := &pipe{end: end, gone: make(chan struct{})}
	l.mu.Lock()
	l.pipes = append(l.pipes, p)
	l.mu.Unlock()
	go func() {
		p.end.Read(func(fd uintptr) bool { return l.drain(int(fd)) })
		r.Close()
		close(p.gone)
	}()
	return p.gone
}

// drain takes what is in a pipe; over: nobody will write to it any more.
func (l *Log) drain(fd int) (over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.news.ring()
	var buf [16 << 10]byte
	for {
		n, err := syscall.Read(fd, buf[:])
		switch {
		case n > 0:
			l.text = append(l.text, buf[:n]...)
		case err == syscall.EINTR:
		default:
			return err != syscall.EAGAIN
		}
	}
}

// Text returns all that has been written so far.
func (l *Log) Text() string {
	l.mu.Lock()
	pipes := l.pipes
	l.mu.Unlock()
	for _, p := range pipes {
		p.end.Control(func(fd uintptr) { l.drain(int(fd)) }) // an error: it is over
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// Has waits until a text has been written n times.
func (l *Log) Has(t testing.TB, text string, n int) {
	t.Helper()
	l.news.until(t, fmt.Sprintf("%q in the log, %d times", text, n), func() bool { return strings.Count(l.Text(), text) >= n })
}

// Next waits for a line that fits, passes it and those before it, and returns its
// last group.
func (l *Log) Next(t testing.TB, pattern string) (found string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	l.news.until(t, fmt.Sprintf("the line %q", pattern), func() bool {
		text := l.Text()
		for {
			line, _, whole := strings.Cut(text[l.read:], "\n")
			if !whole {
				return false
			}
			l.read += len(line) + 1
			if m := re.FindStringSubmatch(line); m != nil {
				found = m[len(m)-1]
				return true
			}
		}
	})
	return found
}

// Count is how many lines fit so far.
func (l *Log) Count(pattern string) (n int) {
	re := regexp.MustCompile(pattern)
	for line := range strings.Lines(l.Text()) {
		if re.MatchString(strings.TrimSuffix(line, "\n")) {
			n++
		}
	}
	return n
}

// Raced reports whether the race detector has found something.
func (l *Log) Raced() bool { return strings.Contains(l.Text(), "WARNING: DATA RACE") }

// Report is for the end of a test: if it has failed it shows the end of the log,
// and puts all of it where $TABLECLOTH_TEST_LOGS says.
func (l *Log) Report(t testing.TB) {
	if !t.Failed() {
		return
	}
	text := l.Text()
	if dir := os.Getenv(Logs); dir != "" {
		os.WriteFile(filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")), []byte(text), 0o644)
	}
	const most = 16 << 10
	if len(text) > most {
		text = "…" + text[len(text)-most:]
	}
	t.Logf("log:\n%s", text)
}
