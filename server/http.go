package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"reflect"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/gate"
	"github.com/tablecloth-go/tablecloth/internal/handover"
	"github.com/tablecloth-go/tablecloth/internal/live"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// httpRunner is HTTP or HTTPS at work.
type httpRunner struct {
	s       *Server
	svc     *Service
	user    *http.Server
	handler http.Handler
	tls     bool

	http2  *http.Server // sends GOAWAY, see http2Owner; may be nil
	moving *http.Server // serves what comes through gates, which live knows
	live   *live.Table
	ledger live.Ledger  // nil: nobody rescues connections
	pinned *http.Server // serves what comes through wrapped listeners
	table  *table       // of pinned's, and of HTTP/2 and hijacked connections

	gates   []*gate.Listener
	wrapped []net.Listener
	closing sync.Once

	another another // sender
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
		if err := loadCertificate(pattern, cert, key); err != nil {
			return nil, err
		}
	}
	h.tls = hasCertificates(pattern.TLSConfig)
	if _, ok := hs.TLSNextProto["h2"]; ok {
		h.http2 = hs // with whose Shutdown that implementation has registered
	} else {
		h.http2 = http2Owner(pattern)
	}
	if h.http2 != nil {
		pattern.TLSNextProto = h.watchHTTP2(h.http2.TLSNextProto)
	}
	pattern.Handler = h
	h.moving, h.pinned = clone(pattern), clone(pattern)
	h.moving.ConnContext, h.pinned.ConnContext = h.connContext, h.connContext
	return h, nil
}

func loadCertificate(hs *http.Server, cert, key string) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return err
	}
	if hs.TLSConfig == nil {
		hs.TLSConfig = new(tls.Config)
	}
	hs.TLSConfig.Certificates = []tls.Certificate{pair}
	return nil
}

func (h *httpRunner) bind(lns []net.Listener) {
	h.live = live.New(live.Config{
		Name:        h.svc.Name,
		Log:         h.s.log,
		IdleTimeout: cmp.Or(h.user.IdleTimeout, h.user.ReadTimeout),
		HeadTimeout: cmp.Or(h.user.ReadHeaderTimeout, h.user.ReadTimeout),
		Move:        h.svc.Handover == Auto && !h.tls,
		Ledger:      h.ledger,
	})
	for _, ln := range lns {
		if g, ok := ln.(*gate.Listener); ok {
			h.gates = append(h.gates, g)
		} else {
			h.wrapped = append(h.wrapped, ln)
		}
	}
}

func (h *httpRunner) serve(fail func(error)) {
	h.moving.ConnState = tracker(h.live, h.table, h.user.ConnState)
	h.pinned.ConnState = then(h.table.track, h.user.ConnState)
	for _, g := range h.gates {
		go h.serveOne(h.moving, h.s.starting(h.live.Wrap(g)), h.tls, fail)
	}
	if !h.tls {
		go h.serveOne(h.moving, h.live.Injected(), false, fail)
	}
	for _, ln := range h.wrapped {
		go h.serveOne(h.pinned, h.s.starting(ln), h.tls && reflect.TypeOf(ln) != tlsListener, fail)
	}
}

var tlsListener = reflect.TypeOf(tls.NewListener(nil, nil))

func (h *httpRunner) serveOne(hs *http.Server, ln net.Listener, secure bool, fail func(error)) {
	serve := hs.Serve
	if secure {
		serve = func(ln net.Listener) error { return hs.ServeTLS(ln, "", "") }
	}
	if err := serve(ln); !errors.Is(err, http.ErrServerClosed) {
		fail(err)
	}
}

// watchHTTP2 puts connections into the table for as long as they speak HTTP/2.
func (h *httpRunner) watchHTTP2(protos map[string]func(*http.Server, *tls.Conn, http.Handler)) map[string]func(*http.Server, *tls.Conn, http.Handler) {
	watched := make(map[string]func(*http.Server, *tls.Conn, http.Handler), len(protos))
	for name, serve := range protos {
		watched[name] = func(hs *http.Server, c *tls.Conn, handler http.Handler) {
			e := h.table.add(c, stateHTTP2, true)
			defer h.table.remove(e)
			serve(hs, c, handler)
		}
	}
	return watched
}

// tracker is the ConnState of connections that live knows; t knows them as well
// while they speak HTTP/2. It has at hand what it needs at each request.
func tracker(l *live.Table, t *table, user func(net.Conn, http.ConnState)) func(net.Conn, http.ConnState) {
	return then(func(c net.Conn, s http.ConnState) {
		if plain := l.State(c, s); !plain && (s == http.StateActive || s == http.StateIdle) {
			t.setHTTP2(c, s)
		}
	}, user)
}

// then calls f, and the application's own hook if there is one.
func then(f, user func(net.Conn, http.ConnState)) func(net.Conn, http.ConnState) {
	if user == nil {
		return f
	}
	return func(c net.Conn, s http.ConnState) {
		f(c, s)
		user(c, s)
	}
}

