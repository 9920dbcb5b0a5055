// Package keeper keeps a service alive: it holds the listening sockets, starts
// generations of a program, replaces them on request without closing a port,
// and starts the last good one again after any death. Its own PID never changes.
//
// The program can be any: sockets reach it as systemd would pass them
// (LISTEN_FDS), and it can say READY=1 as to systemd (NOTIFY_SOCKET), but needn't.
package keeper
