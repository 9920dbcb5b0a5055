package upgrader

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/gate"
	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// Errors of Upgrade.
var (
	ErrNotReady     = errors.New("upgrader: this generation is not ready yet")
	ErrDraining     = errors.New("upgrader: this generation has been replaced")
	ErrStopping     = errors.New("upgrader: the service is being stopped")
	ErrSupervised   = errors.New("upgrader: whoever started this process can't follow a changing PID: run it under the keeper (tablecloth run, or keeper.Become)")
	ErrNotSupported = errors.New("upgrader: not supported here")
)

// Reason is why a generation drains.
type Reason string

const (
	Replaced Reason = "replaced" // by an upgrade
	Crashed  Reason = "crashed"  // replaced after a crash of its own
	Stopped  Reason = "stopped"  // the service ends
)

// Drain is how a generation is to end.
type Drain struct {
	Reason   Reason
	Deadline time.Time
	// Successor is where live connections can go; nil: nowhere.
	Successor *link.Conn
	// Expired is closed at the deadline, or when somebody asked that the drain
	// end at once.
	Expired <-chan struct{}
	// Resumed is closed if the successor dies before this generation has
	// ended: it acts for the service again, and its listeners accept again.
	// Exit is another channel then.
	Resumed <-chan struct{}
}

// Status is what control.Backend and Upgrader.Status tell.
type Status = control.Status

// Result of a successful upgrade.
type Result struct {
	Generation int
	PID        int
	Took       time.Duration
	Confirmed  bool // the new process said itself that it is ready
}

// Upgrader is one generation of a service.
type Upgrader struct {
	o     Options
	mu    sync.Mutex
	gates []*gate.Listener
	drain *Drain
	exit  chan struct{}
}

// Plain returns an Upgrader which binds, serves and stops, but neither forks nor
// listens to signals: for tests, any number of them, and for Windows.
func Plain() *Upgrader { return &Upgrader{exit: make(chan struct{})} }

// New: see later.
func New(o Options) (*Upgrader, error) { u := Plain(); u.o = o; return u, nil }

// Listen returns a listener which accepts only while this generation acts for
// the service: from Ready on, until Exit. Its Accept blocks otherwise.
func (u *Upgrader) Listen(network, addr string) (net.Listener, error) {
	return u.ListenNamed("", network, addr)
}

// ListenNamed is Listen for a socket which the service manager may know by name.
func (u *Upgrader) ListenNamed(name, network, addr string) (net.Listener, error) {
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), network, addr)
	if err != nil {
		return nil, fmt.Errorf("upgrader: %w", err)
	}
	g := gate.New(ln.(gate.Socket))
	u.mu.Lock()
	u.gates = append(u.gates, g)
	u.mu.Unlock()
	return g, nil
}

// ListenPacket is Listen for datagrams.
func (u *Upgrader) ListenPacket(network, addr string) (net.PacketConn, error) {
	return net.ListenPacket(network, addr)
}

// File returns a file which an earlier generation gave to AddFile; nil: none.
func (u *Upgrader) File(name string) (*os.File, error) { return nil, nil }

// AddFile gives a duplicate of f to the generations to come.
func (u *Upgrader) AddFile(name string, f *os.File) error { return nil }

// Ready tells everybody that this generation is ready, and returns when it acts
// for the service.
func (u *Upgrader) Ready() error {
	for _, g := range u.gates {
		g.Open()
	}
	return nil
}

// Exit returns a channel that is closed when this generation is to drain and
// end; Drain tells how.
func (u *Upgrader) Exit() <-chan struct{} { return u.exit }

// Drain tells how to end; nil while Exit is open.
func (u *Upgrader) Drain() *Drain { u.mu.Lock(); defer u.mu.Unlock(); return u.drain }

// Upgrade replaces this generation, and blocks until the outcome is known.
func (u *Upgrader) Upgrade(ctx context.Context) (*Result, error) { return nil, ErrNotSupported }

// Crash says that this process is not to be trusted any more: a successor is
// started, then this generation drains with Reason Crashed. It doesn't block.
// err may be a *CrashError. Plain: counted only, as nothing can follow.
func (u *Upgrader) Crash(err error) {}

// Go runs f in a goroutine; a panic in it is a crash.
func (u *Upgrader) Go(f func()) {}

// Stop ends the service.
func (u *Upgrader) Stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.drain == nil {
		exp := make(chan struct{})
		time.AfterFunc(DefaultStopTimeout, func() { close(exp) })
		u.drain = &Drain{Reason: Stopped, Deadline: time.Now().Add(DefaultStopTimeout), Expired: exp}
		close(u.exit)
	}
}

// Close is the last call of a generation: what it still owns for the service is
// given up (after a stop: the PID file and unix socket paths are removed).
func (u *Upgrader) Close() error { return nil }

// Status tells how things are.
func (u *Upgrader) Status() Status { return Status{} }

// OnStatus registers what fills in a server's part of a status: counts into
// g.Workers[0].Conns, and g.Holdouts during a drain.
func (u *Upgrader) OnStatus(f func(g *control.Generation)) {}

// Event tells those who watch that something happened.
func (u *Upgrader) Event(e control.Event) {}

// Generation is the number of this generation, from 1.
func (u *Upgrader) Generation() int { return 1 }

// Predecessor is where live connections of the last generation come from; nil:
// from nowhere. It is there from New on.
func (u *Upgrader) Predecessor() *link.Conn { return nil }
