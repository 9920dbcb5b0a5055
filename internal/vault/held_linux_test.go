package vault

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAnAnswerThatComesTooLate is not taken for that of the next question, whose
// descriptors it doesn't have.
func TestAnAnswerThatComesTooLate(t *testing.T) {
	s := newService(t, nil)
	v := s.now.vault
	held, err := v.Held(DefaultTimeout)
	if err != nil || len(held) != 0 {
		t.Fatal(held, err)
	}
	c, err := net.Dial("tcp", s.ln.Addr().String())
	must(t, err)
	defer c.Close()
	for len(held) == 0 {
		held, err = v.Held(time.Minute)
		must(t, err)
	}
	must(t, unix.Kill(s.now.vaultPID, unix.SIGSTOP))
	for range 2 {
		if _, err := v.Held(10 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a vault that is stopped answers: %v", err)
		}
	}
	must(t, unix.Kill(s.now.vaultPID, unix.SIGCONT))
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
