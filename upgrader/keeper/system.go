//go:build linux

package keeper

import (
	"os"
	"syscall"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/internal/pidfile"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// system is all that the keeper wants from the operating system, so that its
// decisions can be tested without one. None of these blocks for long.
type system struct {
	// prepare reads a program from disk: looks up its path, pins it, reads its
	// environment file. args nil: those of the configuration.
	prepare func(conf *Service, args []string) (*program, error)
	// start starts a process. The callbacks of l come later, from elsewhere.
	start func(l *launch)
	// watch looks for signs that a process is ready, and calls found once, unless
	// stop is closed before.
	watch func(c child, p *probe, found func(by string, confirmed bool), stop <-chan struct{})
	// announce tells the service manager above, and writes the workers' PID file.
	announce func(n notice)
	// advise says what may help a process that could not be confirmed, or failed.
	advise func(c child, sockets []*socket) string
	// vaults is what waits for workers' vaults; nil: there are none.
	vaults *host
	// report runs an on-crash command.
	report func(conf *Service, crash []byte)
	// output tells how much of a service's output has passed; nil: nobody knows.
	output func(service string) *control.Output
}

// child is a process that was started.
type child interface {
	PID() int
	Signal(sig syscall.Signal) error
	Output() []string // the last lines
}

// launch is a process to be started.
type launch struct {
	conf              *Service
	program           *program
	generation, index int
	env               []string  // beside the program's
	sockets           []*socket // from descriptor 3 on
	readyFD           int       // 0: none
	started           func(c child)
	dead              func() *bequest // called when it is dead and not yet waited for, and returns when its vault is dead too; may be nil
	ended             func(e end)
}

// end is how a process ended.
type end struct {
	status syscall.WaitStatus
	failed error    // it could not be started
	output []string // its last lines
	left   *bequest // nil: nothing
	// exit status for 126 and 127: there is no program, or it can't be run
}

// clean reports exit status 0.
func (e end) clean() bool { return e.failed == nil && e.status.Exited() && e.status.ExitStatus() == 0 }

// code is what a shell would make of it.
func (e end) code() int {
	switch {
	case e.failed != nil:
		return execStatus(e.failed)
	case e.status.Signaled():
		return 128 + int(e.status.Signal())
	}
	return e.status.ExitStatus()
}

func (e end) String() string {
	switch {
	case e.failed != nil:
		return e.failed.Error()
	case e.status.Signaled():
		s := "signal: " + e.status.Signal().String()
		if e.status.CoreDump() {
			s += " (core dumped)"
		}
		return s
	}
	return "exit status " + itoa(e.status.ExitStatus())
}

// program is a program as it was found at one moment: what an upgrade reads anew,
// and a restart runs again.
type program struct {
	path    string
	args    []string
	env     []string
	script  bool                   // can't be pinned
	pinned  *os.File               // O_PATH; nil: a script
	scripts map[string]os.FileInfo // among the arguments, by path
	given   []string               // arguments that were asked for; nil: the configuration's
	file    os.FileInfo            // what lay at path; nil: not known

	conf    *Service  // by which it was found
	sockets []*socket // of the service, for its processes
}

func (p *program) close() {
	if p.pinned != nil {
		p.pinned.Close()
	}
}

// notice is what the world above is told, in order.
type notice struct {
	kind    string // "ready", "reloading", "status", "stopping", "watchdog", "serving", "store", "forget"
	text    string
	pidfile *pidfile.File // nil: none
	worker  int           // its PID, for the file; 0: none
	store   []*socket
	stored  func() // ends the use of them
	remove  []string
	told    chan struct{} // closed when its turn has come; nil: nobody waits for that
}

// line is the way to a worker that has this library in it.
type line interface {
	Send(m kept.Message, files ...int) // doesn't block; takes over the files
	Roomy() bool                       // a message that may be lost wouldn't take the room of others
	Close()
}

// probe is how to find out that a worker is ready.
type probe struct {
	mode    string // "auto", "listen", "delay", "fd"; "notify": nothing to be watched
	alive   time.Duration
	sockets []*socket
	patient bool // auto: the last generation spoke for itself, so this one will
}
