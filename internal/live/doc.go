// Package live knows every HTTP/1 connection of one http.Server, and lets them
// outlive their process: at a drain they go on in the next generation, between
// two requests, and the client can't tell.
//
// # How a connection leaves net/http
//
// Each accepted connection is wrapped before net/http sees it. Between two
// requests, and before the first, exactly one goroutine touches a connection:
// net/http's own for it, blocked in Read. Only there a connection is detached:
// a deadline in the past wakes the goroutine, which finds out that nothing of a
// request has been processed, gives the socket away with the bytes of the next
// request's head that it may have read already, and tells net/http that its read
// timed out. net/http closes silently; that Close is swallowed. Of thousands of
// connections only some are woken at a time, so that requests have their turn.
//
// What net/http keeps in its own buffer is known without parsing HTTP: its
// bufio.Reader offers the free part of its buffer to Read, so the part that is
// missing holds unprocessed bytes, which are the last that were delivered.
// SelfTest tries these assumptions out on a real http.Server; where they don't
// hold, nothing moves and connections drain in the usual way.
//
// # How a connection arrives
//
// A connection without a request under way is parked: a descriptor in an epoll
// set and a few bytes of memory. When its client talks it is wrapped and given to
// the http.Server by a second listener.
package live
