package server

import (
	"context"
	"net"
	"net/http"

	"github.com/tablecloth-go/tablecloth/internal/live"
)

// connection is what the requests on one connection have in common, and a part of
// their contexts: so it costs no request anything.
type connection struct {
	context.Context
	h    *httpRunner
	nc   net.Conn // as net/http has it; nil: it isn't known
	live live.Handle
}

type connectionKey struct{} // *connection

// Value finds the connection, and its server, from a request's context.
func (c *connection) Value(key any) any {
	switch key {
	case connectionKey{}:
		return c
	case serverKey{}:
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
	return &connection{ctx, h, nc, live.Of(nc)}
}

// connectionOf never returns nil: a protocol of the application's (TLSNextProto)
// may have contexts that lead nowhere.
func (h *httpRunner) connectionOf(ctx context.Context) *connection {
	if c, ok := ctx.Value(connectionKey{}).(*connection); ok {
		return c
	}
	return &connection{Context: ctx, h: h}
}
