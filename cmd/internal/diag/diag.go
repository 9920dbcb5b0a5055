// Package diag looks at a process from outside: at its TCP connections, its
// descriptors, and what it is doing.
package diag

import (
	"net/netip"
	"time"
)

// Socket is a TCP socket of this network namespace.
type Socket struct {
	Local, Peer netip.AddrPort
	Listening   bool
	Established bool
	Inode       uint64
	// Waiting are the connections that nobody has accepted yet of one that listens,
	// and Room how many may; else Waiting are the bytes that nobody has read yet,
	// and Room those that the peer hasn't acknowledged.
	Waiting, Room int
	// Received and Sent are how long ago the last data came and went.
	Received, Sent time.Duration
}

// Process is what is known of one from outside.
type Process struct {
	State       string // "running", "stopped", …: of proc_pid_stat(5)
	Descriptors int    // open ones
	Limit       int    // how many may be; 0: no limit
	Inodes      map[uint64]bool
}

// Full is the share of its descriptors that a process has used, in percent.
func (p *Process) Full() int {
	if p.Limit == 0 {
		return 0
	}
	return p.Descriptors * 100 / p.Limit
}
