package proctest

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// Logs names a directory for the whole logs of tests that have failed.
const Logs = "TABLECLOTH_TEST_LOGS"

// Log is what processes, and those that they start, have written to their
// standard output and error. The zero value is ready, and for any number of
// processes.
//
// It is a file: nobody who writes to it ever waits for the test. What a process
// has written before anything else became known of it (its end, an answer) is in
// the log by then.
type Log struct {
	news  bell
	mu    sync.Mutex
	file  *os.File // nil: not begun, or closed
	watch int
	from  int64  // of file: what hasn't been read
	text  []byte // what has
	read  int    // what Next has passed
}

// Start starts a command with its output captured.
func (l *Log) Start(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := l.open(); err != nil {
		t.Fatal(err)
	}
	// No buffer: Wait would wait for all generations.
	cmd.Stdout, cmd.Stderr = l.file, l.file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (l *Log) open() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		return nil
	}
	path := filepath.Join(os.TempDir(), "log-"+rand.Text())
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(path) // so that nothing of it is left, whatever happens
	if l.watch, err = watchFile(path, &l.news); err != nil {
		f.Close()
		return err
	}
	l.file, l.from = f, 0
	return nil
}

// Close ends the log. What is in it can still be read.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.fill()
		unwatchFile(l.watch)
		l.file.Close()
		l.file = nil
	}
}

// fill reads what is new.
func (l *Log) fill() {
	if l.file == nil {
		return
	}
	info, err := l.file.Stat()
	if err != nil {
		return
	}
	buf := make([]byte, info.Size()-l.from)
	n, _ := l.file.ReadAt(buf, l.from)
	l.text, l.from = append(l.text, buf[:n]...), l.from+int64(n)
}

// Text returns all that has been written so far.
func (l *Log) Text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fill()
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

// Report is for the end of a test, and of the log: if the test has failed it shows
// the last lines, and puts all of them where $TABLECLOTH_TEST_LOGS says.
func (l *Log) Report(t testing.TB) {
	l.Close()
	if !t.Failed() {
		return
	}
	text := l.Text()
	if dir := os.Getenv(Logs); dir != "" {
		os.WriteFile(filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")), []byte(text), 0o644)
	}
	const most, long = 150, 300
	lines := strings.Split(text, "\n")
	lines = lines[max(0, len(lines)-most):]
	for i, l := range lines {
		if len(l) > long {
			lines[i] = l[:long] + "…"
		}
	}
	t.Logf("log:\n%s", strings.Join(lines, "\n"))
}
