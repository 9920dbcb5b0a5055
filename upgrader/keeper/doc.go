// Package keeper keeps a service alive: it holds the listening sockets, starts
// generations of a program, replaces them on request without closing a port,
// and starts the last good one again after any death. Its own PID never changes.
//
// The program can be any: sockets reach it as systemd would pass them
// (LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID), and it can say READY=1 as to systemd
// (NOTIFY_SOCKET), or store descriptors (FDSTORE=1), but needn't. Upward the
// keeper is an ordinary systemd service of its own: it takes LISTEN_FDS, stores
// its sockets, and says READY, RELOADING, STATUS, STOPPING and WATCHDOG.
//
// # What a worker finds
//
// Each worker leads a session of its own. Its standard input is /dev/null, its
// standard output is the keeper's, and its standard error is passed on by the
// keeper, which holds the last lines for reports. Beside the above it has
//
//	TABLECLOTH_SERVICE     the service's name
//	TABLECLOTH_GENERATION  the number of its generation, from 1
//	TABLECLOTH_WORKER      its index, from 0
//	TABLECLOTH_KEEPER      where to reach the keeper, for this library
//	TABLECLOTH_PROCESS     marks it and its descendants, so that none escapes
//
// # What decides
//
// All decisions about a service are made by one pure function, next, whose table
// is testdata/next.txt; one goroutine, the actor, calls it and does what it says.
// An upgrade resolves the program's path, arguments and environment anew, and
// counts only once all its workers are ready; a restart after a death runs the
// binary, pinned by a descriptor, that was ready last. Of a script nothing can be
// pinned: a restart runs what lies there then, and status says so.
//
// # If the keeper itself is killed
//
// Workers get the stop signal from the kernel, and drain. What they write
// meanwhile stays in their pipe, which has themselves as a second reader: no
// write fails. The next keeper waits for those that still have a socket that it
// wants, passes on what they write, and kills them after 30 s. Where a service
// manager stores the sockets, nobody waits for anything.
package keeper
