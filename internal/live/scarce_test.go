//go:build linux

package live

import (
	"bufio"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// A connection whose client talks while this process has no descriptor left waits
// until it has one, as a connection in the backlog does.
func TestNoDescriptorLeft(t *testing.T) {
	one, next := two(t, "tcp", numbered, nil)
	c := dial(t, one)
	get(t, c, "/")
	swap(proctest.Context(t), t, one, next)
	proctest.Poll(t, "parked", func() bool { return next.lot.len() == 1 })
	restore := noDescriptorLeft(t)
	io.WriteString(c, "GET /b HTTP/1.1\r\nHost: x\r\n\r\n")
	proctest.Poll(t, "woken", func() bool { return next.lot.len() == 0 })
	restore()
	if got := body(response(t, bufio.NewReader(c))); got != "2/b" {
		t.Fatal(got)
	}
}

func noDescriptorLeft(t *testing.T) (restore func()) {
	t.Helper()
	free, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(free)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	restore = func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &old) }
	t.Cleanup(restore)
	return restore
}
