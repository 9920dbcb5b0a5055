package server

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/tablecloth-go/tablecloth/upgrader"
)

type serverKey struct{} // *Server, in contexts

// withServer is a context that leads to its server.
type withServer struct {
	context.Context
	s *Server
}

func (c withServer) Value(key any) any {
	if key == (serverKey{}) {
		return c.s
	}
	return c.Context.Value(key)
}

// Draining returns a channel that is closed when the drain of this generation
// starts: the time for server-sent events, long polls and websockets to come to
// an end. ctx is that of a request, of Conns or of OnDrain, or made from one;
// of any other the channel is nil. If the successor dies and this generation
// serves again, the next call returns another channel.
func Draining(ctx context.Context) <-chan struct{} {
	s, _ := ctx.Value(serverKey{}).(*Server)
	if s == nil {
		return nil
	}
	return s.epoch.Load().Done()
}

// Go runs f in a goroutine. A panic in it is a crash: the process is replaced
// (a successor is started, then this generation drains and Run returns
// ErrCrashed), and the request that ctx belongs to gets a 500 if nothing of its
// answer was sent, else it is cut. Other requests don't notice.
//
// The request's ServeHTTP returns to net/http only when f has: work that is to
// outlive the request must be given another ctx, which belongs to none
// (context.WithoutCancel, context.Background, or that of Conns); then a panic is a
// crash all the same.
// http.ErrAbortHandler cuts the request and is no crash. Where no Server runs
// in this process, Go is a plain go statement.
func Go(ctx context.Context, f func()) {
	x := requestOf(ctx)
	s, _ := ctx.Value(serverKey{}).(*Server)
	if s == nil {
		s = running.last()
	}
	if s == nil {
		go f()
		return
	}
	if !x.join() { // there is none, or its answer is complete
		x = nil
	}
	go func() {
		defer func() {
			v := recover()
			switch {
			case v == nil:
			case v == http.ErrAbortHandler:
				x.abort()
			default:
				x.spoil() // before the handler writes on
				s.crash(x, v, debug.Stack())
			}
			x.leave()
		}()
		f()
	}()
}

// crash is a panic in Go.
func (s *Server) crash(x *request, v any, stack []byte) {
	var r *http.Request
	if x != nil {
		s.panics.Add(1)
		r = x.sketch()
	}
	if s.ignored(v) {
		s.log.Errorf("panic (ignored)%s: %v\n%s", of(r), v, stack)
		return
	}
	s.crashed(r, v, stack)
}

// crashed has the process replaced.
func (s *Server) crashed(r *http.Request, v any, stack []byte) {
	c := Crash{Err: panicError(v), Value: v, Stack: stack, Request: r}
	c.Count = s.crashes.add(c.Err)
	s.log.Errorf("panic%s: %v\n%s", of(r), v, stack) // the Upgrader tells that it is a crash
	s.gen.Crash(&upgrader.CrashError{Err: c.Err, Value: v, Stack: stack, Request: r})
	// An Upgrader that New made tells the hook itself.
	if s.o.Upgrader != nil && c.Count == 1 {
		s.tell(c)
	}
}

// handlerPanic is a panic in a handler of HTTP or Conns, which has been, or
// will be, answered.
func (s *Server) handlerPanic(r *http.Request, v any, stack []byte) {
	n := s.panics.Add(1)
	switch {
	case s.ignored(v):
		s.log.Errorf("panic (ignored)%s: %v\n%s", of(r), v, stack)
	case s.o.ReplaceOnPanic:
		s.crashed(r, v, stack)
	default:
		s.log.Errorf("panic %d%s: %v\n%s", n, of(r), v, stack)
		s.tell(Crash{Err: panicError(v), Value: v, Stack: stack, Count: int(n), Request: r})
	}
}

// tell calls OnCrash beside everything else.
func (s *Server) tell(c Crash) {
	if s.o.OnCrash == nil {
		return
	}
	s.hooks.run(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.o.KillTimeout)
		defer cancel()
		defer s.contain("OnCrash")
		s.o.OnCrash(ctx, c)
	})
}

// ignored asks the application, whose answer may be a panic too.
func (s *Server) ignored(v any) (yes bool) {
	if s.o.IgnorePanic == nil {
		return false
	}
	defer s.contain("IgnorePanic")
	return s.o.IgnorePanic(v)
}

// contain is deferred around functions of the application.
func (s *Server) contain(what string) {
	if v := recover(); v != nil {
		s.log.Errorf("panic in %s: %v\n%s", what, v, debug.Stack())
	}
}

func of(r *http.Request) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf(" (%s %s from %s)", r.Method, r.RequestURI, r.RemoteAddr)
}

func panicError(v any) error {
	if err, ok := v.(error); ok {
		return fmt.Errorf("panic: %w", err)
	}
	return fmt.Errorf("panic: %v", v)
}

// crashes counts those of this generation, and keeps the first.
type crashes struct {
	mu    sync.Mutex
	n     int
	first error
}

func (c *crashes) add(err error) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n++; c.n == 1 {
		c.first = err
	}
	return c.n
}

func (c *crashes) verdict() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil { // by Upgrader.Crash or Upgrader.Go
		return ErrCrashed
	}
	return fmt.Errorf("%w: %w", ErrCrashed, c.first)
}

// running knows the servers of this process, for a Go whose ctx belongs to none.
var running registry

type registry struct {
	mu  sync.Mutex
	all []*Server
}

func (g *registry) add(s *Server) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = append(g.all, s)
}

func (g *registry) remove(s *Server) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = slices.DeleteFunc(g.all, func(o *Server) bool { return o == s })
}

// last is the one that was started last.
func (g *registry) last() *Server {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.all) == 0 {
		return nil
	}
	return g.all[len(g.all)-1]
}
