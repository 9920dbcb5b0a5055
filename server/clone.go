package server

import (
	"errors"
	"net"
	"net/http"
)

// clone is another http.Server with the same settings. Neither its state nor
// what was given to RegisterOnShutdown goes along.
func clone(hs *http.Server) *http.Server {
	c := &http.Server{
		Addr:                         hs.Addr,
		Handler:                      hs.Handler,
		DisableGeneralOptionsHandler: hs.DisableGeneralOptionsHandler,
		ReadTimeout:                  hs.ReadTimeout,
		ReadHeaderTimeout:            hs.ReadHeaderTimeout,
		WriteTimeout:                 hs.WriteTimeout,
		IdleTimeout:                  hs.IdleTimeout,
		MaxHeaderBytes:               hs.MaxHeaderBytes,
		TLSNextProto:                 hs.TLSNextProto,
		ConnState:                    hs.ConnState,
		ErrorLog:                     hs.ErrorLog,
		BaseContext:                  hs.BaseContext,
		ConnContext:                  hs.ConnContext,
		HTTP2:                        hs.HTTP2,
		Protocols:                    hs.Protocols,
	}
	if hs.TLSConfig != nil {
		c.TLSConfig = hs.TLSConfig.Clone()
	}
	return c
}

// http2Owner returns the http.Server whose Shutdown sends GOAWAY on all HTTP/2
// connections of servers which have its TLSNextProto, and does nothing else:
// it has no connections of its own. That of a server with HTTP/1 connections
// loses requests. nil: HTTP/2 is off, or comes from elsewhere.
func http2Owner(hs *http.Server) *http.Server {
	if hs.TLSNextProto != nil { // off, or golang.org/x/net/http2.ConfigureServer
		return nil
	}
	owner := clone(hs)
	if owner.TLSConfig != nil {
		owner.TLSConfig.NextProtos = append(owner.TLSConfig.NextProtos[:len(owner.TLSConfig.NextProtos):len(owner.TLSConfig.NextProtos)], "h2")
	}
	owner.Serve(noListener{}) // configures HTTP/2, then fails
	if owner.TLSNextProto == nil {
		return nil
	}
	return owner
}

// noListener has nothing to accept.
type noListener struct{}

func (noListener) Accept() (net.Conn, error) { return nil, errors.New("no listener") }
func (noListener) Close() error              { return nil }
func (noListener) Addr() net.Addr            { return &net.TCPAddr{} }
