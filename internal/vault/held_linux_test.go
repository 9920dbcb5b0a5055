package vault

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// seen is a connection which the worker has in its table.
func (s *service) seen() *net.TCPConn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.ln.Addr().String())
	must(s.t, err)
	s.t.Cleanup(func() { c.Close() })
	proctest.Poll(s.t, "a connection in the table", func() bool {
		held, err := s.now.vault.Held(time.Minute)
		must(s.t, err)
		return len(held) == 1
	})
	return c.(*net.TCPConn)
}

// unheard stops the vault while f asks it.
func (s *service) unheard(f func()) {
	s.t.Helper()
	must(s.t, unix.Kill(s.now.vaultPID, unix.SIGSTOP))
	f()
	must(s.t, unix.Kill(s.now.vaultPID, unix.SIGCONT))
}

// TestAnAnswerThatNobodyWaitsFor doesn't keep the connections open that are in it:
// what the worker closes then ends, whether the vault is asked again or not.
func TestAnAnswerThatNobodyWaitsFor(t *testing.T) {
	s := newService(t, nil)
	c := s.seen()
	s.unheard(func() {
		if _, err := s.now.vault.Held(10 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a vault that is stopped answers: %v", err)
		}
	})
	must(t, c.CloseWrite()) // upon which the worker closes it
	must(t, c.SetReadDeadline(time.Now().Add(proctest.Patience(t))))
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection stays open: %v", err)
	}
}

// TestAnAnswerThatComesTooLate is not taken for that of the next question, whose
// descriptors it doesn't have.
func TestAnAnswerThatComesTooLate(t *testing.T) {
	s := newService(t, nil)
	v := s.now.vault
	held, err := v.Held(DefaultTimeout)
	if err != nil || len(held) != 0 {
		t.Fatal(held, err)
	}
	s.seen()
	held, err = v.Held(time.Minute)
	must(t, err)
	s.unheard(func() {
		for range 2 {
			if _, err := v.Held(10 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a vault that is stopped answers: %v", err)
			}
		}
	})
	again, err := v.Held(time.Minute)
	if err != nil || len(again) != 1 {
		t.Fatal(again, err)
	}
	for cookie, state := range held {
		if again[cookie] != state {
			t.Errorf("%v, %v before", again, held)
		}
	}
	s.crash("kill")
	if s.sum.Idle != 1 || s.sum.Lost != 0 {
		t.Errorf("%+v", s.sum)
	}
}
