//go:build linux

package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

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
		for !readable(l) {
			time.Sleep(time.Millisecond)
		}
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
	l, theirs, err := link.Pair()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
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
	r.sender = NewSender(l, SenderConfig{Dead: r.dead, Log: quiet, HelloWait: 10 * time.Second})
	t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Kill()
		<-r.dead
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		r.sender.Close(ctx)
	})
	return r
}

func (r *receiving) ctx() context.Context {
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	r.t.Cleanup(cancel)
	return ctx
}

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
		c.SetDeadline(time.Now().Add(30 * time.Second))
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

func TestProcess(t *testing.T) {
	r := start(t, "receives")
	if err := r.sender.Takes(r.ctx(), "web"); err != nil {
		t.Fatal(err)
	}
	if err := r.sender.Takes(r.ctx(), "admin"); !errors.Is(err, ErrNoServer) {
		t.Fatal(err)
	}
	r.put(1500)
	if moved, back := r.outcome(); moved != 1500 || back != 0 {
		t.Fatal(moved, back)
	}
	if n, err := r.sender.Close(r.ctx()); n != 1500 || err != nil {
		t.Fatal(n, err)
	}
	<-r.dead
	if !r.cmd.ProcessState.Success() {
		t.Fatal(r.cmd.ProcessState)
	}
}

// Nothing that the receiver does makes a connection lose its owner, or gives it
// two.
func TestReceiverFails(t *testing.T) {
	for _, c := range []struct {
		mode  string
		moved func(int) bool
		err   error
	}{
		{"dies before it reads", func(n int) bool { return n == 0 }, ErrDead},
		{"dies before its answer", func(n int) bool { return n == 0 }, ErrDead},
		{"refuses every other", func(n int) bool { return n > 0 && n < 600 }, ErrRefused},
		{"lies about its descriptors", func(n int) bool { return n < 600 }, ErrNoRoom},
		{"gives up", func(n int) bool { return n > 0 }, nil},
	} {
		t.Run(c.mode, func(t *testing.T) {
			t.Parallel()
			r := start(t, c.mode)
			if err := r.sender.Takes(r.ctx(), "web"); err != nil {
				t.Fatal(err)
			}
			r.put(600)
			moved, back := r.outcome()
			if !c.moved(moved) || moved+back != 600 {
				t.Fatal(moved, back)
			}
			for i, err := range r.errs {
				if err != nil && c.err != nil && !errors.Is(err, c.err) {
					t.Fatal(i, err)
				}
			}
		})
	}
}

// A receiver that is dead after its answer owned what it has answered: it must
// not come back.
func TestReceiverDiesAfterItsAnswer(t *testing.T) {
	r := start(t, "dies after its answer")
	if err := r.sender.Takes(r.ctx(), "web"); err != nil {
		t.Fatal(err)
	}
	r.put(10)
	<-r.all
	if r.errs[0] != nil {
		t.Fatalf("the first came back: %v", r.errs[0])
	}
	for i, c := range r.ends {
		want := ""
		if r.errs[i] != nil { // of a batch that was not answered
			want = fmt.Sprintf("back %d", i)
		}
		if b, err := io.ReadAll(c); string(b) != want || err != nil {
			t.Fatalf("%q, %v", b, err)
		}
	}
}

// While a receiver is stopped nothing comes back: it may wake up.
func TestReceiverStops(t *testing.T) {
	r := start(t, "stops before its answer")
	if err := r.sender.Takes(r.ctx(), "web"); err != nil {
		t.Fatal(err)
	}
	r.put(20)
	waitStopped(t, r.cmd.Process.Pid)
	select {
	case <-r.all:
		t.Fatal("settled while the receiver is stopped")
	case <-r.sender.Failed():
		t.Fatal(r.sender.Err())
	case <-time.After(300 * time.Millisecond): // a negative: nothing to wait for
	}
	r.cmd.Process.Signal(syscall.SIGCONT)
	if moved, _ := r.outcome(); moved != 20 {
		t.Fatal(moved)
	}
}

func waitStopped(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return
		}
		if strings.Contains(string(b), ") T ") {
			return
		}
	}
	t.Fatal("doesn't stop")
}

// A receiver that can't take connections is found out before anything is given
// away.
func TestReceiverCannot(t *testing.T) {
	for mode, want := range map[string]error{
		"speaks a later version": ErrVersion,
		"closes the link":        ErrNoHello,
		"talks nonsense":         errGarbled,
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := start(t, mode)
			if err := r.sender.Takes(r.ctx(), "web"); !errors.Is(err, want) {
				t.Fatal(err)
			}
			if r.sender.Reserve() {
				t.Fatal("has room")
			}
		})
	}
}

func TestReceiverSaysNothing(t *testing.T) {
	r := start(t, "says nothing")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.sender.Takes(ctx, "web"); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestReceiverHasFewDescriptors(t *testing.T) {
	r := start(t, "has few descriptors")
	if err := r.sender.Takes(r.ctx(), "web"); err != nil {
		t.Fatal(err)
	}
	n := r.put(600)
	if n == 0 || n > 64 {
		t.Fatalf("room for %d", n)
	}
	if moved, _ := r.outcome(); moved != n {
		t.Fatal(moved, n)
	}
}

// An answer that makes no sense proves nothing: what is in flight stays there
// until the receiver is dead.
func TestReceiverAnswersNonsense(t *testing.T) {
	r := start(t, "answers nonsense")
	if err := r.sender.Takes(r.ctx(), "web"); err != nil {
		t.Fatal(err)
	}
	r.put(5)
	<-r.sender.Failed()
	r.mu.Lock()
	n := len(r.errs)
	r.mu.Unlock()
	if n != 0 {
		t.Fatalf("%d settled", n)
	}
	r.cmd.Process.Kill()
	if _, back := r.outcome(); back != 5 {
		t.Fatal(back)
	}
}

// A sender that ends without good-bye leaves what it has sent to the receiver.
func TestSenderDies(t *testing.T) {
	a, b := linkPair(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		a.Recv() // hello
		bt := &batch{}
		bt.fill([]*Item{{Server: "web", FD: fds[0]}}, 1)
		a.Send(bt.append(nil, 1), fds[0])
		unix.Close(fds[0])
		a.Close()
	}()
	got, err := Receive(t.Context(), b, ReceiverConfig{Targets: map[string]Target{"web": target{}}, Log: quiet})
	if err != io.ErrUnexpectedEOF || got.Adopted != 1 {
		t.Fatal(got, err)
	}
	defer unix.Close(fds[1])
	buf := make([]byte, 100)
	if n, err := unix.Read(fds[1], buf); string(buf[:n]) != "adopted " {
		t.Fatal(n, err)
	}
}
