package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/gate"
	"github.com/tablecloth-go/tablecloth/internal/handover"
	"github.com/tablecloth-go/tablecloth/internal/live"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// graceful is GRPC or Custom at work: a server that accepts and ends by itself.
type graceful struct {
	s        *Server
	svc      *Service
	serveOne func(net.Listener) error
	end      func(context.Context) error
	stop     func() // nil: end, without time

	lns    []*shielded
	ending atomic.Bool // serve may return
	once   sync.Once   // end is called
	since  atomic.Int64
	done   chan struct{} // end has returned

	patient context.Context // of end
	giveUp  context.CancelFunc
}

func newGraceful(s *Server, svc *Service, serve func(net.Listener) error, end func(context.Context) error, stop func()) *graceful {
	g := &graceful{s: s, svc: svc, serveOne: serve, end: end, stop: stop, done: make(chan struct{})}
	g.patient, g.giveUp = context.WithCancel(context.Background())
	return g
}

func (g *graceful) bind(lns []net.Listener) {
	for _, ln := range lns {
		g.lns = append(g.lns, shield(ln))
	}
}

func (g *graceful) serve(fail func(error)) {
	for _, ln := range g.lns {
		begun := g.s.starting(ln)
		go func() {
			err := g.serveOne(begun)
			if g.ending.Load() {
				return
			}
			if err == nil {
				err = errors.New("returned though nobody asked it to")
			}
			fail(fmt.Errorf("serve: %w", err))
		}()
	}
}

func (g *graceful) drain(ctx context.Context, _ ending) {
	g.ending.Store(true)
	g.once.Do(g.beginEnd)
	select {
	case <-g.done:
	case <-ctx.Done():
	}
}

// beginEnd calls end, which goes on if the drain is taken back.
func (g *graceful) beginEnd() {
	g.since.Store(time.Now().UnixNano())
	go func() {
		defer close(g.done)
		g.end(g.patient)
	}()
}

// resume shuts the gates again, whose connections nobody would serve.
func (g *graceful) redirect(*handover.Sender) {}

func (g *graceful) resume() bool {
	for _, ln := range g.lns {
		if gl, ok := ln.Listener.(*gate.Listener); ok {
			gl.Shut()
		}
	}
	return false
}

func (g *graceful) cut() {
	g.giveUp()
	if g.stop != nil {
		g.stop()
	}
}

func (g *graceful) finish() {
	g.ending.Store(true)
	g.once.Do(g.abandon) // without a drain
	for _, ln := range g.lns {
		ln.Close()
		ln.Listener.Close()
	}
}

// abandon ends what has never served for long.
func (g *graceful) abandon() {
	if g.stop != nil {
		g.stop()
		return
	}
	g.giveUp()
	g.end(g.patient)
}

func (g *graceful) target() handover.Target { return nil }

func (g *graceful) count(*control.Conns) {}

func (g *graceful) holdouts(h *live.Holdouts) {
	since := g.since.Load()
	select {
	case <-g.done:
		return
	default:
	}
	if since == 0 {
		return
	}
	c := control.Conn{Service: g.svc.Name, State: stateActive, Since: time.Unix(0, since), Request: "graceful stop"}
	if h.Count(c.Since) {
		h.Add(c)
	}
}

// shielded is a listener whose Close ends Accept, but leaves the socket to the
// generations to come.
type shielded struct {
	net.Listener
	once     sync.Once
	done     chan struct{}
	accepted chan acceptance
	start    sync.Once
}

type acceptance struct {
	c   net.Conn
	err error
}

func shield(ln net.Listener) *shielded {
	return &shielded{Listener: ln, done: make(chan struct{}), accepted: make(chan acceptance)}
}

// Accept returns what pump has accepted, as an Accept that waits at a gate
// can't be interrupted.
func (l *shielded) Accept() (net.Conn, error) {
	l.start.Do(func() { go l.pump() })
	select {
	case a := <-l.accepted:
		return a.c, a.err
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: l.Addr().Network(), Addr: l.Addr(), Err: net.ErrClosed}
	}
}

func (l *shielded) pump() {
	for {
		c, err := l.Listener.Accept()
		select {
		case l.accepted <- acceptance{c, err}:
		case <-l.done:
			if err == nil {
				c.Close()
			}
			return
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// Close ends Accept.
func (l *shielded) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}
