package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/internal/pidfile"
	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// upgradeByPIDFile is for services without a control socket: all that can be seen
// from outside is that another process takes over the PID file.
func upgradeByPIDFile(cmd *cobra.Command, path string, o upgradeOptions) error {
	old, err := openPIDFile(path)
	if err != nil {
		return err
	}
	defer old.Close()
	if err := checkCatches(old.PID(), syscall.SIGHUP); err != nil {
		return err
	}
	start := time.Now()
	if err := signalProcess(old, syscall.SIGHUP); err != nil {
		return err
	}
	ctx, cancel := withTimeout(cmd.Context(), o.timeout)
	defer cancel()
	wait := showProgress(cmd.ErrOrStderr(), fmt.Sprintf("waiting for the successor of process %d", old.PID()))
	defer wait.end()
	pid, err := successor(ctx, path, old)
	wait.end()
	if ctx.Err() != nil {
		return notSeen(cmd.Context(), path, old.PID(), o.timeout)
	}
	if err != nil {
		return err
	}
	return tellSuccessor(cmd, pid, time.Since(start), o.asJSON)
}

func tellSuccessor(cmd *cobra.Command, pid int, took time.Duration, asJSON bool) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), control.Outcome{Trigger: "SIGHUP", Result: control.Ready, PID: pid, Took: took, At: time.Now()})
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "the next generation is ready: pid %d, after %s\n", pid, shortDuration(took))
	return err
}

// openPIDFile returns a handle of the live process that a PID file names.
func openPIDFile(path string) (*proc.Handle, error) {
	pid, err := pidfile.Read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fail(exitNotRunning, "is the service running, and does it write this PID file?", "there is no PID file %s", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fail(exitRefused, "run it as root or as the user of the service", "this user may not read the PID file %s", path)
	case err != nil:
		return nil, fail(exitUsage, "--pidfile takes a file with the PID of the service in it", "%s: %w", path, err)
	case abandoned(path):
		return nil, stale(path, pid)
	}
	h, err := proc.Open(pid)
	switch {
	case errors.Is(err, os.ErrProcessDone):
		return nil, stale(path, pid)
	case err != nil:
		return nil, fmt.Errorf("process %d: %w", pid, err)
	case h.Ended():
		h.Close()
		return nil, stale(path, pid)
	}
	return h, nil
}

func stale(path string, pid int) error {
	return fail(exitNotRunning, "the service has died: start it again", "the PID file %s is stale: process %d is not the service any more", path, pid)
}

func signalProcess(h *proc.Handle, sig syscall.Signal) error {
	err := h.Kill(sig)
	switch {
	case errors.Is(err, os.ErrProcessDone):
		return fail(exitNotRunning, "", "process %d has just ended", h.PID())
	case errors.Is(err, fs.ErrPermission):
		return fail(exitRefused, "run it as root or as the user of the service", "this user may not signal process %d", h.PID())
	}
	return err
}

// successor waits until the PID file names another live process.
func successor(ctx context.Context, path string, old *proc.Handle) (int, error) {
	var deadSince time.Time
	for {
		if pid, err := pidfile.Read(path); err == nil && pid != old.PID() && alive(pid) {
			return pid, nil
		}
		if old.Ended() {
			// The file was read before: a successor that wrote it first may have been missed.
			if deadSince.IsZero() {
				deadSince = time.Now()
			} else if time.Since(deadSince) > time.Second {
				return 0, fail(exitNotRunning, "start the service again, and see its log",
					"process %d has ended, and no successor is named by %s", old.PID(), path)
			}
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

func alive(pid int) bool {
	h, err := proc.Open(pid)
	if err != nil {
		return errors.Is(err, errors.ErrUnsupported)
	}
	defer h.Close()
	return !h.Ended()
}

func notSeen(ctx context.Context, path string, pid int, timeout time.Duration) error {
	hint := "see the service's log; a service under the keeper keeps its PID: use --control, or the worker's PID file"
	if ctx.Err() != nil {
		return fail(exitUnknown, hint, "interrupted: the signal was sent, but process %d was not seen to be replaced yet", pid)
	}
	return fail(exitUnknown, hint, "%s still names process %d: a successor was not seen within --timeout %v", path, pid, timeout)
}
