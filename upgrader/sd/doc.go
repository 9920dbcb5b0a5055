// Package sd speaks systemd's protocols between a service and its manager, from
// both ends: socket activation (sd_listen_fds(3)), notification (sd_notify(3))
// with its descriptor store and barriers, and the watchdog's environment
// (sd_watchdog_enabled(3)).
//
// A service takes its Environment once, at the start, which also keeps it from
// leaking into the programs that the service runs:
//
//	env := sd.Take()
//	sockets, err := env.Sockets()
//	notifier, err := env.Notifier()
//	…
//	err = notifier.Ready()
//
// A manager binds a Receiver, passes its address as NOTIFY_SOCKET, and sockets
// with the variables that ListenEnv makes.
//
// Nothing here logs, and nothing needs systemd to be there: without a manager
// the Notifier is nil, and all its methods do nothing.
package sd
