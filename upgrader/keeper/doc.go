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
// and, unless Service.Foreign is Off, what programs find that were made for
// Server::Starter or einhorn:
//
//	SERVER_STARTER_PORT        HOST:PORT=FD, PORT=FD or PATH=FD of each stream socket, by ;
//	SERVER_STARTER_GENERATION  the same as TABLECLOTH_GENERATION
//	EINHORN_FD_COUNT           how many sockets there are
//	EINHORN_FD_0 …             their descriptors, with EINHORN_FD_FAMILY_0 …
//	EINHORN_MASTER_PID         the keeper
//	EINHORN_SOCK_PATH          where an ack makes it ready: then SIGUSR2, not SIGTERM, tells
//	                           it to end, unless Service.StopSignal says otherwise
//
// # Several workers
//
// All workers of a service have the same sockets. An upgrade starts as many new
// ones, and counts when all are ready; with Service.Rolling it replaces one after
// the other. A worker that dies is replaced at once, and the others don't notice.
// Connections that move go to the worker of the same index; those of a worker
// that has no successor any more, and what was rescued of dead ones, to all. Where
// the program opens sockets by itself its first worker starts alone, and the
// others are given what that one has pushed (FDSTORE=1).
//
// # Several services
//
// Config.Reread makes the configuration one that can change. What it says now is
// compared with what runs, all that is new is bound, then services are started
// and replaced one after the other, in the order of the configuration, up to the
// first that fails; those that are to go, go last. A socket that another service
// wants now, or the same one under another name, is passed on, not bound anew.
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
