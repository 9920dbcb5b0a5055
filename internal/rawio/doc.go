// Package rawio reads from and writes to a socket that Go's runtime polls, by system
// calls that its scheduler isn't told of.
//
// net tells the scheduler before each read(2) and write(2), as those of a file may
// wait; then another thread can have the processor's share (P) meanwhile. On a socket
// they never wait: the runtime's poller does. Telling is cheap by itself (90 ns of 350).
// But when all of a program has been idle, the first such word also wakes the
// scheduler's monitor, the thread sysmon, which looks around every 20 µs, finds
// nothing, and goes to sleep again as soon as the request is answered. For a server
// that isn't saturated this is most of what Go adds to a request: a fifth of the
// processor time of net/http, in this project's steady load.
//
// The monitor is needed: it interrupts a goroutine that computes for more than 10 ms,
// and polls the network when all others are busy. If nobody woke it, one request could
// keep all others waiting, with GOMAXPROCS=1 until it is answered. It also wakes when
// a timer expires. So while there is traffic a timer expires every 10 ms (a watch), and
// only then the scheduler isn't told. A program that computes is noticed 10 ms later
// than it would be; otherwise nothing changes. Where there is little traffic there is
// no timer, and each call is net's own.
//
// The calls have MSG_DONTWAIT: a socket that another process has made a blocking one
// doesn't keep a P either. Where they are refused, by a seccomp filter for one, net's
// are made instead.
//
// It needs Linux; elsewhere, and in a build for the race detector, which takes net's calls
// for synchronization, everything is net's.
package rawio

import (
	"net"
	"syscall"
)

// Socket is what *net.TCPConn and *net.UnixConn have in common.
type Socket interface {
	net.Conn
	syscall.Conn
}
