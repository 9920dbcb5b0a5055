//go:build linux

package live

import (
	"bufio"
	"io"
	"testing"

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
	restore := proctest.NoDescriptorLeft(t)
	io.WriteString(c, "GET /b HTTP/1.1\r\nHost: x\r\n\r\n")
	proctest.Poll(t, "woken", func() bool { return next.lot.len() == 0 })
	restore()
	if got := body(response(t, bufio.NewReader(c))); got != "2/b" {
		t.Fatal(got)
	}
}
