package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/kept"
)

// Become makes this process the keeper of its own program: called first in main,
// it starts the same executable with the same arguments as its worker, in which
// Become returns at once. In the keeper it never returns, but exits as the
// program ended.
//
// c.Services may have one entry, whose Command is filled in; none is the same as
// an empty one. Elsewhere than on Linux Become returns.
func Become(c Config) {
	if os.Getenv(kept.Env) != "" {
		return
	}
	var s Service
	if len(c.Services) > 0 {
		s = c.Services[0]
	}
	if len(s.Command) == 0 {
		s.Command = append([]string{ownCommand()}, os.Args[1:]...)
	}
	if s.Name == "" {
		s.Name = filepath.Base(os.Args[0])
	}
	c.Services = []Service{s}
	Exit(Run(context.Background(), c))
}

// started is where this process was started: a relative os.Args[0] means it.
var startDir, _ = os.Getwd()

// ownCommand is the path by which this program was started, symlinks unresolved,
// so that an upgrade finds what is there then.
func ownCommand() string {
	path, err := find(os.Args[0], startDir)
	if err != nil {
		return ownPath()
	}
	return path
}

// Exit ends this process as Run's error says: as its program ended, by the same
// signal if it was one. A program that could not be started is told of on stderr,
// with status 126 or 127, and what went wrong with the keeper itself with 125.
func Exit(err error) {
	var x *ExitError
	status := 125
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &x) && x.Err == nil:
		x.imitate()
		os.Exit(x.Code)
	case x != nil:
		status = x.Code
	}
	fmt.Fprintf(os.Stderr, "%s: error: %v\n", filepath.Base(os.Args[0]), err)
	var hint *Error
	if errors.As(err, &hint) && hint.Hint != "" {
		fmt.Fprintf(os.Stderr, "%s: hint: %s\n", filepath.Base(os.Args[0]), hint.Hint)
	}
	os.Exit(status)
}

// imitate ends this process by the signal that ended the program, so that a
// service manager sees what it would have seen: systemd takes an end by SIGTERM
// for a clean one. Go's runtime has its own ideas of the others, and PID 1 can't
// be killed.
func (x *ExitError) imitate() {
	switch x.Signal {
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGKILL:
	default:
		return
	}
	if os.Getpid() == 1 {
		return
	}
	signal.Reset(x.Signal)
	syscall.Kill(os.Getpid(), x.Signal)
	time.Sleep(time.Second) // the signal may reach another thread a moment later
}
