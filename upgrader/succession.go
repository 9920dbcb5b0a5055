package upgrader

import (
	"context"
	"net"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/gate"
	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/internal/vault"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// succession is how a generation came to be and how the next one follows it:
// alone, kept, or not at all.
type succession interface {
	// foreignListener returns a listener that was inherited in some other way
	// than the inventory's; nil: there is none.
	foreignListener(network, addr string) gate.Socket
	// startVault lets connections outlive this process; nil: they don't. It is
	// called once.
	startVault(servers []string) *vault.Table
	listening(servers [][]net.Addr, others []net.Addr)
	// trouble tells the predecessor why this process will probably fail.
	trouble(error)
	// announce says that this generation is ready, and returns when it is to act
	// for the service.
	announce() error
	// attempt starts a successor, and returns when it acts for the service or
	// is dead. When ctx is done it is killed, unless it acts already.
	attempt(ctx context.Context, l launch) attempted
	// predecessorDone is closed when no predecessor is left that drains.
	predecessorDone() <-chan struct{}
	// hurry ends the predecessor's drain.
	hurry()
	// leave tells the predecessor that the service is being stopped, so that it
	// doesn't take the end of this process for a death.
	leave()
	// handsUp says that this process has caught a crash, to whoever is in charge
	// of a replacement; false: attempt is.
	handsUp(c control.Crash) bool
	// stopService passes a stop on to whoever is in charge; false: it is this
	// process. signal names the one that it came by; "": none.
	stopService(r control.StopRequest, signal string) bool
	// event tells whoever is in charge of what only this process knows.
	event(control.Event)
	// acting tells everybody that this generation accepts.
	acting()
	// letGo is when the user of a socket has closed it.
	letGo(*item)
	// record writes down how things are, for a next life of the service.
	record(h history, ended bool)
	// resume makes this process the one that acts again.
	resume() error
	// close gives up what is held for the service; it has been stopped if last.
	close(last bool) error
}

// launch is what an attempt needs to know.
type launch struct {
	trigger    string
	generation int                     // of the new one
	ids        []string                // of the requests that it answers
	request    control.UpgradeRequest  // the first of them
	started    func(pid int)           // called once, as soon as something runs
	history    func() history          // as it is now
	event      func(control.Event)     // tells those who watch
	accepting  func(accept bool) error // opens or shuts all gates
}

// attempted is how an attempt ended.
type attempted struct {
	outcome control.Outcome
	heir    heir // nil unless the outcome is Ready
}

// heir is a successor that acts for the service.
type heir interface {
	pid() int
	// handover is where live connections can go; nil: nowhere.
	handover() *link.Conn
	// dead is closed when it has died, as far as this process can know.
	dead() <-chan struct{}
	// kept reports whether its death is its keeper's affair.
	kept() bool
	// left reports whether it had said before that the service is being stopped.
	left() bool
	// bury closes what is not of use any more when it has died.
	bury()
	// words are messages from it, for this generation's life.
	expire() <-chan struct{}
	// forward passes on what has reached this generation too late.
	forward(control.UpgradeRequest) error
	stop() error
	event(control.Event)
	status(control.Generation)
}

// none is the succession of a process which nothing follows.
type none struct{}

func (none) foreignListener(string, string) gate.Socket { return nil }
func (none) startVault([]string) *vault.Table           { return nil }
func (none) listening([][]net.Addr, []net.Addr)         {}
func (none) trouble(error)                              {}
func (none) announce() error                            { return nil }
func (none) attempt(context.Context, launch) attempted {
	return attempted{outcome: refused(ErrNotSupported, "")}
}
func (none) predecessorDone() <-chan struct{}             { return closedChan }
func (none) hurry()                                       {}
func (none) leave()                                       {}
func (none) handsUp(control.Crash) bool                   { return false }
func (none) stopService(control.StopRequest, string) bool { return false }
func (none) event(control.Event)                          {}
func (none) acting()                                      {}
func (none) letGo(*item)                                  {}
func (none) record(history, bool)                         {}
func (none) resume() error                                { return nil }
func (none) close(bool) error                             { return nil }

var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// killGrace is what a generation gets beyond its kill timeout before its
// successor ends it: it has a deadline of its own, and should keep it.
const killGrace = time.Second
