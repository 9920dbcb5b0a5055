package vault

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

// ErrStarted is returned by a second Start.
var ErrStarted = errors.New("the vault of this process was started before")

// Handle is what a worker has of its vault.
type Handle struct {
	// PID is the vault's process, a child of the worker's parent.
	PID int
	// Sock and Memory are for the keeper: its end of the vault's socket, and
	// the table. The worker sends and then closes both. The vault lives as
	// long as Sock is open anywhere, and the keeper lives.
	Sock, Memory *os.File
	// Table stays with the worker.
	Table *Table
}

// Close closes the keeper's files. Where they weren't sent, the vault ends.
func (h *Handle) Close() {
	for _, f := range []*os.File{h.Sock, h.Memory} {
		if f != nil {
			f.Close()
		}
	}
}

var started atomic.Bool

// Start makes the vault of this process, and tries it: the keeper's part is
// played with a connection over loopback, which must come out of the vault with
// the right counts. It takes less than a millisecond of work; the self-test is
// given up after ten seconds.
//
// Call it early, for the vault keeps the memory that the process has at that
// moment: pages which the worker changes later are then there twice, and what
// they hold (keys, say) lives on in the vault. It must be called by a process
// which has a parent to call Adopt, and works once: a second call returns
// ErrStarted.
//
// With an error nothing is to be rescued, and its text says why. If a vault was
// made nevertheless, it has been told to end, and Handle.PID is not 0: the keeper
// has to reap it.
func Start() (Handle, error) {
	if !started.CompareAndSwap(false, true) {
		return Handle{}, ErrStarted
	}
	h, err := start()
	if err != nil {
		return h, fmt.Errorf("vault: %w", err)
	}
	return h, nil
}
