// Package rawio reads from and writes to a socket that Go's runtime polls, by system
// calls that its scheduler isn't told of.
//
// net tells the scheduler before each read(2) and write(2), as those of a file may
// wait; then another thread can have the processor's share (P) meanwhile. On a socket
// they never wait: the runtime's poller does. Telling is cheap by itself (90 ns of 350).
// But where all of a program was idle, the first such word also wakes the scheduler's
// monitor, the thread sysmon, which looks around every 20 µs and falls asleep again
// when the request is answered. For a server that isn't saturated this is most of what
// Go itself adds to a request: a fifth of net/http's processor time, in this project's
// steady load.
//
// The monitor is needed: it interrupts a goroutine that computes for more than 10 ms,
// and polls the network when all processors are taken. If nobody woke it, one request
// could keep all others waiting, with GOMAXPROCS=1 until it is answered. It also wakes
// when a timer expires. So while there is much traffic a timer expires every 20 ms (see
// watch), and only then the scheduler isn't told. A goroutine that computes is noticed
// so much later than it would be, at most; otherwise nothing changes. With less traffic
// there is no timer, and each call is net's own.
//
// The calls have MSG_DONTWAIT: a socket that another process has made a blocking one
// doesn't keep a P either. Where they are refused, by a seccomp filter for one, net's
// are made instead.
//
// All this is Linux's. Elsewhere, and in a build for the race detector, for which net's
// calls synchronize, every call is net's.
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
