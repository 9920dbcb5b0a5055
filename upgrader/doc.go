// Package upgrader is one generation of a service that replaces itself: it
// inherits the listening sockets of the generation before, says that it is
// ready, and is replaced by the next one without a connection being refused.
//
//	u, err := upgrader.New(upgrader.Options{PIDFile: "/run/app/app.pid"})
//	ln, err := u.Listen("tcp", ":8080")
//	go srv.Serve(ln)
//	err = u.Ready()
//	<-u.Exit()
//	srv.Shutdown(ctx)
//	u.Close()
//
// SIGHUP, a request on the control socket (package control) and Upgrade start
// the program anew, with this process's arguments, from wherever its path leads
// now. Crash does so when the process has caught something that it should not
// go on after. Package server does all of the above for HTTP and other servers,
// and moves their live connections to the new process; whoever serves by
// themselves, as in the lines above, keeps the port, but not the connections.
//
// # How a generation follows another
//
// The new process takes over the sockets, opens what else it needs and calls
// Ready. The old one then stops accepting, names the new process in the PID
// file and to systemd, and says go: this is the commit. Before it only the old
// process accepts connections, after it only the new one, which Listen's
// listeners see to; a new process that fails before it changes nothing. The old
// one drains for at most Options.KillTimeout, and is killed by its successor if
// it doesn't end. If the successor dies first, the old one serves again.
//
// One upgrade is under way at a time. Requests that come meanwhile share one
// further upgrade, and those that come while an old generation drains wait for
// its end, in the new one.
//
// # Who starts the process
//
// Alone, a process starts its successor itself, so the PID of the service
// changes: fine without a supervisor, and under systemd (Type=notify with
// NotifyAccess=all, Type=notify-reload, or PIDFile=), which is told. As PID 1 or
// under a supervisor that waits for one PID, Upgrade returns ErrSupervised:
// start the program with the keeper (tablecloth run, or package keeper). A
// process of a keeper finds that out by itself, and asks the keeper for what it
// would have done alone.
//
// Under systemd with FileDescriptorStoreMax= the sockets are held there as well,
// so that the port outlives a sudden death of the only process.
//
// # Limits
//
// The state travels to one successor over a private socket, whose queue holds
// some thousand descriptors. UDP sockets are shared: a datagram goes to the
// generation that reads it. macOS has upgrades, but neither abstract sockets nor
// the other things that only Linux has; on Windows services run, and Upgrade
// returns ErrNotSupported.
package upgrader
