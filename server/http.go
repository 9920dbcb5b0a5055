package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/gate"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// httpRunner is HTTP or HTTPS at work.
type httpRunner struct {
	s       *Server
	svc     *Service
	user    *http.Server
	handler http.Handler
	tls     bool

	http2  *http.Server // see http2Owner; may be nil
	pinned *http.Server // serves what can't move
	table  *table       // of pinned's connections
	lns    []net.Listener
}

func newHTTP(s *Server, svc *Service, hs *http.Server, cert, key string) (runner, error) {
	if hs == nil {
		return nil, errors.New("no http.Server given")
	}
	h := &httpRunner{s: s, svc: svc, user: hs, handler: hs.Handler, table: newTable(svc.Name)}
	if h.handler == nil {
		h.handler = http.DefaultServeMux
	}
	pattern := clone(hs)
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		if pattern.TLSConfig == nil {
			pattern.TLSConfig = new(tls.Config)
		}
		pattern.TLSConfig.Certificates = []tls.Certificate{pair}
	}
	h.tls = hasCertificates(pattern.TLSConfig)
	if _, ok := hs.TLSNextProto["h2"]; ok {
		h.http2 = hs // with whose Shutdown that implementation has registered
	} else if h.http2 = http2Owner(pattern); h.http2 != nil {
		pattern.TLSNextProto = h.http2.TLSNextProto
	}
	h.pinned = pattern
	h.pinned.Handler = h
	h.pinned.ConnState = h.track
	h.pinned.ConnContext = h.connContext
	return h, nil
}

func (h *httpRunner) bind(lns []net.Listener) {
	for _, ln := range lns {
		if g, ok := ln.(*gate.Listener); ok {
			g.Track(h.table.accept)
		}
	}
	h.lns = lns
}

var tlsListener = reflect.TypeOf(tls.NewListener(nil, nil))

func (h *httpRunner) serve(fail func(error)) {
	for _, ln := range h.lns {
		go func() {
			var err error
			if h.tls && reflect.TypeOf(ln) != tlsListener {
				err = h.pinned.ServeTLS(ln, "", "")
			} else {
				err = h.pinned.Serve(ln)
			}
			if !errors.Is(err, http.ErrServerClosed) {
				fail(err)
			}
		}()
	}
}

func (h *httpRunner) track(c net.Conn, s http.ConnState) {
	h.table.track(c, s)
	if h.user.ConnState != nil {
		h.user.ConnState(c, s)
	}
}

// connKey is the context key of a *conn.
type connKey struct{}

func (h *httpRunner) connContext(ctx context.Context, c net.Conn) context.Context {
	ctx = context.WithValue(ctx, http.ServerContextKey, h.user)
	if h.user.ConnContext != nil {
		ctx = h.user.ConnContext(ctx, c)
	}
	return context.WithValue(ctx, connKey{}, h.table.find(c))
}

// ServeHTTP is the outermost handler.
func (h *httpRunner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &request{Context: r.Context(), h: h, w: w, r: r}
	x.conn, _ = x.Context.Value(connKey{}).(*conn)
	if r.ProtoMajor == 2 {
		x.Context, x.cancel = context.WithCancel(x.Context)
	} else if x.conn != nil {
		x.conn.request.Store(x)
	}
	copied := r.WithContext(x)
	defer h.end(x, copied)
	h.handler.ServeHTTP(x.writer(), copied)
}

// end is deferred by ServeHTTP, so that it sees a panic.
func (h *httpRunner) end(x *request, copied *http.Request) {
	v := recover()
	switch {
	case v == http.ErrAbortHandler:
		x.abort()
	case v != nil:
		stack := debug.Stack()
		x.spoil()
		h.s.handlerPanic(snapshot(x, copied), v, stack)
	}
	abort := x.finish()
	if x.cancel != nil {
		x.cancel()
	}
	x.r.MultipartForm = copied.MultipartForm // net/http removes its files
	if abort {
		panic(http.ErrAbortHandler)
	}
}

// snapshot is a request that has left its handler, for hooks.
func snapshot(x *request, r *http.Request) *http.Request {
	s := x.sketch()
	s.Header = r.Header.Clone()
	return s
}

// mayMove reports whether the request's connection can go to the next
// generation.
func (h *httpRunner) mayMove(*request) bool { return false }

func (h *httpRunner) drain(ctx context.Context, how ending) {
	idle := h.s.o.IdleGrace
	if how.stopping {
		idle = 0
	}
	h.goAway()
	if h.wrapped() {
		// What such a listener has accepted is seen a little later.
		select {
		case <-time.After(settle):
		case <-ctx.Done():
		}
	}
	h.table.drain(ctx, idle)
}

// goAway ends HTTP/2 connections after their requests in flight.
func (h *httpRunner) goAway() {
	if h.http2 != nil {
		h.http2.Shutdown(context.Background()) // has no connections: doesn't block
	}
}

func (h *httpRunner) wrapped() bool {
	for _, ln := range h.lns {
		if _, ok := ln.(*gate.Listener); !ok {
			return true
		}
	}
	return false
}

func (h *httpRunner) resume() bool {
	h.table.resume()
	return true
}

func (h *httpRunner) cut() {
	h.pinned.Close()
	h.table.cut()
}

func (h *httpRunner) finish() {
	h.user.Shutdown(context.Background())
	h.pinned.Close()
}

func (h *httpRunner) count(c *control.Conns)   { h.table.count(c) }
func (h *httpRunner) holdouts() []control.Conn { return h.table.holdouts() }
