package upgrader

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"
)

// A signal to this process waits in the kernel until the thread that it was given to
// has a processor, however long ago kill(2) returned. By the end of the process it
// would be lost.
const (
	pendingPause = time.Millisecond
	pendingWait  = time.Second
)

// awaitPending returns when the runtime has got all that were sent before the call.
func awaitPending(sigs []os.Signal) {
	var wanted uint64
	for _, s := range sigs {
		if n, ok := s.(syscall.Signal); ok {
			wanted |= 1 << (n - 1)
		}
	}
	for end := time.Now().Add(pendingWait); time.Now().Before(end); {
		status, err := os.ReadFile("/proc/self/status")
		if err != nil || pending(status)&wanted == 0 {
			return
		}
		time.Sleep(pendingPause)
	}
}

// pending is the set of signals that wait for any thread of a process
// (proc_pid_status(5)).
func pending(status []byte) uint64 {
	_, rest, _ := bytes.Cut(status, []byte("\nShdPnd:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	set, _ := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 64)
	return set
}
