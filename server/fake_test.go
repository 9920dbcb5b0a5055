package server

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/gate"
	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/vault"
	"github.com/tablecloth-go/tablecloth/upgrader"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// fakeGeneration does what an Upgrader does for a server, when the test says so.
type fakeGeneration struct {
	mu       sync.Mutex
	gates    []*gate.Listener
	exit     chan struct{}
	drain    *upgrader.Drain
	expired  chan struct{}
	resumed  chan struct{}
	dead     chan struct{} // the successor's process has ended
	crashes  []error
	crashed  chan struct{} // a token per crash
	upgrades chan struct{} // a token per upgrade
	upgrade  error         // its outcome
	readyErr error
	asked    bool // Ready was called
	status   func(*control.Generation)
	closed   int
	from     chan *link.Conn // live connections come from there
	to       *link.Conn      // and go there
	bound    int
}

func newFake() *fakeGeneration {
	return &fakeGeneration{
		exit:     make(chan struct{}),
		crashed:  make(chan struct{}, 1000),
		upgrades: make(chan struct{}, 10),
	}
}

func (f *fakeGeneration) ListenNamed(_, network, addr string) (net.Listener, error) {
	ln, err := net.Listen(network, addr)
	if err != nil {
		return nil, err
	}
	g := gate.New(ln.(gate.Socket))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bound++
	f.gates = append(f.gates, g)
	return g, nil
}

func (f *fakeGeneration) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = true
	if f.readyErr == nil {
		f.open()
	}
	return f.readyErr
}

func (f *fakeGeneration) open() {
	for _, g := range f.gates {
		g.Open()
	}
}

func (f *fakeGeneration) Exit() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.exit
}

func (f *fakeGeneration) Drain() *upgrader.Drain {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.drain
}

// end begins a drain, with the gates shut.
func (f *fakeGeneration) end(why upgrader.Reason, timeout time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.drain != nil {
		return
	}
	for _, g := range f.gates {
		g.Shut()
	}
	f.expired = make(chan struct{})
	f.resumed = make(chan struct{})
	f.dead = make(chan struct{})
	f.drain = &upgrader.Drain{
		Reason: why, Deadline: time.Now().Add(timeout), Expired: f.expired, Resumed: f.resumed, Successor: f.to, SuccessorDead: f.resumed,
	}
	close(f.exit)
}

// resume is the death of the successor.
func (f *fakeGeneration) resume() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.dead)
	f.open()
	f.drain = nil
	f.exit = make(chan struct{})
	close(f.resumed)
}

func (f *fakeGeneration) expire() { close(f.expired) }

func (f *fakeGeneration) Stop() { f.end(upgrader.Stopped, time.Minute) }

func (f *fakeGeneration) Crash(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashes = append(f.crashes, err)
	f.crashed <- struct{}{}
}

func (f *fakeGeneration) Upgrade(context.Context) (*upgrader.Result, error) {
	f.upgrades <- struct{}{}
	return nil, f.upgrade
}

func (f *fakeGeneration) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed++
	return nil
}

func (f *fakeGeneration) OnStatus(fn func(*control.Generation)) { f.status = fn }
func (f *fakeGeneration) Predecessors() <-chan *link.Conn       { return f.from }
func (f *fakeGeneration) Event(control.Event)                   {}
func (f *fakeGeneration) Vault([]string) *vault.Table           { return nil }
func (f *fakeGeneration) Listening([][]net.Addr, []net.Addr)    {}

// rig is a server under test.
type rig struct {
	*Server
	gen  *fakeGeneration
	done chan struct{}
	err  error // of Run, once done is closed
}

func start(t *testing.T, o Options, services ...*Service) *rig {
	t.Helper()
	return startOn(t, t.Context(), newFake(), o, services...)
}

func startOn(t *testing.T, ctx context.Context, gen *fakeGeneration, o Options, services ...*Service) *rig {
	t.Helper()
	if o.Log == nil {
		o.Log = upgrader.Discard
	}
	s, err := prepare(o, services)
	if err == nil {
		err = s.attach(gen, services)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Server: s, gen: gen, done: make(chan struct{})}
	go func() {
		r.err = s.Run(ctx)
		close(r.done)
	}()
	t.Cleanup(func() {
		gen.Stop()
		r.cutShort()
		r.wait(t)
	})
	if gen.readyErr == nil {
		proctest.Await(t, "ready", s.Ready())
	}
	return r
}

// replace begins the drain of an upgrade.
func (r *rig) replace(t *testing.T) {
	t.Helper()
	old := r.epoch.Load()
	r.gen.end(upgrader.Replaced, time.Minute)
	proctest.Await(t, "drain", old.Done())
}

// resume takes the drain back.
func (r *rig) resume(t *testing.T) {
	t.Helper()
	r.gen.resume()
	r.wantServing(t)
}

// wantServing returns when a drain has been taken back.
func (r *rig) wantServing(t *testing.T) {
	t.Helper()
	proctest.Poll(t, "serving again", func() bool { return !r.draining.Load() })
}

// wantEnd is a generation's orderly one.
func (r *rig) wantEnd(t *testing.T) {
	t.Helper()
	if err := r.wait(t); err != nil {
		t.Error(err)
	}
}

// cutShort ends a drain that a test has left behind.
func (r *rig) cutShort() {
	r.gen.mu.Lock()
	defer r.gen.mu.Unlock()
	select {
	case <-r.gen.expired:
	default:
		close(r.gen.expired)
	}
}

// wait returns what Run has returned.
func (r *rig) wait(t *testing.T) error {
	t.Helper()
	proctest.Await(t, "end of Run", r.done)
	return r.err
}
