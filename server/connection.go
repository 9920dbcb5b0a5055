package server

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/tablecloth-go/tablecloth/internal/live"
)

// connection is what the requests on one connection have in common, and a part of
// their contexts: so it costs no request anything.
type connection struct {
	context.Context
	h    *httpRunner
	nc   net.Conn // as net/http has it; nil: it isn't known
	live live.Handle
	now  atomic.Pointer[request] // on HTTP/1, which serves one at a time
}

type connectionKey struct{} // *connection

// Value finds the connection, and its server, from a request's context.
func (c *connection) Value(key any) any {
	switch key.(type) {
	case connectionKey:
		return c
	case serverKey:
		return c.h.s
	}
	return c.Context.Value(key)
}

// connContext is an http.Server's ConnContext. The application finds its own
// http.Server in it.
func (h *httpRunner) connContext(ctx context.Context, nc net.Conn) context.Context {
	ctx = context.WithValue(ctx, http.ServerContextKey, h.user)
	if h.user.ConnContext != nil {
		ctx = h.user.ConnContext(ctx, nc)
	}
	return &connection{Context: ctx, h: h, nc: nc, live: live.Of(nc)}
}

// connectionOf never returns nil: a protocol of the application's (TLSNextProto)
// may have contexts that lead nowhere.
func (h *httpRunner) connectionOf(ctx context.Context) *connection {
	if c, ok := ctx.Value(connectionKey{}).(*connection); ok {
		return c
	}
	return &connection{Context: ctx, h: h}
}

func (c *connection) peer() string {
	if c.nc == nil {
		return ""
	}
	return peer(c.nc)
}

// requestContext leads to its request.
type requestContext struct {
	context.Context
	x *request
}

type requestKey struct{} // *request

// Value implements context.Context.
func (c *requestContext) Value(key any) any {
	if key == (requestKey{}) {
		return c.x
	}
	return c.Context.Value(key)
}

// requestOf finds the request that ctx belongs to; nil: none, or it has ended, or
// ctx is to outlive it (context.WithoutCancel).
//
// A context of its own, and so a copy of http.Request, would be most of what a
// Server costs a request. On HTTP/1 none gets them before the first call of Go.
// Those under way at that moment are found by their connection, which serves one
// at a time: what was kept of earlier ones has ended. (Except for a context with an
// end of its own on one without: before that first call it passes for one of the
// connection's request.)
func requestOf(ctx context.Context) *request {
	if ctx.Done() == nil {
		return nil
	}
	if x, ok := ctx.Value(requestKey{}).(*request); ok {
		return x
	}
	c, ok := ctx.Value(connectionKey{}).(*connection)
	if !ok {
		return nil
	}
	c.h.s.goes.Store(true)
	if x := c.now.Load(); x != nil && !x.found && ctx.Err() == nil {
		return x
	}
	return nil
}
