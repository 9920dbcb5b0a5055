//go:build linux

package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

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

// waitStopped waits until a child is stopped.
func waitStopped(t *testing.T, pid int) {
	t.Helper()
	stopped := make(chan error, 1)
	go func() {
		stopped <- unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
	}()
	if err := proctest.Await(t, "the receiver's stop", stopped); err != nil {
		t.Fatal(err)
	}
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
