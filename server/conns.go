package server

import (
	"context"
	"errors"
	"net"
	"runtime/debug"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/gate"
	"github.com/tablecloth-go/tablecloth/internal/handover"
	"github.com/tablecloth-go/tablecloth/internal/live"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// connsRunner is Conns at work.
type connsRunner struct {
	s       *Server
	svc     *Service
	handler func(context.Context, net.Conn)
	table   *table
	lns     []net.Listener
}

func newConns(s *Server, svc *Service, h func(context.Context, net.Conn)) *connsRunner {
	return &connsRunner{s: s, svc: svc, handler: h, table: newTable(svc.Name)}
}

func (r *connsRunner) bind(lns []net.Listener) {
	r.lns = lns
	for _, ln := range lns {
		if g, ok := ln.(*gate.Listener); ok {
			g.Track(func(c net.Conn) net.Conn {
				r.table.add(c, stateActive, false)
				return c
			})
		}
	}
}

func (r *connsRunner) serve(fail func(error)) {
	for _, ln := range r.lns {
		go func() {
			if err := r.acceptAll(ln); !errors.Is(err, net.ErrClosed) {
				fail(err)
			}
		}()
	}
}

const maxAcceptPause = time.Second

// acceptAll goes on after errors that pass, such as EMFILE, as net/http does.
func (r *connsRunner) acceptAll(ln net.Listener) error {
	pause := 5 * time.Millisecond
	for {
		c, err := ln.Accept()
		if err == nil {
			pause = 5 * time.Millisecond
			go r.handle(r.table.add(c, stateActive, false))
			continue
		}
		var ne net.Error
		//lint:ignore SA1019 there is nothing else to ask
		if !errors.As(err, &ne) || !ne.Temporary() {
			return err
		}
		r.s.log.Errorf("%s: %v; again in %v", r.svc.Name, err, pause)
		time.Sleep(pause)
		pause = min(2*pause, maxAcceptPause)
	}
}

func (r *connsRunner) handle(e *conn) {
	defer r.table.remove(e)
	defer e.c.Close()
	defer func() {
		if v := recover(); v != nil {
			r.s.handlerPanic(nil, v, debug.Stack())
		}
	}()
	r.table.requests.Add(1)
	r.handler(withServer{r.s.epoch.Load(), r.s}, e.c)
}

func (r *connsRunner) drain(ctx context.Context, how ending) {
	r.table.wait(ctx) // the handlers have been told
}

func (r *connsRunner) redirect(*handover.Sender) {}

func (r *connsRunner) resume() bool {
	r.table.resume()
	return true
}

func (r *connsRunner) cut() { r.table.cut() }

func (r *connsRunner) finish() {
	for _, ln := range r.lns {
		ln.Close()
	}
}

func (r *connsRunner) target() handover.Target { return nil }

func (r *connsRunner) count(c *control.Conns)    { r.table.count(c) }
func (r *connsRunner) holdouts(h *live.Holdouts) { r.table.holdouts(h) }
