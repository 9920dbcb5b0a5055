package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/internal/handover"
	"github.com/tablecloth-go/tablecloth/upgrader"
)

// ErrCrashed is wrapped by what Run returns at the end of a generation that was
// replaced because it had crashed. The service lives; the process should exit
// with a status other than 0.
var ErrCrashed = errors.New("this generation crashed and was replaced")

// Server is the services of one process.
type Server struct {
	o   Options
	log logrus.FieldLogger
	up  *upgrader.Upgrader
	gen generation

	names   []string
	runners []runner
	addrs   map[string]net.Addr
	vault   bool          // the keeper can see to connections when this process is dead
	rescued []*httpRunner // those whose connections go on then

	started atomic.Bool
	starts  []*starting
	ready   chan struct{}
	failed  chan error // of Serve; the first one counts

	intake   intake
	draining atomic.Bool // read once per response
	moving   atomic.Bool // a drain's connections have a place to go to
	goes     atomic.Bool // Go was called for a request, see requestOf
	epoch    atomic.Pointer[epoch]

	panics  atomic.Int64
	crashes crashes
	hooks   group // OnCrash calls
}

// epoch is the time between two drains: there is more than one if a successor
// died and this generation took the service back.
type epoch struct {
	context.Context // of Conns handlers
	end             context.CancelFunc
}

func newEpoch() *epoch {
	ctx, cancel := context.WithCancel(context.Background())
	return &epoch{ctx, cancel}
}

// Run is New and Server.Run: the whole life of a process that serves. It
// returns nil after a stop or after the next generation has taken over, and an
// error otherwise; then exit with a status other than 0.
func Run(ctx context.Context, o Options, services ...*Service) error {
	s, err := New(o, services...)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// New checks the services, then binds, or inherits, all their addresses. It
// doesn't serve yet: connections wait in the backlog. On an error nothing stays
// bound.
func New(o Options, services ...*Service) (*Server, error) {
	s, err := newServer(o, services)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	return s, nil
}

func newServer(o Options, services []*Service) (*Server, error) {
	s, err := prepare(o, services)
	if err != nil {
		return nil, err
	}
	s.up = o.Upgrader
	if s.up == nil {
		if s.up, err = upgrader.New(s.o.forUpgrader()); err != nil {
			return nil, err
		}
	}
	if err = s.attach(s.up, services); err == nil {
		return s, nil
	}
	if o.Upgrader == nil {
		s.up.Close()
	}
	return nil, err
}

// prepare does what needs no socket.
func prepare(o Options, services []*Service) (*Server, error) {
	s := &Server{
		o:      o.withDefaults(),
		addrs:  make(map[string]net.Addr),
		ready:  make(chan struct{}),
		failed: make(chan error, 1),
	}
	s.log = s.o.Log
	s.epoch.Store(newEpoch())
	if err := checkServices(services); err != nil {
		return nil, err
	}
	for _, svc := range services {
		r, err := svc.makeRunner(s, svc)
		if err != nil {
			return nil, fmt.Errorf("service %q: %w", svc.Name, err)
		}
		s.names = append(s.names, svc.Name)
		s.runners = append(s.runners, r)
	}
	return s, nil
}

// attach binds; everything, or nothing.
func (s *Server) attach(gen generation, services []*Service) error {
	s.gen = gen
	go handover.Prepare() // it takes longer than all that follows
	s.openVault(services)
	var bound []net.Listener
	whose := make(map[runner][]net.Listener)
	for i, svc := range services {
		lns, err := s.listen(svc)
		bound = append(bound, lns...)
		if err != nil {
			for _, ln := range bound {
				ln.Close()
			}
			return fmt.Errorf("service %q: %w", svc.Name, err)
		}
		s.addrs[svc.Name] = lns[0].Addr()
		s.runners[i].bind(lns)
		whose[s.runners[i]] = lns
	}
	s.tellListening(whose)
	gen.OnStatus(s.status)
	return nil
}

func (s *Server) listen(svc *Service) (lns []net.Listener, err error) {
	for _, spec := range svc.Listen {
		a, err := parseAddress(spec)
		if err != nil {
			return lns, err
		}
		ln, err := s.gen.ListenNamed(svc.Name, a.network, a.addr)
		if err != nil {
			return lns, err
		}
		lns = append(lns, ln)
	}
	return append(lns, svc.Listeners...), nil
}

// Ready returns a channel that is closed when this generation acts for the
// service and has told everybody.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is the address of a service's first listener, with the port that was
// chosen for port 0. nil: no service has that name.
func (s *Server) Addr(service string) net.Addr { return s.addrs[service] }

// Upgrader is what the server runs on.
func (s *Server) Upgrader() *upgrader.Upgrader { return s.up }

// Run serves, and returns when this generation has ended: see the function Run.
// ctx done stops the service. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	if s.started.Swap(true) {
		return errors.New("server: Run was called before")
	}
	running.add(s)
	defer running.remove(s)
	err := s.live(ctx)
	for _, r := range s.runners {
		r.finish()
	}
	s.epoch.Load().end()
	if cerr := s.gen.Close(); err == nil && cerr != nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

// live is the time between the first Accept and the end of the last drain.
func (s *Server) live(ctx context.Context) error {
	for i, r := range s.runners {
		r.serve(func(err error) { s.fail(fmt.Errorf("service %q: %w", s.names[i], err)) })
	}
	if err := s.waitStarted(ctx.Done()); err != nil {
		return err
	}
	s.intake.begin(s)
	defer s.intake.end()
	ready := make(chan error, 1)
	go func() { ready <- s.gen.Ready() }()

	stop := ctx.Done()
	var failure error
	for {
		select {
		case err := <-ready:
			if err != nil {
				return s.neverReady(err, failure)
			}
			s.isReady()
		case <-stop:
			stop = nil
			s.gen.Stop()
		case err := <-s.failed:
			s.log.Errorf("%v: stop", err)
			if failure == nil {
				failure = err
			}
			s.gen.Stop()
		case <-s.gen.Exit():
			d := s.gen.Drain()
			if d == nil { // taken back already
				continue
			}
			if resumed := s.drain(d, stop); !resumed {
				return s.verdict(d, failure)
			}
		}
	}
}

// fail ends the service; only the first reason is kept.
func (s *Server) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

func (s *Server) isReady() {
	close(s.ready)
	if s.o.OnReady != nil {
		Go(withServer{context.Background(), s}, s.o.OnReady)
	}
}

// neverReady prefers what made the server stop to the consequence that it
// could not become ready.
func (s *Server) neverReady(err, failure error) error {
	select {
	case <-s.gen.Exit():
		if failure != nil || errors.Is(err, upgrader.ErrStopping) {
			return failure
		}
	default:
	}
	return err
}

// verdict is what Run returns after a drain.
func (s *Server) verdict(d *upgrader.Drain, failure error) error {
	switch {
	case failure != nil:
		return failure
	case d.Reason == upgrader.Crashed:
		return s.crashes.verdict()
	}
	return nil
}
