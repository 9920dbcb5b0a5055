// Package server runs the servers of a process as one generation of a service
// which replaces itself: by an upgrade, or when it has crashed. Applications keep
// their own *http.Server, gRPC server or func(ctx, net.Conn), which know nothing
// of all this.
//
//	func main() {
//		web := &http.Server{Addr: ":8080", Handler: app()}
//		err := server.Run(context.Background(), server.Options{PIDFile: "/run/app/app.pid"},
//			server.HTTP("web", web))
//		if err != nil {
//			log.Fatal(err)
//		}
//	}
//
// # Life
//
// Run is New and Server.Run. In this order:
//
//  1. The services are checked. A name that occurs twice, a missing or malformed
//     address, or a certificate that can't be read is an error before anything is
//     bound.
//  2. All addresses are taken over from the generation before, from the service
//     manager, or bound.
//  3. The servers start. Accept waits: until this generation is ready the one
//     before serves, and if a server fails now, it goes on doing so.
//  4. This generation gets ready (Upgrader.Ready), and accepts. The channel Ready is
//     closed, and OnReady called.
//  5. It serves until it is replaced, has crashed and is replaced, or is stopped: by
//     a signal, the control socket, Upgrader.Stop, or because ctx of Run is done. A
//     server whose Serve fails stops the others too.
//  6. It drains, and Run returns: nil after a stop, and after a hand-over; an error
//     that wraps ErrCrashed after a crash, or says why a server failed. main should
//     then exit with a status other than 0. Nothing here calls os.Exit.
//
// # Addresses
//
//	host:port           TCP; an empty host is every address of the machine
//	tcp4:host:port      IPv4 only; tcp6: IPv6 only
//	unix:/path          unix stream socket
//	unix:@name          the same in Linux's abstract name space
//
// Port 0 is any free one; it stays the same over upgrades; Server.Addr tells it. A
// service may have several addresses, and a process several services.
//
// # Drain
//
// KillTimeout bounds the drain of a generation that was replaced, StopTimeout that
// of a stop, which goes on accepting for StopDelay first.
//
//  1. Nothing is accepted any more by this generation. The listening sockets stay
//     open: connects go to the next one.
//  2. OnDrain is called, and channels of Draining are closed: the time for streams
//     and websockets to come to an end.
//  3. HTTP/1 connections without TLS move to the next generation, those between
//     two requests at once, the others after their answer. Their clients don't
//     notice. Service.Handover switches that off.
//  4. Connections that can't move (TLS, HTTP/2, wrapped listeners; all of them at a
//     stop) are told "Connection: close" with their next answer, and closed when
//     they have been idle for IdleGrace; at a stop at once, but for those that were
//     accepted less than a second ago. HTTP/2 connections get a GOAWAY without
//     waiting for HTTP/1. Hijacked connections are waited for.
//  5. Conns handlers have a ctx that is done; GRPC servers stop gracefully.
//  6. At the timeout those who hold on are logged, at most 16 of them, and
//     everything is cut.
//
// If the next generation dies while this one drains, this one serves again. What
// was shut down for good by then (GRPC, Custom) makes it start another successor.
//
// # Crashes
//
// A panic in a handler is answered with a 500 if nothing of the answer was sent,
// else the connection is cut, as by net/http. It is logged, counted, told to
// OnCrash, and the process lives. http.ErrAbortHandler cuts and is no panic.
// IgnorePanic and ReplaceOnPanic change what it leads to. Handlers should start
// their goroutines with Go: without it a panic in one of them ends the process at
// once.
//
// A panic in such a goroutine, or with ReplaceOnPanic in a handler, is a crash: the
// request that it belongs to is answered with a 500, a successor is started, and
// when that is ready this generation drains. Other requests don't notice. ServeHTTP
// returns to net/http when the request's goroutines have ended, so that there is
// somebody to answer for. If the handler itself doesn't return, the 500 is sent 20
// ms after the panic, the connection closed, and the request's context cancelled.
// (On HTTP/2 such an answer is complete when the handler has returned.)
//
// The 500 says "Connection: close" only if the connection can't be used further:
// because the handler hangs, or a request body was left unread that is too long to
// skip. A hijacked connection is the application's own: nobody answers on it.
//
// A panic that a middleware of the application recovers from is no crash: it may
// call Upgrader.Crash.
//
// # What applications see
//
// The Handler of an HTTP service gets a ResponseWriter with the interfaces of
// net/http's own: Flusher, Hijacker, io.ReaderFrom (files are sent by sendfile(2)),
// io.StringWriter, CloseNotifier; Flusher and Pusher on HTTP/2;
// http.ResponseController works. Its header map is the request's own, and passed on
// when the status is. http.ServerContextKey leads to the application's own
// http.Server. A net.Conn in ConnState, ConnContext or from Hijack has a method
// NetConn that returns the *net.TCPConn, *net.UnixConn or *tls.Conn.
//
// What a connection loses when it moves: values of ConnContext are made anew, and
// whatever the process remembered by connection is gone.
//
// # Tests
//
// With Options.Upgrader = upgrader.Plain() a server forks nothing and listens to no
// signals, any number of them in one process.
package server
