//go:build linux

package handover

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// receiving is the sender's view of such a process.
type receiving struct {
	t      *testing.T
	cmd    *exec.Cmd
	dead   chan struct{}
	sender *Sender
	ends   []net.Conn // the clients'
	mu     sync.Mutex
	errs   map[int]error // by index, of what was settled
	all    chan struct{} // everything was settled
	want   int
}

func start(t *testing.T, mode string) *receiving {
	t.Helper()
	var endWait time.Duration
	if strings.HasPrefix(mode, "dies") {
		endWait = proctest.Patience(t)
	}
	l, theirs, err := link.Pair()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "HANDOVER_TEST_RECEIVER="+mode)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	stdin, _ := cmd.StdinPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	r := &receiving{t: t, cmd: cmd, dead: make(chan struct{}), errs: make(map[int]error), all: make(chan struct{})}
	go func() { cmd.Wait(); close(r.dead) }()
	r.sender = NewSender(l, SenderConfig{Dead: r.dead, Log: quiet, HelloWait: proctest.Patience(t), endWait: endWait})
	t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Kill()
		<-r.dead
		r.sender.Close(proctest.Context(t))
	})
	return r
}

func (r *receiving) ctx() context.Context { return proctest.Context(r.t) }

func linkPair(t *testing.T) (a, b *link.Conn) {
	t.Helper()
	a, theirs, err := link.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	fd, err := unix.FcntlInt(theirs.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = link.New(fd); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// put gives n connections to the sender, and returns for how many there was room.
func (r *receiving) put(n int) int {
	r.t.Helper()
	var items []*Item
	for range n {
		if !r.sender.Reserve() {
			break
		}
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			r.t.Fatal(err)
		}
		f := os.NewFile(uintptr(fds[1]), "client")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			r.t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(proctest.Patience(r.t)))
		r.t.Cleanup(func() { c.Close() })
		r.ends = append(r.ends, c)
		items = append(items, &Item{Server: "web", FD: fds[0], Prefix: fmt.Append(nil, len(items)), Since: time.Now()})
	}
	r.want = len(items)
	for i, it := range items {
		r.sender.Put(it, func(it *Item, err error) { r.settled(i, it, err) })
	}
	return len(items)
}

func (r *receiving) settled(i int, it *Item, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, twice := r.errs[i]; twice {
		r.t.Errorf("item %d was settled twice", i)
	}
	r.errs[i] = err
	if err != nil { // ours again
		unix.Write(it.FD, fmt.Appendf(nil, "back %s", it.Prefix))
	}
	it.Close()
	if len(r.errs) == r.want {
		close(r.all)
	}
}

// outcome waits until everything is settled, and checks that each connection has
// exactly one owner, who has everything that belongs to it.
func (r *receiving) outcome() (moved, back int) {
	r.t.Helper()
	select {
	case <-r.all:
	case <-r.ctx().Done():
		r.t.Fatalf("%d of %d settled", len(r.errs), r.want)
	}
	for i, c := range r.ends {
		b, err := io.ReadAll(c)
		if err != nil {
			r.t.Fatal(err)
		}
		want := fmt.Sprintf("adopted %d", i)
		if r.errs[i] != nil {
			want = fmt.Sprintf("back %d", i)
			back++
		} else {
			moved++
		}
		if string(b) != want {
			r.t.Fatalf("connection %d (%v) got %q, expected %q", i, r.errs[i], b, want)
		}
	}
	return moved, back
}
