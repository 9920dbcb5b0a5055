package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// checkCatches refuses to send a signal that would only end the process, or do
// nothing (proc(5), SigCgt and SigIgn).
func checkCatches(pid int, sig syscall.Signal) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil // hidden (hidepid), or just ended: the signal will tell
	}
	caught, ok := signalMask(b, "SigCgt:")
	ignored, _ := signalMask(b, "SigIgn:")
	bit := uint64(1) << (uint(sig) - 1)
	switch {
	case !ok || caught&bit != 0:
		return nil
	case ignored&bit != 0:
		return fail(exitRefused, "was it started with nohup? upgrade it over its control socket",
			"process %d ignores %s", pid, unix.SignalName(sig))
	default:
		return fail(exitRefused, "only a service that upgrades itself on this signal can be upgraded with --pidfile",
			"process %d does not handle %s, which would end it", pid, unix.SignalName(sig))
	}
}

func signalMask(status []byte, field string) (uint64, bool) {
	for line := range bytes.Lines(status) {
		if v, ok := bytes.CutPrefix(line, []byte(field)); ok {
			mask, err := strconv.ParseUint(string(bytes.TrimSpace(v)), 16, 64)
			return mask, err == nil
		}
	}
	return 0, false
}

// abandoned reports whether the PID file has a lock beside it that nobody holds:
// its service has ended, and the PID may be another process's by now.
func abandoned(path string) bool {
	f, err := os.Open(path + ".lock")
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil
}
