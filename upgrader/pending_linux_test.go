package upgrader

import (
	"syscall"
	"testing"
)

func TestPending(t *testing.T) {
	const status = "Name:\tweb\nSigPnd:\t0000000000000002\nShdPnd:\t0000000000004001\nSigBlk:\t0000000000000000\n"
	if got, want := pending([]byte(status)), uint64(1<<(syscall.SIGHUP-1)|1<<(syscall.SIGTERM-1)); got != want {
		t.Errorf("%x, not %x", got, want)
	}
	if got := pending([]byte("Name:\tweb\n")); got != 0 {
		t.Errorf("%x", got)
	}
}
