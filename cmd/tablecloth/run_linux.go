package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
)

const detachedEnv = "TABLECLOTH_DETACHED"

// detach runs the same command in a session of its own, and returns when it is
// ready, or has failed.
func detach(cmd *cobra.Command) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fail(exitKeeper, "", "%w", err)
	}
	var args []string
	for i, a := range os.Args[1:] {
		if a == "--" {
			args = append(args, os.Args[1+i:]...)
			break
		}
		if a != "--detach" && a != "--detach=true" {
			args = append(args, a)
		}
	}
	c := exec.Command("/proc/self/exe", args...)
	c.Args[0] = os.Args[0]
	c.Env = append(os.Environ(), detachedEnv+"=3")
	c.ExtraFiles = []*os.File{w}
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return fail(exitKeeper, "", "%w", err)
	}
	w.Close()
	if n, _ := r.Read(make([]byte, 1)); n == 1 {
		return nil
	}
	err = c.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status := exit.ExitCode()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			status = 128 + int(ws.Signal())
		}
		return &exitError{status: status}
	}
	return fail(exitFailed, "", "%s ended before it was ready", cmd.Flags().Arg(0))
}

// detached is the pipe of the command that waits for this one; nil: none does.
// It is taken before anything is started that could inherit it.
var detached = sync.OnceValue(func() *os.File {
	if os.Getenv(detachedEnv) != "3" {
		return nil
	}
	os.Unsetenv(detachedEnv)
	syscall.CloseOnExec(3)
	// The kernel has named it "exe" after /proc/self/exe, which says nothing in ps
	// and top.
	os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
	return os.NewFile(3, "detached")
})

// tellDetached lets that command return.
func tellDetached() {
	if f := detached(); f != nil {
		f.Write([]byte{1})
		f.Close()
	}
}
