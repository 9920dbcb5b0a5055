//go:build linux

package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/link"
)

// The receiver of these tests is a process of its own: descriptor 3 is the link.

func TestMain(m *testing.M) {
	if mode := os.Getenv("HANDOVER_TEST_RECEIVER"); mode != "" {
		receiverMain(mode)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// target writes "adopted" to each connection that it gets, unless it was told to
// fail in the window between two steps.
type target struct{ mode string }

func (g target) Claim(it *Item) error {
	switch g.mode {
	case "dies before its answer":
		die()
	case "stops before its answer":
		stopOnce()
	case "refuses every other":
		if it.FD%2 == 0 {
			return errors.New("no")
		}
	}
	return nil
}

func (g target) Adopt(it *Item) {
	if g.mode == "dies after its answer" {
		die()
	}
	unix.Write(it.FD, fmt.Appendf(nil, "adopted %s", it.Prefix))
	unix.Close(it.FD)
}

// stopOnce returns when the process has been stopped, and has gone on.
var stopOnce = sync.OnceFunc(func() {
	goesOn := make(chan os.Signal, 1)
	signal.Notify(goesOn, syscall.SIGCONT)
	syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	<-goesOn
})

func die() {
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// awaitReadable waits for a message, and leaves it where it is.
func awaitReadable(l *link.Conn) {
	raw, err := l.SyscallConn()
	if err != nil {
		panic(err)
	}
	raw.Read(func(uintptr) bool { return readable(l) })
}

func receiverMain(mode string) {
	l, err := link.New(3)
	if err != nil {
		panic(err)
	}
	c := ReceiverConfig{Targets: map[string]Target{"web": target{mode}}, Log: quiet}
	switch mode {
	case "says nothing":
		l.Recv()
		return
	case "closes the link":
		l.Close()
		io.Copy(io.Discard, os.Stdin)
		return
	case "speaks a later version":
		l.Send(hello{lowest: 2, highest: 3, servers: []string{"web"}}.append(nil))
		l.Recv()
		return
	case "talks nonsense":
		l.Send([]byte("nonsense"))
		l.Recv()
		return
	case "dies before it reads":
		l.Send(hello{lowest: 1, highest: 1, room: 1000, servers: []string{"web"}}.append(nil))
		awaitReadable(l)
		die()
	case "answers nonsense":
		l.Send(hello{lowest: 1, highest: 1, room: 1000, servers: []string{"web"}}.append(nil))
		m, _ := l.Recv()
		l.Send(answer{seq: 5}.append(nil))
		io.Copy(io.Discard, os.Stdin)
		m.Close()
		return
	case "has few descriptors":
		unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64})
	case "lies about its descriptors":
		c.Room = func() int { return 1000 }
		unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 40, Max: 40})
	case "gives up":
		ctx, cancel := context.WithCancel(context.Background())
		c.Targets = map[string]Target{"web": canceller{cancel}}
		Receive(ctx, l, c)
		io.Copy(io.Discard, os.Stdin)
		return
	}
	_, err = Receive(context.Background(), l, c)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(9)
	}
}

// canceller makes Receive give up when the first batch has been answered.
type canceller struct{ cancel func() }

func (canceller) Claim(*Item) error { return nil }
func (c canceller) Adopt(it *Item)  { target{}.Adopt(it); c.cancel() }