// ServeHTTP is the outermost handler.
func (h *httpRunner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &request{
		conn: h.connectionOf(r.Context()), w: w, r: r, ctx: r.Context(),
		told: live.Request{Method: r.Method, URI: r.RequestURI}, host: r.Host,
		http2: r.ProtoMajor == 2, minor: byte(r.ProtoMinor),
	}
	defer h.end(x)
	if x.http2 || h.s.goes.Load() {
		r = x.own()
	}
	if x.http2 {
		h.table.requests.Add(1)
	} else {
		x.conn.live.Note(&x.told)
		x.conn.now.Store(x)
	}
	h.handler.ServeHTTP(x.writer(), r)
}

// end is deferred by ServeHTTP, so that it sees a panic.
func (h *httpRunner) end(x *request) {
	v := recover()
	switch {
	case v == http.ErrAbortHandler:
		x.abort()
	case v != nil:
		stack := debug.Stack()
		x.spoil()
		h.s.handlerPanic(snapshot(x), v, stack)
	}
	abort := x.finish()
	x.conn.now.Store(nil)
	if x.found {
		x.disown()
	}
	if abort {
		panic(http.ErrAbortHandler)
	}
}

// snapshot is a request that has left its handler, for hooks.
func snapshot(x *request) *http.Request {
	s := x.sketch()
	s.Header = x.r.Header.Clone()
	return s
}

func (h *httpRunner) drain(ctx context.Context, how ending) {
	h.goAway()
	h.table.begin(h.grace(how))
	err := h.drainMoving(ctx, how)
	how.moved()
	if err == nil && len(h.wrapped) > 0 {
		pause(ctx, settle) // what those have accepted is seen a little later
	}
	// A connection that turns from HTTP/1 to something else passes from one
	// table to the other: live's counts both.
	for err == nil {
		err = h.table.wait(ctx)
		if h.live.Counts().Open == 0 {
			return
		}
		pause(ctx, time.Millisecond)
	}
}

// grace is how long connections that can't move may be idle.
func (h *httpRunner) grace(how ending) time.Duration {
	if how.stopping {
		return 0
	}
	return h.s.o.IdleGrace
}

// drainMoving begins again whenever there is another sender.
func (h *httpRunner) drainMoving(ctx context.Context, how ending) error {
	o := live.DrainOptions{Sender: how.sender, Arrived: how.arrived, IdleGrace: h.grace(how), FreshGrace: freshGrace, Stopping: how.stopping}
	for {
		attempt, to := h.another.begin(ctx)
		if to != nil {
			o.Sender = to
		}
		err := h.live.Drain(attempt, o)
		if ctx.Err() != nil || !h.another.waits() {
			return err
		}
	}
}

func (h *httpRunner) redirect(to *handover.Sender) { h.another.offer(to) }

// another is the sender that a drain is to go on with.
type another struct {
	mu     sync.Mutex
	to     *handover.Sender // nil: the drain has the last one
	cancel context.CancelFunc
}

// begin returns a context that ends when there is another sender, and the newest
// one; nil: it is the one of before.
func (a *another) begin(ctx context.Context) (context.Context, *handover.Sender) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cancel != nil {
		a.cancel()
	}
	ctx, a.cancel = context.WithCancel(ctx)
	to := a.to
	a.to = nil
	return ctx, to
}

func (a *another) offer(to *handover.Sender) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.to = to
	if a.cancel != nil {
		a.cancel()
	}
}

func (a *another) waits() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.to != nil
}

// goAway ends HTTP/2 connections when their requests are answered. The server it
// calls has no connections, so that this doesn't block.
func (h *httpRunner) goAway() {
	switch h.http2 {
	case nil:
	case h.user:
		h.shutUser()
	default:
		h.http2.Shutdown(context.Background())
	}
}

// shutUser runs what the application has given to RegisterOnShutdown.
func (h *httpRunner) shutUser() {
	h.closing.Do(func() { h.user.Shutdown(context.Background()) })
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (h *httpRunner) resume() bool {
	h.table.resume()
	h.live.Resume()
	return true
}

func (h *httpRunner) cut() {
	h.live.Cut()
	h.table.cut()
	h.finish()
}

func (h *httpRunner) finish() {
	h.shutUser()
	h.moving.Close()
	h.pinned.Close()
}

func (h *httpRunner) target() handover.Target {
	if moves, _ := h.live.Moves(); !moves {
		return nil
	}
	return h.live
}

func (h *httpRunner) count(c *control.Conns) {
	n := h.live.Counts()
	c.Add(&n)
	h.table.count(c)
}

func (h *httpRunner) holdouts(to *live.Holdouts) {
	h.live.Holdouts(to)
	h.table.holdouts(to)
}
